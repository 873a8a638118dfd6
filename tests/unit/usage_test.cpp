// The count of wraps under each key, over all hosts, and its limits.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "ring/usage_meter.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using ring::UsageMeter;
using test::message_of;
using test::none_left;
using test::RingHosts;
using test::seal;

namespace {

constexpr std::uint64_t kProvidersOwn = 8;
/// The same of a host that has connected to the key.
constexpr std::uint64_t kHostsOwn = kProvidersOwn + 2;  // added once for each process and key

RingSettings limits(std::uint64_t soft, std::uint64_t hard) {
  RingSettings settings;
  settings.usage_soft_limit = soft;
  settings.usage_hard_limit = hard;
  return settings;
}

/// A meter alone, and what it asks its store for.
struct Metered {
  explicit Metered(const RingSettings& settings = {}) : meter(store, KekId{}, settings) {}
  [[nodiscard]] std::uint64_t total() const { return store->usage[KekId{}]; }
  /// @returns how many times the meter could be taken, at most `times`.
  std::uint64_t take(std::uint64_t times) {
    for (std::uint64_t taken = 0; taken < times; ++taken) {
      try {
        near_limit += meter.take() == UsageMeter::Reading::NearLimit;
      } catch (const UsageLimitError&) {
        return taken;
      }
    }
    return times;
  }
  void break_store() {
    store->on_reserve = [this] {
      ++failures;
      throw StoreError("the store is down");
    };
  }
  void mend_store() { store->on_reserve = nullptr; }

  std::shared_ptr<test::OpenStore> store = std::make_shared<test::OpenStore>();
  UsageMeter meter;
  int near_limit = 0;
  int failures = 0;
};

std::uint64_t all_counted(const test::OpenStore& store) {
  return std::accumulate(store.usage.begin(), store.usage.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const auto& entry) { return sum + entry.second; });
}

std::uint64_t made(const RingHosts& f) { return static_cast<std::uint64_t>(f.token->wraps()); }

/// Seals until the limit. @returns how often.
std::uint64_t seal_all(const KeyRing& ring, std::uint64_t most) {
  for (std::uint64_t sealed = 0; sealed < most; ++sealed) {
    try {
      static_cast<void>(seal(ring));
    } catch (const UsageLimitError&) {
      return sealed;
    }
  }
  return most;
}

}  // namespace

// ---- the meter ------------------------------------------------------------------------------------------------------

TEST_CASE("blocks of wraps grow from 64 to 65536") {
  Metered f;
  std::vector<std::uint64_t> blocks;
  std::uint64_t before = 0, taken = 0;
  while (blocks.size() < 13) {
    f.take(1);
    if (f.total() != before) blocks.push_back(f.total() - before);
    before = f.total();
    ++taken;
    REQUIRE(f.total() >= taken);
  }
  std::vector<std::uint64_t> expected{kProvidersOwn + 64};
  for (std::uint64_t block = 128; block < 65'536; block *= 2) expected.push_back(block);
  while (expected.size() < 13) expected.push_back(65'536);
  CHECK(blocks == expected);
}

TEST_CASE("the hard limit is exact, and a key that is used up is not counted on") {
  for (const std::uint64_t limit : {1U, 8U, 9U, 72U, 73U, 200U, 1000U, 100'000U}) {
    INFO("limit " << limit);
    Metered f{limits(1, limit)};
    CHECK(f.take(200'000) == limit - std::min(limit, kProvidersOwn));
    const auto total = f.total();
    CHECK(f.take(10) == 0);
    CHECK(f.total() == total);
  }
}

TEST_CASE("the soft limit is told with each block beyond it") {
  Metered f{limits(72, 10'000)};
  f.take(64);
  CHECK(f.near_limit == 0);
  f.take(1);
  CHECK(f.near_limit == 1);
  f.take(128);
  CHECK(f.near_limit == 2);
}

TEST_CASE("while the store does not count, a million wraps are made on credit, and the store is seldom asked") {
  Metered f;
  f.take(10);
  f.break_store();
  const std::uint64_t on_credit = f.take(2'000'000) - 54;  // what was left of the first block
  CHECK(on_credit == 1'000'000);
  CHECK(f.failures <= 1'000'000 / 64 + 2);
  const auto message = message_of<UsageLimitError>([&] { return f.meter.take(), 0; });
  CHECK_NAMES(message, "the store is down");
  f.mend_store();
  CHECK(f.take(1) == 1);
  CHECK(f.total() >= 1'000'065);
}

TEST_CASE("credit does not go beyond the hard limit as far as it is known") {
  Metered f{limits(50, 500)};
  f.take(64);
  f.break_store();
  CHECK(f.take(10'000) == 500 - 64 - kProvidersOwn);
  f.mend_store();
  CHECK(f.take(1) == 0);
  CHECK(f.total() >= 500);
}

TEST_CASE("what was made on credit is settled with the next block") {
  Metered f;
  std::uint64_t taken = 0;
  int calls = 0;
  f.store->on_reserve = [&] {
    if (++calls % 3 != 0) throw StoreError("the store is down");
  };
  for (int i = 0; i < 5'000; ++i) {
    const int before = calls;
    taken += f.take(1);
    if (calls != before && calls % 3 == 0) CHECK(f.total() >= taken);
  }
  CHECK(calls > 6);
  CHECK(taken == 5'000);
}

TEST_CASE("the ring's own wraps are counted at once, and never refused") {
  Metered f{limits(10, 100)};
  f.meter.note();
  CHECK(f.total() == kProvidersOwn + 1);
  f.meter.note();
  CHECK(f.total() == kProvidersOwn + 2);
  f.take(1);
  const auto total = f.total();
  f.meter.note();  // of the block
  CHECK(f.total() == total);
  f.take(1000);
  CHECK_NOTHROW(f.meter.note());
  f.break_store();
  CHECK_NOTHROW(f.meter.note());
  CHECK_NOTHROW(f.meter.note());
  f.mend_store();
  const auto before = f.total();
  f.meter.note();
  CHECK(f.total() == before + 3);
}

TEST_CASE("a meter that many threads take gives no wrap twice") {
  constexpr std::uint64_t kLimit = 20'000;
  Metered f{limits(kLimit, kLimit)};
  std::atomic<std::uint64_t> taken = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (;;) {
        try {
          static_cast<void>(f.meter.take());
          ++taken;
        } catch (const UsageLimitError&) {
          return;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(taken == kLimit - kProvidersOwn);
}

// ---- a ring ---------------------------------------------------------------------------------------------------------

TEST_CASE("processes that only look after the ring are counted, too") {
  RingHosts f;
  f.create();
  const auto before = all_counted(*f.store);
  for (int process = 0; process < 10; ++process) f.join().verify(1);
  CHECK(all_counted(*f.store) == before + 10 * (kHostsOwn + 1));
}

TEST_CASE("the store's count is never below the wraps that were made, whoever made them") {
  RingHosts f;
  KeyRing ring = f.create();
  const auto enough = [&] {
    CHECK(all_counted(*f.store) >= made(f));
    return all_counted(*f.store) >= made(f);
  };
  REQUIRE(enough());
  for (int process = 0; process < 5; ++process) {
    KeyRing another = f.join();
    for (int i = 0; i < 70; ++i) {
      static_cast<void>(seal(another));
      if (!enough()) break;
    }
    another.add({.token = "t"});
    REQUIRE(enough());
    another.add({.token = "t"}, Activation::Later);
    for (const auto& set : another.list()) {
      if (set.state != SetState::Deleted) another.verify(set.version);
    }
    REQUIRE(enough());
    f.pass(60s);
    const auto sets = another.list();
    another.remove(std::ranges::find(sets, SetState::Archived, &CredentialSet::state)->version, none_left);
    REQUIRE(enough());
  }
}

TEST_CASE("all hosts together make no more wraps than the hard limit") {
  constexpr std::uint64_t kLimit = 1000;
  RingHosts f;
  const KeyRing first = f.create(limits(kLimit, kLimit));
  const std::vector<KeyRing> hosts{first, f.join(), f.join()};
  std::uint64_t sealed = 0, before = 0;
  do {
    before = sealed;
    for (const KeyRing& host : hosts) sealed += seal_all(host, 7);
  } while (sealed != before);
  CHECK(sealed == kLimit - 3 * kHostsOwn - 1);
  CHECK(made(f) <= kLimit);
  CHECK(seal_all(f.join(), 1) == 0);
  CHECK_THROWS_AS(EnvelopeEncryptor{first}.reseal_text(seal(first), kNoContext), UsageLimitError);
}

TEST_CASE("a key that is used up still opens, is verified, and holds the ring's next key") {
  RingHosts f;
  KeyRing ring = f.create(limits(50, 100));
  const std::string sealed = seal(ring);
  CHECK(seal_all(ring, 1000) < 100);
  CHECK_THROWS_AS(seal(ring), UsageLimitError);
  CHECK_NOTHROW(ring.verify(1));  // while it is active, too
  CHECK(test::open(ring, sealed) == "x");
  CHECK(ring.add({.token = "t"}) == 2);
  CHECK_NOTHROW(seal(ring));
  CHECK(ring.add({.token = "t"}) == 3);
  f.pass(60s);
  CHECK_NOTHROW(ring.remove(2, none_left));
  CHECK_NOTHROW(ring.verify(1));
  CHECK_NOTHROW(ring.restore(2));
  CHECK_NOTHROW(ring.remove(1, none_left));
  CHECK_NOTHROW(ring.restore(1));
  CHECK(test::open(ring, sealed) == "x");
}

TEST_CASE("the observer is told which set's key nears its limit") {
  RingHosts f;
  KeyRing ring = f.create(limits(100, 10'000));
  ring.add({.token = "u"});
  f.recorder->events.clear();
  for (int i = 0; i < 64; ++i) static_cast<void>(seal(ring));
  CHECK(std::ranges::count(f.recorder->kinds(), Event::Kind::UsageNearLimit) == 0);
  static_cast<void>(seal(ring));
  const auto told = std::ranges::find(f.recorder->events, Event::Kind::UsageNearLimit, &Event::kind);
  REQUIRE(told != f.recorder->events.end());
  CHECK(told->version == 2);
  CHECK(told->token == "u");
  CHECK(told->ring == ring.id());
}

TEST_CASE("two sets with one key share its count") {
  RingHosts f;
  KeyRing ring = f.create(limits(200, 300));
  const KekId key = ring.active().key.kek_id;
  for (int i = 0; i < 50; ++i) static_cast<void>(seal(ring));
  ring.add({.token = "t", .adopt_key_id = ring.active().key.key_id});
  REQUIRE(ring.active().key.kek_id == key);
  const std::uint64_t later = seal_all(ring, 1000);
  CHECK(later > 200);
  CHECK(50 + later + kHostsOwn + 1 <= 300);
  CHECK(f.store->usage[key] >= 50 + later);
  CHECK(seal_all(f.join(), 1) == 0);
}

TEST_CASE("everything that is wrapped counts: data keys, rewraps, and what the token seals itself") {
  const auto count = [](const auto& work) {
    RingHosts f;
    KeyRing ring = f.create(limits(200, 300));
    const std::string sealed = seal(f.join());
    std::uint64_t done = 0;
    try {
      for (; done < 1000; ++done) work(ring, sealed);
    } catch (const UsageLimitError&) {
    }
    CHECK(made(f) <= 300);
    return done;
  };
  // The other host reserved 64 and its own.
  constexpr std::uint64_t kLeft = 300 - 64 - 2 * kHostsOwn - 1;
  CHECK(count([](const KeyRing& ring, const std::string&) { static_cast<void>(seal(ring)); }) == kLeft);
  CHECK(count([](const KeyRing& ring, const std::string& sealed) {
          static_cast<void>(EnvelopeEncryptor{ring}.rewrap_text(sealed));
        }) == kLeft);
  CHECK(count([](const KeyRing& ring, const std::string& sealed) {
          static_cast<void>(EnvelopeEncryptor{ring}.reseal_text(sealed, kNoContext));
        }) == kLeft);
  CHECK(count([](const KeyRing& ring, const std::string&) {
          static_cast<void>(EnvelopeEncryptor{ring, {.suite = Suite::Token}}.seal({}, kNoContext));
        }) == kLeft);
}

TEST_CASE("threads of several hosts make no more wraps than the hard limit") {
  constexpr std::uint64_t kLimit = 3000;
  const auto store = memory_ring_store();
  const auto token = std::make_shared<test::SoftwareProvider>();
  const KeyRing first =
      KeyRing::create(store, token, {.token = "t"}, RingPin::in_process(), {}, limits(kLimit, kLimit));
  const KeyRing second = KeyRing::open(store, token, RingPin::in_process());
  std::atomic<std::uint64_t> sealed = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] { sealed += seal_all(t % 2 == 0 ? first : second, 2 * kLimit); });
  }
  for (auto& thread : threads) thread.join();
  CHECK(sealed > kLimit / 2);
  CHECK(sealed <= kLimit - 2 * kHostsOwn - 1);
  CHECK(store->reserve_usage(first.active().key.kek_id, 0) >= static_cast<std::uint64_t>(token->wraps()));
}

TEST_CASE("sealing goes on while wraps cannot be counted") {
  RingHosts f;
  const KeyRing ring = f.create();
  f.store->on_reserve = [] { throw StoreError("the store is down"); };
  for (int i = 0; i < 200; ++i) CHECK_NOTHROW(seal(ring));
  f.store->on_reserve = nullptr;
  for (int i = 0; i < 512; ++i) CHECK_NOTHROW(seal(ring));
  CHECK(all_counted(*f.store) >= made(f));
}

TEST_CASE("a record that is refused does not set the limits of a key") {
  RingHosts f;
  KeyRing here = f.create();
  KeyRing there = f.join();
  here.add({.token = "t"});
  const RingRecord good = *f.store->record;
  test::forge(*f.store, "\"usage_hard_limit\":4294967296", "\"usage_hard_limit\":1");
  test::forge(*f.store, "\"usage_soft_limit\":2147483648", "\"usage_soft_limit\":1");
  CHECK_THROWS_AS(there.refresh(), RingTamperedError);
  f.store->record = good;
  there.refresh();
  CHECK_NOTHROW(seal(there));
}
