#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/places.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// The kinds of database, one after the other.
#define FOR_EACH_DATABASE()                           \
  const auto kind = GENERATE(from_range(kDatabases)); \
  CAPTURE(kind);                                      \
  const Place place { kind }

std::string load_error(RingStore& store) {
  return message_of<StoreError>([&] { return store.load(); });
}

/// Runs work in new processes, all at once, and returns how many of them failed.
int failures_of_processes(int count, const std::function<bool()>& work) {
  std::vector<pid_t> children;
  for (int i = 0; i < count; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      bool good = false;
      try {
        good = work();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  int failed = 0;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) ++failed;
  }
  return failed;
}

/// What is written to a file descriptor while this lives.
class Captured {
 public:
  explicit Captured(int descriptor) : descriptor_(descriptor), kept_(::dup(descriptor)) {
    const int file = ::open((folder_.path() / "written").c_str(), O_CREAT | O_RDWR, 0600);
    ::dup2(file, descriptor_);
    ::close(file);
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  ~Captured() {
    ::dup2(kept_, descriptor_);
    ::close(kept_);
  }
  [[nodiscard]] std::uintmax_t size() const { return std::filesystem::file_size(folder_.path() / "written"); }

 private:
  ScratchDirectory folder_;
  int descriptor_, kept_;
};

}  // namespace

TEST_CASE("rings with two names in one database do not see each other") {
  FOR_EACH_DATABASE();
  const auto one = place.store({.ring = "one"}), other = place.store({.ring = "One"});
  fill(*one, 3);
  CHECK(other->load() == std::nullopt);
  CHECK(other->history(9).empty());
  REQUIRE(other->compare_and_swap(std::nullopt, record(9, "other")));
  CHECK(one->reserve_usage({}, 5) == 5);
  CHECK(other->reserve_usage({}, 7) == 7);
  CHECK(one->load() == record(3));
  CHECK(one->history(9).size() == 3);
  CHECK(place.store({.ring = std::string(64, 'r')})->load() == std::nullopt);
  CHECK(place.store()->load() == std::nullopt);
}

TEST_CASE("tables of a newer hsmseal are refused, and those that are not whole") {
  FOR_EACH_DATABASE();
  fill(*place.store(), 1);
  place.run("update hsmseal_schema set version = 2");
  CHECK_NAMES(load_error(*place.store()), "newer hsmseal");
  place.run("delete from hsmseal_schema");
  CHECK_NAMES(load_error(*place.store()), "hsmseal_schema");
  place.run("insert into hsmseal_schema values (1)");
  CHECK(place.store()->load() == record(1));
  place.run("drop table hsmseal_history");
  CHECK_THROWS_AS(place.store()->history(1), StoreError);
  CHECK_THROWS_AS(place.store()->compare_and_swap(record(1).head(), record(2)), StoreError);
  CHECK(place.store()->load() == record(1));
}

TEST_CASE("rows that hsmseal would not have written are an error") {
  FOR_EACH_DATABASE();
  fill(*place.store(), 1);
  const std::string change = GENERATE("generation = -5", "generation = 0");
  CAPTURE(change);
  place.run("update hsmseal_ring set " + change);
  CHECK_NAMES(load_error(*place.store()), "restore the database");
}

TEST_CASE("a ring whose row is gone is missed, and its history is kept") {
  FOR_EACH_DATABASE();
  const auto store = place.store(), other = place.store({.ring = "other"});
  fill(*store, 3);
  place.run("create table kept as select * from hsmseal_ring");
  place.run("delete from hsmseal_ring");
  const auto check_missed = [](RingStore& at) {
    CHECK_NAMES(load_error(at), "restore the row");
    CHECK_NAMES(message_of<StoreError>([&] { return at.head(); }), "restore the row");
    for (const std::uint64_t first : {1U, 3U, 100U}) {
      CHECK_NAMES(message_of<StoreError>([&] { return at.compare_and_swap(std::nullopt, record(first, "new")); }),
                  "restore the row");
    }
    CHECK_FALSE(at.compare_and_swap(record(3).head(), record(4)));
    CHECK(at.history(9) == std::vector{record(3), record(2), record(1)});
    CHECK(at.history(1) == std::vector{record(3)});
  };
  check_missed(*store);
  check_missed(*place.store());
  // The other rings of the database go on.
  CHECK(other->load() == std::nullopt);
  fill(*other, 1);
  place.run("insert into hsmseal_ring select * from kept");
  CHECK(store->load() == record(3));
  CHECK(store->compare_and_swap(record(3).head(), record(4)));
  CHECK(store->history(9).size() == 4);
}

TEST_CASE("a mac that hsmseal would not have written is read as zeros, and replaced by nobody") {
  FOR_EACH_DATABASE();
  const auto store = place.store();
  fill(*store, 2);
  const std::string text = GENERATE("'xyz'", "''", "upper(mac)", "'0x' || substr(mac, 3)", "substr(mac, 3)");
  CAPTURE(text);
  place.run("update hsmseal_ring set mac = " + text);
  place.run("update hsmseal_history set mac = " + text);
  const auto damaged = [](std::uint64_t generation) {
    auto made = record(generation);
    made.mac = {};
    return made;
  };
  CHECK(store->load() == damaged(2));
  CHECK(store->head() == damaged(2).head());
  CHECK(store->history(9) == std::vector{damaged(2), damaged(1)});
  CHECK_FALSE(store->compare_and_swap(damaged(2).head(), record(3)));
  CHECK_FALSE(store->compare_and_swap(record(2).head(), record(3)));
}

TEST_CASE("many processes that start at once on an empty database all find their tables") {
  FOR_EACH_DATABASE();
  const int failed = failures_of_processes(8, [&] {
    const auto store = place.store();
    static_cast<void>(store->compare_and_swap(std::nullopt, record(1)));
    return store->load() == record(1);
  });
  CHECK(failed == 0);
  CHECK(place.value("select cast(version as varchar(9)) from hsmseal_schema") == "1");
}

TEST_CASE("the number of wraps does not overflow") {
  FOR_EACH_DATABASE();
  const auto store = place.store();
  constexpr std::uint64_t kMost = (std::uint64_t{1} << 63) - 1;
  CHECK(store->reserve_usage({}, kMost - 10) == kMost - 10);
  CHECK(store->reserve_usage({}, 10) == kMost);
  for (const std::uint64_t more : {std::uint64_t{1}, kMost, kMost + 1, ~std::uint64_t{0}}) {
    CHECK_THROWS_AS(store->reserve_usage({}, more), StoreError);
  }
  CHECK(store->reserve_usage({}, 0) == kMost);
}

TEST_CASE("a generation that does not fit and a body that is too long are refused") {
  FOR_EACH_DATABASE();
  const auto store = place.store();
  CHECK_THROWS_AS(store->compare_and_swap(std::nullopt, record(std::uint64_t{1} << 63)), StoreError);
  CHECK_THROWS_AS(store->compare_and_swap(std::nullopt, record(1, std::string((std::size_t{64} << 20) + 1, 'x'))),
                  StoreError);
  CHECK(store->load() == std::nullopt);
}

TEST_CASE("a database that may only be read is loaded") {
  const auto kind = GENERATE("postgresql", "odbc to postgresql");
  const Place place{kind};
  fill(*place.store(), 2);
  const auto& server = PostgresServer::shared();
  server.run("postgres", "alter database " + place.database() + " set default_transaction_read_only = on");
  const auto store = place.store();
  CHECK(store->load() == record(2));
  CHECK_NAMES(message_of<StoreError>([&] { return store->compare_and_swap(record(2).head(), record(3)); }),
              "read-only");
  const auto empty = server.new_database();
  server.run("postgres", "alter database " + empty + " set default_transaction_read_only = on");
  CHECK_NAMES(load_error(*sql_ring_store("postgresql:" + server.conninfo(empty))), "read-only");
}

TEST_CASE("a role needs no more rights than the header says") {
  const Place place{"postgresql"};
  fill(*place.store(), 2);
  static_cast<void>(place.store()->reserve_usage({}, 5));
  const auto store_of = [&](const std::string& rights) {
    const auto role = place.database() + "_" + rights.substr(0, rights.find(','));
    place.run("create role " + role + " login");
    place.run("grant " + rights + " on hsmseal_schema, hsmseal_ring, hsmseal_history, hsmseal_usage to " + role);
    const auto folder = PostgresServer::shared().socket().parent_path().string();
    return sql_ring_store("postgresql:host=" + folder + " dbname=" + place.database() + " user=" + role);
  };
  const auto reader = store_of("select");
  CHECK(reader->load() == record(2));
  CHECK(reader->head() == record(2).head());
  CHECK(reader->history(9).size() == 2);
  CHECK(reader->now() > Timestamp{});
  CHECK_NAMES(message_of<StoreError>([&] { return reader->compare_and_swap(record(2).head(), record(3)); }),
              "permission denied");
  CHECK_NAMES(message_of<StoreError>([&] { return reader->reserve_usage({}, 1); }), "permission denied");
  const auto writer = store_of("insert, select, update, delete");
  CHECK(writer->compare_and_swap(record(2).head(), record(3)));
  CHECK(writer->reserve_usage({}, 1) == 6);
  CHECK(reader->load() == record(3));
}

TEST_CASE("a standby is refused until it is none any more") {
  PostgresServer server;
  const auto name = server.new_database();
  const auto url = "postgresql:" + server.conninfo(name);
  const auto store = sql_ring_store(url);
  fill(*store, 1);
  server.stop();
  server.become_standby();
  server.start();
  REQUIRE(server.value(name, "select pg_is_in_recovery()::text") == "true");
  CHECK_NAMES(load_error(*store), "it is a standby");
  CHECK_NAMES(load_error(*sql_ring_store(url)), "it is a standby");
  CHECK(sql_ring_store(url + " target_session_attrs=any")->load() == record(1));
  server.run(name, "select pg_promote()");
  CHECK(store->load() == record(1));
  CHECK(store->compare_and_swap(record(1).head(), record(2)));
}

TEST_CASE("a database whose defaults are unlucky works all the same") {
  const auto kind = GENERATE("postgresql", "odbc to postgresql");
  const Place place{kind};
  const auto& server = PostgresServer::shared();
  for (const std::string setting :
       {"default_transaction_isolation = 'serializable'", "synchronous_commit = off",
        "standard_conforming_strings = off", "datestyle = 'German'", "timezone = 'Asia/Tokyo'"}) {
    server.run("postgres", "alter database " + place.database() + " set " + setting);
  }
  const auto one = place.store(), other = place.store();
  fill(*one, 1);
  CHECK(other->compare_and_swap(record(1).head(), record(2)));
  CHECK_FALSE(one->compare_and_swap(record(1).head(), record(2)));
  const auto difference = one->now() - std::chrono::system_clock::now();
  CHECK(std::chrono::abs(difference) < std::chrono::seconds{5});
}

TEST_CASE("a lock that is not released in time is an error, and nothing is stored") {
  const auto kind = GENERATE("postgresql", "odbc to postgresql");
  const Place place{kind};
  const auto store = place.store({.timeout = std::chrono::milliseconds{200}});
  fill(*store, 1);
  soci::session holder{soci::postgresql, PostgresServer::shared().conninfo(place.database())};
  holder << "begin";
  holder << "update hsmseal_ring set generation = generation";
  CHECK_NAMES(message_of<StoreError>([&] { return store->compare_and_swap(record(1).head(), record(2)); }), "timeout");
  holder << "rollback";
  CHECK(store->load() == record(1));
  CHECK(store->compare_and_swap(record(1).head(), record(2)));
}

TEST_CASE("nothing is printed, whatever the server has to say") {
  const auto kind = GENERATE("postgresql", "odbc to postgresql");
  const Place place{kind};
  const auto store = place.store();
  fill(*store, 1);
  place.run(
      "create function talk() returns trigger language plpgsql as "
      "'begin raise warning ''look here''; return new; end'");
  place.run("create trigger talk before update on hsmseal_ring for each row execute function talk()");
  const Captured output{STDOUT_FILENO}, errors{STDERR_FILENO};
  const bool stored = store->compare_and_swap(record(1).head(), record(2));
  const auto printed = output.size() + errors.size();
  CHECK(stored);
  CHECK(printed == 0);
}
