#include <fmt/format.h>

#include "store/places.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// That no part of the password of four characters or more is in a message.
void check_hides(const std::string& message, const std::string& password) {
  CAPTURE(message);
  CHECK(message.size() > 20);
  for (std::size_t at = 0; at + 4 <= password.size(); ++at) CHECK_FALSE(contains(message, password.substr(at, 4)));
}

/// The message of whatever a URL leads to: an argument that is refused, or a store that does not work.
std::string message_of_url(const std::string& url) {
  try {
    static_cast<void>(sql_ring_store(url, {.timeout = std::chrono::milliseconds{500}})->load());
  } catch (const Error& error) {
    return error.what();
  }
  FAIL("this URL works");
  return {};
}

const std::string kPassword = PostgresServer::kPassword;

std::string in_uri(const std::string& text) {
  std::string encoded;
  for (const char c : text) {
    constexpr std::string_view kReserved = ":/@";
    encoded += kReserved.find(c) == std::string_view::npos ? std::string{c} : fmt::format("%{:02X}", c);
  }
  return encoded;
}

/// The ways to say who connects to the shared server, and with what.
const std::vector<std::string> kForms = {"list", "URI", "ODBC"};

std::string url_with(const std::string& form, const std::string& database, const std::string& password) {
  const auto folder = PostgresServer::shared().socket().parent_path().string();
  if (form == "list") {
    return "postgresql:host=" + folder + " user=keeper dbname=" + database + " password='" + password + "'";
  }
  if (form == "URI") return "postgresql://keeper:" + in_uri(password) + "@/" + database + "?host=" + in_uri(folder);
  return "odbc:Driver={PostgreSQL Unicode};Servername=" + folder + ";Database=" + database + ";Uid=keeper;Pwd={" +
         password + "}";
}

}  // namespace

TEST_CASE("what is no URL of a store is refused at once, and not repeated") {
  const auto url = GENERATE(as<std::string>{}, "", "hidden", "hidden:", ":hidden", "mysql:hidden", "SQLITE:hidden",
                            "sqlite3:hidden", "sqlite:", "sqlite:hid\"den", "postgresql:", "postgresql://hid%zzden@h/d",
                            "postgresql:host=x password=my hidden", "postgresql:hidden", "postgresql:password='hidden",
                            "postgresql:hidden=1", "postgres://hidden@h/d", "odbc:", "odbc");
  CAPTURE(url);
  check_hides(message_of<InvalidArgumentError>([&] { return sql_ring_store(url); }), "hidden");
}

TEST_CASE("what libpq does not understand is refused with a hint") {
  const auto url = GENERATE("postgresql:hostname=x", "postgresql://u:50%@h/d");
  const auto message = message_of<InvalidArgumentError>([&] { return sql_ring_store(url); });
  CHECK_NAMES(message, "check the keywords");
  CHECK_NAMES(message, "%3A %2F %40");
}

TEST_CASE("messages name the ring if it has a name, and say what the database said alone") {
  const auto kind = GENERATE(from_range(kDatabases));
  CAPTURE(kind);
  const Place place{kind};
  fill(*place.store(), 1);
  fill(*place.store({.ring = "one"}), 1);
  place.run("drop table hsmseal_usage");
  const auto message_for = [&](const SqlOptions& options) {
    const auto store = place.store(options);
    return message_of<StoreError>([&] { return store->reserve_usage({}, 1); });
  };
  const auto named = message_for({.ring = "one"}), unnamed = message_for({});
  CHECK_NAMES(named, ", ring 'one': cannot count wraps: ");
  CHECK(unnamed.find("ring '") == std::string::npos);
  CHECK_NAMES(unnamed, "hsmseal_usage");
  if (kind == "postgresql") CHECK_NAMES(unnamed, "PostgreSQL: cannot count wraps: ERROR: ");
}

TEST_CASE("SQLite in memory is refused with a hint") {
  CHECK_NAMES(message_of<InvalidArgumentError>([] { return sql_ring_store("sqlite::memory:"); }),
              "memory_ring_store()");
}

TEST_CASE("options out of their bounds are refused") {
  const std::string url = "sqlite:/nowhere/ring.db";
  for (const std::string& name : {std::string{}, std::string(65, 'a'), std::string{"a b"}, std::string{"a'b"},
                                  std::string{"\xc3\xbc"}, std::string{"a\0b", 3}, std::string{"a/b"}}) {
    CHECK_THROWS_AS(sql_ring_store(url, {.ring = name}), InvalidArgumentError);
  }
  for (const auto timeout : {std::chrono::milliseconds{-1}, std::chrono::milliseconds{0}, std::chrono::milliseconds{99},
                             std::chrono::milliseconds{std::chrono::hours{2}}}) {
    CHECK_THROWS_AS(sql_ring_store(url, {.timeout = timeout}), InvalidArgumentError);
  }
}

TEST_CASE("a password works in every kind of URL") {
  const auto form = GENERATE(from_range(kForms));
  CAPTURE(form);
  const auto store = sql_ring_store(url_with(form, PostgresServer::shared().new_database(), kPassword));
  CHECK(store->load() == std::nullopt);
  fill(*store, 1);
}

TEST_CASE("a wrong password is said to be wrong, and not repeated") {
  const auto form = GENERATE(from_range(kForms));
  CAPTURE(form);
  const std::string wrong = "Wrong" + kPassword;
  const auto message = message_of_url(url_with(form, "postgres", wrong));
  CHECK_NAMES(message, "refused the user or the password");
  check_hides(message, wrong);
}

TEST_CASE("a password in the wrong place is not repeated either") {
  const auto folder = PostgresServer::shared().socket().parent_path().string();
  const std::string secret = "Se.cr3t-Qz9!";
  const auto url = GENERATE_COPY(
      as<std::string>{}, "postgresql:host=/nowhere password=my " + secret, "postgresql:host=" + secret + " password=x",
      "postgresql:host=" + folder + " user=postgres dbname=" + secret, "postgresql:host=" + folder + " user=" + secret,
      "postgresql:host=" + folder + " port=" + secret, "postgresql:host=" + folder + " sslmode=" + secret,
      "postgresql://postgres:a@" + secret + "@/postgres", "postgresql://postgres:a/" + secret + "@h/postgres",
      "postgresql://postgres:p:" + secret + "@" + folder + "/postgres", "odbc:" + secret,
      "odbc:Driver={PostgreSQL Unicode;Pwd=" + secret, "odbc:Driver={" + secret + "}", "odbc:DSN=" + secret,
      "odbc:Driver={PostgreSQL Unicode};Servername=" + folder + ";Database=" + secret + ";Uid=postgres",
      "odbc:Driver={PostgreSQL Unicode};Servername=" + folder + ";Uid=" + secret,
      "odbc:Driver={PostgreSQL Unicode};Servername=/nowhere/" + secret + ";Database=d;Uid=postgres;Pwd=" + secret,
      "odbc:Driver={FreeTDS};Server=127.0.0.1;Port=1;Uid=sa;Pwd=" + secret,
      "odbc:Driver={SQLite3};Database=/nowhere/" + secret);
  CAPTURE(url);
  check_hides(message_of_url(url), secret);
}

TEST_CASE("a failed statement is told with the database's reason, but not one that holds the password") {
  const auto form = GENERATE(from_range(kForms));
  CAPTURE(form);
  const auto& server = PostgresServer::shared();
  const auto name = server.new_database();
  const auto store = sql_ring_store(url_with(form, name, kPassword));
  fill(*store, 1);
  server.run(name,
             "create or replace function refuse() returns trigger language plpgsql as 'begin raise exception ''%'', "
             "new.body; end'");
  server.run(
      name, "create or replace trigger refuse before insert on hsmseal_history for each row execute function refuse()");
  CHECK_NAMES(message_of<StoreError>([&] { return store->compare_and_swap(record(1).head(), record(2, "a reason")); }),
              "a reason");
  check_hides(message_of<StoreError>(
                  [&] { return store->compare_and_swap(record(1).head(), record(2, "it is " + kPassword)); }),
              kPassword);
}

TEST_CASE("databases that cannot be reached are told by their reason") {
  const auto folder = PostgresServer::shared().socket().parent_path().string();
  CHECK_NAMES(message_of_url("postgresql:host=/nowhere"), "nothing listens there");
  CHECK_NAMES(message_of_url("postgresql:host=127.0.0.1 port=1"), "nothing listens there");
  CHECK_NAMES(message_of_url("postgresql:host=" + folder + " user=postgres dbname=none"), "no such database");
  CHECK_NAMES(message_of_url("postgresql:host=" + folder + " user=nobody_here dbname=postgres"), "no such user");
  CHECK_NAMES(message_of_url("odbc:Driver={No Such}"), "not installed");
  CHECK_NAMES(message_of_url("odbc:DSN=none"), "neither a driver nor a data source");
}
