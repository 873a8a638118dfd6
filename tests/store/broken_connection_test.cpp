#include <atomic>

#include "store/places.hpp"
#include "support/postgres_proxy.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using Break = PostgresProxy::Break;

namespace {

constexpr int kProxyPort = 6000;
const std::vector<std::string> kDrivers = {"postgresql", "odbc"};

/// A new database on a server, its URL, and what was really committed in it.
struct Database {
  Database(const PostgresServer& on, const std::string& driver, int port = 5432)
      : server(on),
        name(on.new_database()),
        url(driver == "odbc" ? "odbc:" + on.odbc_connection_string(name, port)
                             : "postgresql:" + on.conninfo(name, port)) {}

  [[nodiscard]] std::shared_ptr<RingStore> store(std::chrono::milliseconds timeout = std::chrono::seconds{10},
                                                 int ring = 0) const {
    return sql_ring_store(url, {.ring = std::to_string(ring), .timeout = timeout});
  }
  /// Keeps every body that is committed, since the history is short.
  void keep_bodies() const {
    server.run(name, "create table bodies (body text)");
    server.run(name,
               "create function keep() returns trigger language plpgsql as "
               "'begin insert into bodies values (new.body); return new; end'");
    server.run(name, "create trigger keep after insert on hsmseal_history for each row execute function keep()");
  }
  [[nodiscard]] int times_stored(const std::string& body) const {
    return std::stoi(server.value(name, "select count(*)::text from bodies where body = '" + body + "'"));
  }

  const PostgresServer& server;
  std::string name, url;
};

enum class Outcome { Stored, Lost, Failed, InDoubt };

Outcome outcome_of(RingStore& store, const std::optional<RingHead>& expected, const RingRecord& next,
                   std::string* message = nullptr) {
  try {
    return store.compare_and_swap(expected, next) ? Outcome::Stored : Outcome::Lost;
  } catch (const StoreInDoubtError& error) {
    if (message != nullptr) *message = error.what();
    return Outcome::InDoubt;
  } catch (const StoreError& error) {
    if (message != nullptr) *message = error.what();
    return Outcome::Failed;
  }
}

}  // namespace

TEST_CASE("wherever the connection breaks during a swap, its outcome is told as it is") {
  const auto driver = GENERATE(from_range(kDrivers));
  const auto how = GENERATE(Break::BeforeRequest, Break::BeforeAnswer, Break::RequestLate);
  const bool first = GENERATE(true, false);
  CAPTURE(driver, how, first);
  const auto& server = PostgresServer::shared();
  const int port = kProxyPort + static_cast<int>(::getpid() % 20'000);
  PostgresProxy proxy{server.socket(port), server.socket()};
  const Database database{server, driver, port};
  static_cast<void>(database.store()->load());
  database.keep_bodies();
  int outcomes[4] = {};
  for (int point = 0; point < 100; ++point) {
    CAPTURE(point);
    const auto store = database.store(std::chrono::seconds{10}, point);
    REQUIRE(store->load() == std::nullopt);
    if (!first) fill(*store, 1);
    const auto expected = first ? std::nullopt : std::optional{record(1).head()};
    const auto next = record(2, "record " + std::to_string(point));
    proxy.break_after(point, how);
    const auto outcome = outcome_of(*store, expected, next);
    ++outcomes[static_cast<int>(outcome)];
    const int stored = database.times_stored(next.body);
    CHECK(stored == (outcome == Outcome::Stored ? 1 : 0));
    // It goes on with the same store.
    CHECK((store->load() == next) == (stored == 1));
    if (stored == 0) CHECK(store->compare_and_swap(expected, next));
    if (!proxy.has_broken()) break;
    REQUIRE(point < 90);
  }
  // Most points are before the commit, and tried again; the break around the commit is found out about.
  CHECK(outcomes[static_cast<int>(Outcome::Stored)] > 3);
  CHECK(outcomes[static_cast<int>(Outcome::Lost)] == 0);
  CHECK(outcomes[static_cast<int>(Outcome::InDoubt)] == 0);
  // The ODBC driver says yes to the commit of a connection that died just before it; this fails as well.
  const int failed = (how == Break::BeforeRequest ? 1 : 0) + (driver == "odbc" ? 1 : 0);
  CHECK(outcomes[static_cast<int>(Outcome::Failed)] == failed);
}

TEST_CASE("wherever the connection breaks while wraps are counted, no more are promised than were counted") {
  const auto driver = GENERATE(from_range(kDrivers));
  const auto how = GENERATE(Break::BeforeRequest, Break::BeforeAnswer, Break::RequestLate);
  CAPTURE(driver, how);
  const auto& server = PostgresServer::shared();
  const int port = kProxyPort + static_cast<int>(::getpid() % 20'000);
  PostgresProxy proxy{server.socket(port), server.socket()};
  const Database database{server, driver, port};
  const auto counted = [&](int ring) {
    return std::stoull(server.value(
        database.name,
        "select coalesce(sum(total), 0)::text from hsmseal_usage where ring = '" + std::to_string(ring) + "'"));
  };
  int broken = 0;
  for (int point = 0;; ++point) {
    CAPTURE(point);
    REQUIRE(point < 90);
    const auto store = database.store(std::chrono::seconds{10}, point);
    const bool first = point % 2 == 0;
    std::uint64_t told = first ? 0 : store->reserve_usage({}, 100);
    static_cast<void>(store->load());
    proxy.break_after(point / 2, how);
    try {
      told = store->reserve_usage({}, 10);  // it is tried again
      CHECK(told >= (first ? 10 : 110));
    } catch (const StoreError&) {
      // The first row, which comes late, and the one that is tried again may meet.
      CHECK((first && how == Break::RequestLate));
      told = counted(point);
    }
    const bool has_broken = proxy.has_broken();
    CHECK(counted(point) >= told);
    CHECK(store->reserve_usage({}, 1) == told + 1);
    if (!first && !has_broken) break;
    broken += has_broken ? 1 : 0;
  }
  CHECK(broken > 6);
}

TEST_CASE("a commit of which nothing can be found out is in doubt, and reading settles it") {
  const auto driver = GENERATE(from_range(kDrivers));
  const auto how = GENERATE(Break::BeforeRequest, Break::BeforeAnswer);
  CAPTURE(driver, how);
  const auto& server = PostgresServer::shared();
  const int port = kProxyPort + static_cast<int>(::getpid() % 20'000);
  PostgresProxy proxy{server.socket(port), server.socket()};
  const Database database{server, driver, port};
  bool found_stored = false, found_not_stored = false;
  for (int point = 0; point < 100; ++point) {
    CAPTURE(point);
    const auto store = database.store(std::chrono::milliseconds{300}, point);
    fill(*store, 1);
    proxy.refuse_when_broken(true);
    proxy.break_after(point, how);
    std::string message;
    const auto outcome = outcome_of(*store, record(1).head(), record(2), &message);
    proxy.refuse_when_broken(false);
    const auto newest = store->load();
    if (!proxy.has_broken()) {
      CHECK(outcome == Outcome::Stored);
      break;
    }
    if (outcome == Outcome::InDoubt) {
      CHECK_NAMES(message, "could not be found out");
      const bool stored = newest == record(2);
      CHECK((stored || newest == record(1)));
      (stored ? found_stored : found_not_stored) = true;
    } else if (outcome == Outcome::Failed) {
      CHECK(newest == record(1));
    } else {
      CHECK(outcome == Outcome::Stored);
      CHECK(newest == record(2));
    }
    REQUIRE(point < 90);
  }
  CHECK(found_stored);
  if (how == Break::BeforeRequest) CHECK(found_not_stored);
}

TEST_CASE("a record that others built on before its commit was found out about was stored") {
  const auto& server = PostgresServer::shared();
  const int port = kProxyPort + static_cast<int>(::getpid() % 20'000);
  PostgresProxy proxy{server.socket(port), server.socket()};
  const auto built_upon = GENERATE(std::uint64_t{1}, std::uint64_t{5}, std::uint64_t{40});
  const Database database{server, "postgresql", port};
  const auto store = database.store(std::chrono::milliseconds{2000}, 7);
  fill(*store, 1);
  REQUIRE(store->compare_and_swap(record(1).head(), record(2)));
  proxy.break_after(1000, Break::BeforeRequest);  // counts what a swap asks; the last is a look after the commit
  REQUIRE(store->compare_and_swap(record(2).head(), record(3)));
  proxy.refuse_when_broken(true);
  proxy.break_after(proxy.requests() - 1, Break::BeforeAnswer);
  std::thread others{[&] {
    while (!proxy.has_broken()) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    const auto direct = sql_ring_store("postgresql:" + server.conninfo(database.name), {.ring = "7"});
    CHECK(direct->head() == record(4).head());
    for (std::uint64_t at = 4; at < 4 + built_upon; ++at) {
      if (!direct->compare_and_swap(record(at).head(), record(at + 1, "by another"))) break;
    }
    proxy.refuse_when_broken(false);
  }};
  const auto outcome = outcome_of(*store, record(3).head(), record(4));
  others.join();
  CHECK(outcome == (built_upon > kHistoryKept ? Outcome::InDoubt : Outcome::Stored));
}

TEST_CASE("a connection that the server ended is made anew by the next call") {
  const auto kind = GENERATE("postgresql", "odbc to postgresql");
  const Place place{kind};
  const auto store = place.store();
  fill(*store, 1);
  const auto end_connections = [&] {
    PostgresServer::shared().run("postgres",
                                 "select pg_terminate_backend(pid, 5000) from pg_stat_activity where "
                                 "datname = '" +
                                     place.database() + "'");
  };
  end_connections();
  CHECK(store->load() == record(1));
  end_connections();
  CHECK(store->head() == record(1).head());
  end_connections();
  CHECK(store->history(5).size() == 1);
  end_connections();
  CHECK(store->reserve_usage({}, 3) == 3);
  end_connections();
  CHECK(store->now() > Timestamp{});
  end_connections();
  CHECK(store->compare_and_swap(record(1).head(), record(2)));
}

TEST_CASE("while the server is down calls fail, and go on when it is up again") {
  const auto driver = GENERATE(from_range(kDrivers));
  CAPTURE(driver);
  PostgresServer server;
  const Database database{server, driver};
  const auto store = database.store();
  fill(*store, 3);
  server.restart();
  CHECK(store->load() == record(3));
  server.stop();
  const auto late = database.store();  // a host that starts now
  for (const auto& one : {store, late}) {
    CHECK_NAMES(message_of<StoreError>([&] { return one->load(); }), "cannot connect: nothing listens there");
    CHECK_THROWS_AS(one->head(), StoreError);
    CHECK_THROWS_AS(one->history(1), StoreError);
    CHECK_THROWS_AS(one->now(), StoreError);
    CHECK_THROWS_AS(one->reserve_usage({}, 1), StoreError);
    CHECK(outcome_of(*one, record(3).head(), record(4)) == Outcome::Failed);
  }
  server.start();
  CHECK(late->compare_and_swap(record(3).head(), record(4)));
  CHECK(store->load() == record(4));
}

TEST_CASE("a server that crashes in the middle of swaps loses none and invents none") {
  const auto driver = GENERATE(from_range(kDrivers));
  CAPTURE(driver);
  PostgresServer server;
  const Database database{server, driver};
  fill(*database.store(), 1);
  database.keep_bodies();
  std::atomic<bool> ending = false;
  std::atomic<int> stored_by_all = 0;
  std::vector<std::vector<std::pair<std::string, Outcome>>> told(3);
  std::thread crashes{[&] {
    for (int i = 0; i < 4; ++i) {
      for (const int before = stored_by_all; stored_by_all < before + 10;) {
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
      }
      server.restart();
    }
    ending = true;
  }};
  const auto errors = at_once(told.size(), [&](std::size_t host) {
    const auto store = database.store();
    for (int i = 0; !ending; ++i) {
      std::optional<RingHead> newest;
      try {
        newest = store->head();
      } catch (const StoreError&) {
        continue;
      }
      const auto body = std::to_string(host) + "." + std::to_string(i);
      told[host].emplace_back(body, outcome_of(*store, newest, record(newest->generation + 1, body)));
      if (told[host].back().second == Outcome::Stored) ++stored_by_all;
    }
  });
  crashes.join();
  CHECK(errors.empty());
  const std::string bodies = server.value(database.name, "select string_agg(body, ' ') || ' ' from bodies");
  int count[4] = {};
  for (const auto& host : told) {
    for (const auto& [body, outcome] : host) {
      CAPTURE(body, outcome);
      ++count[static_cast<int>(outcome)];
      const bool stored = bodies.find(" " + body + " ") != std::string::npos || bodies.starts_with(body + " ");
      if (outcome != Outcome::InDoubt) CHECK(stored == (outcome == Outcome::Stored));
    }
  }
  CHECK(count[static_cast<int>(Outcome::Stored)] >= 40);
  const auto newest = database.store()->head();
  CHECK(database.store()->compare_and_swap(newest, record(newest->generation + 1)));
}
