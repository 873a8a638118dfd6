#include <atomic>
#include <cstdlib>
#include <set>
#include <thread>

#include "store/places.hpp"
#include "support/child.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// What the database has on its clients' sessions, but for the one that asks: by process, and when it was used last.
std::set<std::string> server_sessions(const Place& place, const std::string& what = "pid") {
  const auto text = PostgresServer::shared().value(
      "postgres", "select coalesce(string_agg(" + what + "::text, ' '), '') from pg_stat_activity where datname = '" +
                      place.database() + "'");
  std::set<std::string> found;
  std::string word;
  for (const char c : text + ' ') {
    if (c != ' ') {
      word += c;
    } else if (!word.empty()) {
      found.insert(std::move(word));
      word.clear();
    }
  }
  return found;
}

/// The numbers under which this process has an SQLite file open.
std::set<std::string> descriptors(const Place& place) {
  std::set<std::string> found;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    if (std::filesystem::read_symlink(entry, gone) == place.file()) found.insert(entry.path().filename());
  }
  return found;
}

/// The same session with the server, or the same open file.
std::set<std::string> connections(const Place& place) {
  return place.is_postgresql() ? server_sessions(place) : descriptors(place);
}

/// All connections, once those that a driver made to try are gone.
std::set<std::string> one_connection(const Place& place) {
  auto found = connections(place);
  for (; found.size() > 1; found = connections(place)) std::this_thread::yield();
  REQUIRE(found.size() == 1);
  return found;
}

/// Why a store does not load; Catch's macros are neither for threads nor for children.
std::string refusal_of(RingStore& store) {
  try {
    static_cast<void>(store.load());
    return {};
  } catch (const StoreError& error) {
    return error.what();
  }
}

/// Whether there are some more than those of the parents.
bool are_more(const std::set<std::string>& now, const std::set<std::string>& parents) {
  return now.size() > parents.size() && std::ranges::includes(now, parents);
}

/// A child of this process that ends as a program does: static objects are destroyed, among them the store.
template <typename Work>
int exit_status_at_end_of(std::shared_ptr<RingStore>& store, const Work& work) {
  static std::shared_ptr<RingStore> kept;
  return exit_status_of([&] {
    const bool done = work();
    kept = std::move(store);
    std::exit(done ? 0 : 1);
    return false;
  });
}

}  // namespace

TEST_CASE("a forked child has a connection of its own, and leaves its parent's alone") {
  const auto kind = GENERATE(from_range(kDatabases));
  CAPTURE(kind);
  const Place place{kind};
  auto store = place.store();
  fill(*store, 2);
  const auto before = one_connection(place);
  CHECK(exit_status_at_end_of(store, [&] {
          if (store->load() != record(2)) return false;
          return are_more(connections(place), before) && store->compare_and_swap(record(2).head(), record(3));
        }) == 0);
  REQUIRE(store != nullptr);
  const auto used = place.is_postgresql() ? server_sessions(place, "replace(state_change::text, ' ', '_')") : before;
  CHECK(store->load() == record(3));
  CHECK(store->compare_and_swap(record(3).head(), record(4)));
  // The server may not be done with the child's session yet; the parent's is there, and was used again.
  CHECK(std::ranges::includes(connections(place), before));
  if (place.is_postgresql()) {
    CHECK(server_sessions(place, "replace(state_change::text, ' ', '_')") != used);
  } else {
    CHECK(connections(place) == before);
  }
}

TEST_CASE("a forked child that does not use the store leaves its parent's connection alone") {
  const auto kind = GENERATE(from_range(kDatabases));
  CAPTURE(kind);
  const Place place{kind};
  auto store = place.store();
  fill(*store, 1);
  const auto before = one_connection(place);
  CHECK(exit_status_at_end_of(store, [] { return true; }) == 0);
  CHECK(exit_status_of([&] {
          store.reset();
          return connections(place) == before;
        }) == 0);
  CHECK(store->load() == record(1));
  CHECK(connections(place) == before);
}

TEST_CASE("a child's child has a connection of its own") {
  const auto kind = GENERATE(from_range(kDatabases));
  CAPTURE(kind);
  const Place place{kind};
  auto store = place.store();
  fill(*store, 1);
  const auto before = one_connection(place);
  CHECK(exit_status_at_end_of(store, [&] {
          if (store->load() != record(1)) return false;
          const auto childs = connections(place);
          const int below = exit_status_at_end_of(
              store, [&] { return store->load() == record(1) && are_more(connections(place), childs); });
          return below == 0 && store->load() == record(1) && std::ranges::includes(connections(place), childs);
        }) == 0);
  CHECK(store->load() == record(1));
  CHECK(std::ranges::includes(connections(place), before));
}

TEST_CASE("a forked child does not make an SQLite file that its parent had used and lost") {
  const Place place{"sqlite"};
  const auto store = place.store();
  fill(*store, 1);
  std::filesystem::remove(place.file());
  CHECK(exit_status_of([&] { return contains(refusal_of(*store), "is gone"); }) == 0);
  CHECK_FALSE(std::filesystem::exists(place.file()));
}

TEST_CASE("a child forked during a call to a server does not wait for that call") {
  const auto kind = GENERATE("postgresql", "odbc to postgresql");
  CAPTURE(kind);
  const Place place{kind};
  const auto store = place.store();
  fill(*store, 1);
  soci::session blocker{soci::postgresql, PostgresServer::shared().conninfo(place.database())};
  blocker.begin();
  blocker << "lock table hsmseal_ring in access exclusive mode";
  std::atomic<bool> loaded = false;
  std::thread caller{[&] { loaded = store->load() == record(1); }};
  while (!server_sessions(place, "wait_event_type").contains("Lock")) std::this_thread::yield();
  const int status = exit_status_of([&] {
    return place.over_odbc() ? contains(refusal_of(*store), "forked while another thread") : store->now() > Timestamp{};
  });
  blocker.rollback();
  caller.join();
  CHECK(status == 0);
  CHECK(loaded);
}

TEST_CASE("a child forked during a call to SQLite is told so") {
  const Place place{"sqlite"};
  const auto store = place.store({.timeout = std::chrono::milliseconds{100}});
  fill(*store, 1);
  soci::session blocker{soci::sqlite3, "dbname=\"" + place.file().string() + "\""};
  blocker << "begin exclusive";
  std::atomic<bool> done = false;
  // Its calls wait for the lock, one after the other, so that few forks find none of them.
  std::thread caller{[&] {
    while (!done) static_cast<void>(refusal_of(*store));
  }};
  int status = -1;
  for (int tries = 0; tries < 100 && status != 0; ++tries) {
    status = exit_status_of([&] { return contains(refusal_of(*store), "forked while another thread"); });
  }
  done = true;
  caller.join();
  blocker << "rollback";
  CHECK(status == 0);
  CHECK(store->load() == record(1));
}
