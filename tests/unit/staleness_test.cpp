// How old a host's view of the ring may be while it seals and opens, and what happens when the store cannot be read.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::message_of;
using test::none_left;
using test::open;
using test::RingHosts;
using test::seal;
using test::sealing_version;

namespace {

constexpr auto kMaxStaleness = 5s;  // RingSettings' default

/// A ring with a maker and another host, which is told of what happens there.
struct TwoHosts : RingHosts {
  KeyRing here = create();
  std::shared_ptr<test::Recorder> there_told = std::make_shared<test::Recorder>();
  KeyRing there = join(there_told);

  void break_store() {
    store->on_load = [] { throw StoreError("the store is down"); };
  }
  void mend_store() { store->on_load = nullptr; }
  [[nodiscard]] int looks() const { return store->looks; }
  [[nodiscard]] int loads() const { return store->loads; }
  [[nodiscard]] std::ptrdiff_t told(Event::Kind kind) const { return std::ranges::count(there_told->kinds(), kind); }
  [[nodiscard]] KeyRing join_with(std::chrono::milliseconds keep_sealing) const {
    RingOptions with = options(there_told);
    with.keep_sealing = keep_sealing;
    return KeyRing::open(store, provider, RingPin::in_process(), with);
  }
};

/// Lets threads wait for each other without a clock.
class Gate {
 public:
  void open() {
    const std::scoped_lock lock{mutex_};
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock{mutex_};
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void wait_for_somebody() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return waiting_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

}  // namespace

// ---- a store that works ---------------------------------------------------------------------------------------------

TEST_CASE("the store is not asked before the view is as old as the ring allows, and then once, in small") {
  TwoHosts f;
  const int looks = f.looks(), loads = f.loads();
  const std::string sealed = seal(f.there);
  f.pass(kMaxStaleness - 1ms);
  for (int i = 0; i < 10; ++i) CHECK(open(f.there, seal(f.there)) == "x");
  CHECK(f.looks() == looks);
  f.pass(1ms);
  for (int i = 0; i < 10; ++i) CHECK(open(f.there, seal(f.there)) == "x");
  CHECK(f.looks() == looks + 1);
  f.pass(kMaxStaleness);
  CHECK(open(f.there, sealed) == "x");
  CHECK(f.looks() == looks + 2);
  CHECK(f.loads() == loads);
}

TEST_CASE("a change that another host made is read once") {
  TwoHosts f;
  f.here.add({.token = "t"});
  const int loads = f.loads();
  f.pass(kMaxStaleness);
  for (int i = 0; i < 10; ++i) CHECK(sealing_version(f.there) == 2);
  CHECK(f.loads() == loads + 1);
  CHECK(f.told(Event::Kind::RingChanged) == 1);
}

TEST_CASE("a seal that starts later than allowed after a change is under the new set") {
  TwoHosts f;
  CHECK(sealing_version(f.there) == 1);
  f.pass(kMaxStaleness - 1ms);
  f.here.add({.token = "t"});
  CHECK(sealing_version(f.there) == 1);
  f.pass(1ms);
  CHECK(sealing_version(f.there) == 2);
}

TEST_CASE("a seal whose wrap takes long is under the new set if another host rotated meanwhile") {
  TwoHosts f;
  int wraps = 0;
  f.provider->before_wrap = [&] {
    if (++wraps > 1) return;
    f.here.add({.token = "t"});
    f.pass(kMaxStaleness);
  };
  SECTION("a data key") { CHECK(sealing_version(f.there) == 2); }
  SECTION("in the token") {
    const EnvelopeEncryptor vault{f.there, {.suite = Suite::Token}};
    CHECK(inspect(vault.seal({}, kNoContext)).version == 2);
  }
  SECTION("rewrapped") {
    const std::string sealed = [&] {
      wraps = 1;
      const std::string before = seal(f.here);
      wraps = 0;
      return before;
    }();
    CHECK(inspect_text(EnvelopeEncryptor{f.there}.rewrap_text(sealed)).version == 2);
  }
  CHECK(wraps > 1);
}

TEST_CASE("a view is as old as the begin of the look that showed it") {
  TwoHosts f;
  f.store->on_load = [&] { f.pass(kMaxStaleness); };
  f.there.refresh();
  f.store->on_load = nullptr;
  f.here.add({.token = "t"});
  CHECK(sealing_version(f.there) == 2);
}

TEST_CASE("a change made here is a view that is new") {
  TwoHosts f;
  f.pass(kMaxStaleness);
  f.there.add({.token = "t"});
  const int looks = f.looks();
  CHECK(sealing_version(f.there) == 2);
  CHECK(f.looks() == looks);
  f.pass(kMaxStaleness - 1ms);
  CHECK(sealing_version(f.there) == 2);
  CHECK(f.looks() == looks);
}

TEST_CASE("an opener sees a removal as soon as it must") {
  TwoHosts f;
  const std::string sealed = seal(f.here);
  f.here.add({.token = "t"});
  f.pass(60s);
  f.there.refresh();
  f.here.remove(1, none_left);
  f.pass(kMaxStaleness - 1ms);
  CHECK(open(f.there, sealed) == "x");
  f.pass(1ms);
  CHECK_THROWS_AS(open(f.there, sealed), DeletedVersionError);
}

// ---- a store that does not ------------------------------------------------------------------------------------------

TEST_CASE("while the store is down sealing stops in time, and opening goes on") {
  TwoHosts f;
  const std::string sealed = seal(f.there);
  f.break_store();
  f.pass(kMaxStaleness - 1ms);
  CHECK_NOTHROW(seal(f.there));
  f.pass(1ms);
  const auto message = message_of<RingStaleError>([&] { return seal(f.there); });
  CHECK_NAMES(message, "last read 5000 ms ago");
  CHECK_NAMES(message, "the store is down");
  CHECK_THROWS_AS(EnvelopeEncryptor{f.there}.rewrap_text(sealed), RingStaleError);
  f.pass(24h);
  CHECK(open(f.there, sealed) == "x");
}

TEST_CASE("a store that is down is asked once a second, and the observer told as often") {
  TwoHosts f;
  const std::string sealed = seal(f.there);
  f.break_store();
  f.pass(kMaxStaleness);
  for (int second = 1; second <= 5; ++second) {
    const int looks = f.looks();
    for (int i = 0; i < 10; ++i) {
      CHECK(open(f.there, sealed) == "x");
      CHECK_THROWS_AS(seal(f.there), RingStaleError);
      f.pass(i == 4 ? 999ms : 0ms);
    }
    CHECK(f.looks() == looks + 1);
    CHECK(f.told(Event::Kind::RingStale) == second);
    f.pass(1ms);
  }
}

TEST_CASE("a store that is slow to fail is asked once a second, too") {
  TwoHosts f;
  const std::string sealed = seal(f.there);
  f.store->on_load = [&] {
    f.pass(30s);
    throw StoreError("timed out");
  };
  f.pass(kMaxStaleness);
  const int looks = f.looks();
  for (int i = 0; i < 10; ++i) {
    CHECK(open(f.there, sealed) == "x");
    CHECK_THROWS_AS(seal(f.there), RingStaleError);
  }
  CHECK(f.looks() == looks + 1);
  // Nor is it asked again sooner than it took to fail: half of the time is left for work.
  f.pass(1s);
  CHECK_THROWS_AS(seal(f.there), RingStaleError);
  CHECK(f.looks() == looks + 1);
  f.pass(29s);
  CHECK_THROWS_AS(seal(f.there), RingStaleError);
  CHECK(f.looks() == looks + 2);
}

TEST_CASE("sealing goes on within a second after the store is back") {
  TwoHosts f;
  f.break_store();
  f.pass(kMaxStaleness);
  CHECK_THROWS_AS(seal(f.there), RingStaleError);
  f.mend_store();
  f.here.add({.token = "t"});
  f.pass(999ms);
  CHECK_THROWS_AS(seal(f.there), RingStaleError);
  f.pass(1ms);
  CHECK(sealing_version(f.there) == 2);
  const int looks = f.looks();
  CHECK(sealing_version(f.there) == 2);
  CHECK(f.looks() == looks);
}

TEST_CASE("a refresh that works ends the trouble at once") {
  TwoHosts f;
  f.break_store();
  f.pass(kMaxStaleness);
  CHECK_THROWS_AS(seal(f.there), RingStaleError);
  f.mend_store();
  f.there.refresh();
  CHECK_NOTHROW(seal(f.there));
}

TEST_CASE("a host that chose to seal without the store for a while does so, and not longer") {
  TwoHosts f;
  const KeyRing keeping = f.join_with(1h);
  f.break_store();
  f.pass(kMaxStaleness);
  CHECK_NOTHROW(seal(keeping));
  CHECK(f.told(Event::Kind::RingStale) == 1);
  f.pass(1h - kMaxStaleness - 1ms);
  CHECK_NOTHROW(seal(keeping));
  f.pass(1ms);
  CHECK_THROWS_AS(seal(keeping), RingStaleError);
  CHECK(f.told(Event::Kind::RingStale) == 2);
  f.mend_store();
  f.pass(1s);
  CHECK_NOTHROW(seal(keeping));
}

TEST_CASE("a choice shorter than the ring's own changes nothing") {
  TwoHosts f;
  const KeyRing keeping = f.join_with(1ms);
  f.break_store();
  f.pass(kMaxStaleness - 1ms);
  CHECK_NOTHROW(seal(keeping));
  f.pass(1ms);
  CHECK_THROWS_AS(seal(keeping), RingStaleError);
}

TEST_CASE("sealing for as long as a quarantine, or less than not at all, is refused") {
  TwoHosts f;
  const auto quarantine = f.here.settings().quarantine;
  CHECK_THROWS_AS(f.join_with(quarantine), InvalidArgumentError);
  CHECK_THROWS_AS(f.join_with(std::chrono::milliseconds::max()), InvalidArgumentError);
  CHECK_THROWS_AS(f.join_with(-1ms), InvalidArgumentError);
  CHECK_NOTHROW(f.join_with(quarantine - 1ms));
  const auto empty = std::make_shared<test::OpenStore>();
  CHECK_THROWS_AS(KeyRing::create(empty, f.provider, {.token = "t"}, RingPin::in_process(), {.keep_sealing = 1h},
                                  {.quarantine = 1h}),
                  InvalidArgumentError);
  CHECK_FALSE(empty->record);
}

TEST_CASE("a quarantine that was shortened in the database is tampered with, not the host's mistake") {
  TwoHosts f;
  test::forge(*f.store, "\"quarantine\":604800000", "\"quarantine\":3600000");
  CHECK_THROWS_AS(f.join_with(2h), RingTamperedError);
}

TEST_CASE("a store that lost the ring is one that does not work") {
  TwoHosts f;
  const std::string sealed = seal(f.there);
  f.store->record.reset();
  f.pass(kMaxStaleness);
  CHECK_THROWS_AS(seal(f.there), RingStaleError);
  CHECK(open(f.there, sealed) == "x");
}

TEST_CASE("a ring that was changed, rolled back or forked while a host runs stops its sealing and not its opening") {
  TwoHosts f;
  const std::string sealed = seal(f.there);
  const Version staged = f.here.add({.token = "t"}, Activation::Later);
  f.there.refresh();
  const RingRecord good = *f.store->record;
  const auto twin_store = std::make_shared<test::OpenStore>();
  twin_store->record = good;
  KeyRing twin = KeyRing::open(twin_store, f.provider, RingPin::in_process());
  twin.activate(staged);
  const std::string by_staged = seal(twin);

  std::string expected;
  SECTION("changed") {
    f.here.activate(staged);
    test::forge(*f.store, "\"t\"", "\"u\"");
    f.pass(kMaxStaleness);
    CHECK_THROWS_AS(seal(f.there), RingTamperedError);
  }
  SECTION("rolled back") {
    f.store->record = f.store->records.front();
    f.pass(kMaxStaleness);
    CHECK_THROWS_AS(seal(f.there), RingRolledBackError);
  }
  SECTION("forked") {
    f.here.amend(1, {.description = "y"});
    f.there.refresh();
    twin.amend(1, {.description = "z"});
    f.store->record = twin_store->record;
    f.pass(kMaxStaleness);
    CHECK_THROWS_AS(seal(f.there), RingForkedError);
  }
  const int looks = f.looks();
  for (int i = 0; i < 5; ++i) CHECK(open(f.there, sealed) == "x");
  f.pass(1s);
  CHECK(open(f.there, by_staged) == "x");
  CHECK(f.looks() == looks + 1);
  CHECK_THROWS_AS(seal(f.there), Error);
  CHECK(f.looks() == looks + 1);
}

TEST_CASE("a token that does not give the ring's new key stops sealing and not opening") {
  TwoHosts f;
  const std::string sealed = seal(f.there);
  f.here.add({.token = "t2"});
  f.here.add({.token = "t3"});
  f.pass(60s);
  f.there.refresh();
  f.here.remove(2, none_left);
  f.pass(kMaxStaleness);
  f.token->fail(true);
  CHECK_THROWS_AS(seal(f.there), TokenError);
  f.token->fail(false);
  CHECK(open(f.there, sealed) == "x");
  f.pass(1s);
  CHECK(sealing_version(f.there) == 3);
}

// ---- envelopes that show that there is news -------------------------------------------------------------------------

TEST_CASE("envelopes of sets that are unknown, staged or deleted here make it look once a second") {
  TwoHosts f;
  const std::string first = seal(f.here);
  const Version staged = f.here.add({.token = "t"}, Activation::Later);
  f.here.add({.token = "t"});
  f.pass(60s);
  f.here.remove(1, none_left);
  f.there.refresh();
  const auto twin_store = std::make_shared<test::OpenStore>();
  twin_store->record = *f.store->record;
  KeyRing twin = KeyRing::open(twin_store, f.provider, RingPin::in_process());
  const Version unknown = twin.add({.token = "t"});
  const std::string fourth = seal(twin);
  Bytes bytes = EnvelopeEncryptor{f.here}.seal({}, kNoContext);
  bytes[15] = static_cast<std::byte>(staged);
  REQUIRE(unknown == 4);

  const int looks = f.looks();
  for (int i = 0; i < 5; ++i) {
    CHECK_THROWS_AS(open(f.there, first), DeletedVersionError);
    CHECK_THROWS_AS(open(f.there, fourth), RingOutOfDateError);
    CHECK_THROWS_AS(EnvelopeEncryptor{f.there}.open(bytes, kNoContext), OpenError);
  }
  CHECK(f.looks() == looks + 1);
  f.pass(999ms);
  CHECK_THROWS_AS(open(f.there, fourth), RingOutOfDateError);
  CHECK(f.looks() == looks + 1);
  f.pass(1ms);
  CHECK_THROWS_AS(open(f.there, fourth), RingOutOfDateError);
  CHECK(f.looks() == looks + 2);
}

TEST_CASE("an envelope of a set that is not known is a store's failure while the store is down") {
  TwoHosts f;
  const std::string first = seal(f.here);
  f.here.add({.token = "t"});
  const std::string second = seal(f.here);
  f.break_store();
  for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(open(f.there, second), StoreError);
  CHECK(open(f.there, first) == "x");
  f.mend_store();
  f.pass(1s);
  CHECK(open(f.there, second) == "x");
}

// ---- threads --------------------------------------------------------------------------------------------------------

TEST_CASE("threads that find the view too old together look once") {
  constexpr int kThreads = 8;
  TwoHosts f;
  f.here.add({.token = "t"});
  f.pass(kMaxStaleness);
  std::atomic<int> started = 0, sealed = 0;
  f.store->on_load = [&] {
    while (started < kThreads) std::this_thread::yield();
  };
  const int looks = f.looks(), loads = f.loads();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      ++started;
      if (sealing_version(f.there) == 2) ++sealed;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(sealed == kThreads);
  CHECK(f.looks() == looks + 1);
  CHECK(f.loads() == loads + 1);
}

TEST_CASE("an opener does not wait for another thread's look, and a sealer does") {
  TwoHosts f;
  const std::string sealed = seal(f.there);
  f.pass(kMaxStaleness);
  Gate gate;
  f.store->on_load = [&] { gate.pass(); };
  std::thread looking{[&] { static_cast<void>(seal(f.there)); }};
  gate.wait_for_somebody();
  CHECK(open(f.there, sealed) == "x");  // would never return if it waited
  std::atomic<bool> done = false;
  std::thread sealing{[&] {
    static_cast<void>(seal(f.there));
    done = true;
  }};
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  CHECK_FALSE(done);
  gate.open();
  looking.join();
  sealing.join();
  CHECK(done);
}

TEST_CASE("threads that meet a store that hangs wait for one failure, not for one each") {
  constexpr int kThreads = 8;
  TwoHosts f;
  f.pass(kMaxStaleness);
  std::atomic<int> started = 0, stale = 0;
  f.store->on_load = [&] {
    while (started < kThreads) std::this_thread::yield();
    f.passed += 30'000;
    throw StoreError("timed out");
  };
  const int looks = f.looks();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      ++started;
      try {
        static_cast<void>(seal(f.there));
      } catch (const RingStaleError&) {
        ++stale;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(stale == kThreads);
  CHECK(f.looks() == looks + 1);
}
