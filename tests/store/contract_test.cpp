#include <array>
#include <atomic>
#include <set>

#include "store/places.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// The kinds of store, one after the other.
#define FOR_EACH_STORE()                           \
  const auto kind = GENERATE(from_range(kStores)); \
  CAPTURE(kind);                                   \
  const Place place { kind }

KekId kek(int number) {
  KekId id;
  id.bytes[0] = static_cast<std::byte>(number);
  id.bytes[15] = std::byte{0xff};
  return id;
}

/// How many changes a test makes: the SQLite driver of ODBC does not say how long a text is, so that SOCI reads each into
/// 100 MiB.
int few(const std::string& kind) { return kind == "odbc to sqlite" ? 2 : 10; }

/// Adds `swaps` changes, each to what is there, and returns how often another was faster.
int add_changes(RingStore& store, int swaps, const std::string& who) {
  int lost = 0;
  for (int done = 0; done < swaps;) {
    const auto newest = store.load();
    if (store.compare_and_swap(newest->head(), record(newest->generation + 1, who + std::to_string(done)))) {
      ++done;
    } else {
      ++lost;
    }
  }
  return lost;
}

}  // namespace

TEST_CASE("a new store holds nothing") {
  FOR_EACH_STORE();
  const auto store = place.store();
  CHECK(store->load() == std::nullopt);
  CHECK(store->head() == std::nullopt);
  CHECK(store->history(100).empty());
  CHECK_FALSE(store->compare_and_swap(record(1).head(), record(2)));
  CHECK(store->load() == std::nullopt);
}

TEST_CASE("the first record may have any generation, the next ones follow") {
  FOR_EACH_STORE();
  const auto first = GENERATE(std::uint64_t{1}, std::uint64_t{1} << 33, (std::uint64_t{1} << 63) - 2);
  const auto store = place.store();
  REQUIRE(store->compare_and_swap(std::nullopt, record(first)));
  CHECK(store->load() == record(first));
  CHECK(store->head() == record(first).head());
  REQUIRE(store->compare_and_swap(record(first).head(), record(first + 1)));
  CHECK(store->load() == record(first + 1));
  CHECK(store->history(5) == std::vector{record(first + 1), record(first)});
}

TEST_CASE("a record that does not follow the one it replaces is refused") {
  FOR_EACH_STORE();
  const auto store = place.store();
  fill(*store, 2);
  CHECK_THROWS_AS(store->compare_and_swap(record(2).head(), record(2)), StoreError);
  CHECK_THROWS_AS(store->compare_and_swap(record(2).head(), record(4)), StoreError);
  CHECK_THROWS_AS(store->compare_and_swap(std::nullopt, record(0)), StoreError);
  CHECK(store->load() == record(2));
}

TEST_CASE("who comes second gets false, and nothing changes") {
  FOR_EACH_STORE();
  const auto one = place.store(), other = place.store();
  REQUIRE(one->compare_and_swap(std::nullopt, record(1)));
  CHECK_FALSE(other->compare_and_swap(std::nullopt, record(1, "another")));
  REQUIRE(other->compare_and_swap(record(1).head(), record(2)));
  CHECK_FALSE(one->compare_and_swap(record(1).head(), record(2, "another")));
  CHECK_FALSE(one->compare_and_swap(record(2).head(), record(3)) == false);
  CHECK_FALSE(other->compare_and_swap(std::nullopt, record(4, "another")));
  CHECK(one->load() == record(3));
  CHECK(other->history(9) == std::vector{record(3), record(2), record(1)});
}

TEST_CASE("a record of the same generation with another mac is another record") {
  FOR_EACH_STORE();
  const auto store = place.store();
  fill(*store, 2);
  const auto newest = store->head();
  REQUIRE(newest == record(2).head());
  for (const std::size_t at : {std::size_t{0}, std::size_t{31}}) {
    auto other = *newest;
    other.mac.at(at) ^= std::byte{1};
    CHECK_FALSE(store->compare_and_swap(other, record(3)));
  }
  CHECK_FALSE(store->compare_and_swap(RingHead{.generation = 2, .mac = {}}, record(3)));
  CHECK(store->load() == record(2));
  CHECK(store->history(9).size() == 2);
  CHECK(store->compare_and_swap(newest, record(3)));
}

TEST_CASE("of many threads that swap at once each change is made exactly once") {
  FOR_EACH_STORE();
  const auto store = place.store();
  REQUIRE(store->compare_and_swap(std::nullopt, record(1)));
  const auto errors = at_once(8, [&](std::size_t i) { add_changes(*store, few(kind), std::to_string(i) + "."); });
  CAPTURE(errors);
  CHECK(errors.empty());
  CHECK(store->head()->generation == static_cast<std::uint64_t>(1 + 8 * few(kind)));
}

TEST_CASE("of many hosts that swap at once each change is made exactly once") {
  FOR_EACH_STORE();
  REQUIRE(place.store()->compare_and_swap(std::nullopt, record(1)));
  const auto errors =
      at_once(4, [&](std::size_t i) { add_changes(*place.store(), few(kind), std::to_string(i) + "."); });
  CAPTURE(errors);
  CHECK(errors.empty());
  const auto past = place.store()->history(100);
  const auto changes = static_cast<std::uint64_t>(1 + 4 * few(kind));
  REQUIRE(past.size() >= std::min<std::size_t>(changes, kHistoryKept));
  CHECK(past.front().generation == changes);
  std::set<std::string> bodies;
  for (const auto& one : past) bodies.insert(one.body);
  CHECK(bodies.size() == past.size());
}

TEST_CASE("of many hosts that make a ring at once exactly one wins, and no call fails") {
  FOR_EACH_STORE();
  std::array<bool, 8> won{};
  const auto errors = at_once(won.size(), [&](std::size_t i) {
    won.at(i) = place.store()->compare_and_swap(std::nullopt, record(1, "by " + std::to_string(i)));
  });
  CAPTURE(errors);
  CHECK(errors.empty());
  CHECK(std::ranges::count(won, true) == 1);
  const auto winner = std::ranges::find(won, true) - won.begin();
  CHECK(place.store()->load()->body == "by " + std::to_string(winner));
}

TEST_CASE("the history has the last records, newest first, and not much more") {
  FOR_EACH_STORE();
  const auto store = place.store();
  fill(*store, kHistoryKept + 8);
  const auto past = store->history(1000);
  REQUIRE(past.size() == kHistoryKept);
  for (std::size_t i = 0; i < past.size(); ++i) CHECK(past[i] == record(kHistoryKept + 8 - i));
  CHECK(store->history(3) == std::vector{past[0], past[1], past[2]});
  CHECK(store->history(0).empty());
  CHECK(place.store()->history(1).front() == past[0]);
}

TEST_CASE("wraps are counted exactly, by key, whoever counts") {
  FOR_EACH_STORE();
  const auto store = place.store();
  constexpr std::uint64_t kMuch = std::uint64_t{1} << 33;
  CHECK(store->reserve_usage(kek(1), kMuch) == kMuch);
  CHECK(store->reserve_usage(kek(2), 0) == 0);
  const auto errors = at_once(4, [&](std::size_t i) {
    const auto own = i % 2 == 0 ? store : place.store();
    std::uint64_t last = 0;
    for (int n = 0; n < 10; ++n) {
      const auto total = own->reserve_usage(kek(1), 1000);
      if (total <= last) throw std::logic_error("the total went down");
      last = total;
      static_cast<void>(own->reserve_usage(kek(static_cast<int>(10 + i)), 7));
    }
  });
  CAPTURE(errors);
  CHECK(errors.empty());
  CHECK(place.store()->reserve_usage(kek(1), 1) == kMuch + 40'001);
  CHECK(store->reserve_usage(kek(13), 0) == 70);
  CHECK(store->reserve_usage(kek(2), 5) == 5);
}

TEST_CASE("many hosts that count under a new key at once count exactly") {
  FOR_EACH_STORE();
  const auto errors = at_once(8, [&](std::size_t) { static_cast<void>(place.store()->reserve_usage(kek(1), 100)); });
  CAPTURE(errors);
  CHECK(errors.empty());
  CHECK(place.store()->reserve_usage(kek(1), 0) == 800);
}

TEST_CASE("a body comes back byte for byte") {
  FOR_EACH_STORE();
  const auto store = place.store();
  std::string all;
  for (char c = 1; c > 0 && c < 127; ++c) all += c;
  std::string bulk = "{\"text\":\"";
  while (bulk.size() < (std::size_t{3} << 20)) bulk += "Schl\xc3\xbcssel \xf0\x9f\x94\x91 ";
  const std::array<std::string, 7> bodies = {"\xc3\xbc \xe2\x82\xac \xf0\x9f\x94\x91 \xf0\x9f\x8f\xb4",
                                             R"(it's "quoted" \ \\ \n :name ::text ? ?? $1 %s {x} --)",
                                             all,
                                             " leading and trailing ",
                                             std::string(70'000, 'x'),
                                             bulk,
                                             " "};
  std::optional<RingHead> last;
  for (const auto& body : bodies) {
    const auto next = record(last ? last->generation + 1 : 1, body);
    REQUIRE(store->compare_and_swap(last, next));
    const bool same = place.store()->load() == next && store->history(1).front() == next;
    CHECK(same);
    last = next.head();
  }
}

TEST_CASE("a body that the database would change is stored exactly or not at all") {
  FOR_EACH_STORE();
  const auto store = place.store();
  fill(*store, 1);
  const auto body = GENERATE(std::string{"cut\0off", 7}, std::string{"not UTF-8: \xff\xfe"},
                             std::string{"\xed\xa0\x80"}, std::string(4, '\0'));
  bool stored = false;
  try {
    stored = store->compare_and_swap(record(1).head(), record(2, body));
    CHECK(stored);
  } catch (const StoreError&) {
    CHECK(kind != "memory");
  }
  CHECK(place.store()->load() == (stored ? record(2, body) : record(1)));
  CHECK(store->history(9).size() == (stored ? 2 : 1));
}

TEST_CASE("the clock is UTC and goes on within a connection") {
  FOR_EACH_STORE();
  const auto store = place.store();
  static_cast<void>(store->load());
  const auto before = std::chrono::system_clock::now();
  const auto shown = store->now();
  const auto after = std::chrono::system_clock::now();
  CHECK(shown >= before - std::chrono::milliseconds{2});
  CHECK(shown <= after + std::chrono::milliseconds{2});
  std::this_thread::sleep_for(std::chrono::milliseconds{5});
  CHECK(store->now() > shown);
}
