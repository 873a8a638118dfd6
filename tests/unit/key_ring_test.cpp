#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "ring/body.hpp"
#include "support/catch.hpp"
#include "support/ring_parts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::forge;
using test::OpenStore;
using test::Recorder;
using test::RingParts;

namespace {

std::vector<SetState> states(const KeyRing& ring) {
  std::vector<SetState> states;
  for (const auto& set : ring.list()) states.push_back(set.state);
  return states;
}

Bytes id_of(const KeyRing& ring, Version version) { return ring.find(version)->key.key_id; }

constexpr auto kActive = SetState::Active;
constexpr auto kArchived = SetState::Archived;
constexpr auto kStaged = SetState::Staged;

}  // namespace

TEST_CASE("a new ring has one active set") {
  RingParts f;
  const KeyRing ring = f.create();
  REQUIRE(ring.list().size() == 1);
  const CredentialSet set = ring.active();
  CHECK(set.version == 1);
  CHECK(set.state == kActive);
  CHECK(set.description == "first");
  CHECK(set.created_at == f.store->clock);
  CHECK(set.activated_at == f.store->clock);
  CHECK_FALSE(set.archived_at);
  CHECK(set.wrapped_ring_key.size() == 60);
  CHECK(ring.generation() == 1);
  CHECK(ring.find(1) == set);
  CHECK_FALSE(ring.find(2));
}

TEST_CASE("a ring is not made where one is") {
  RingParts f;
  const KeyRing ring = f.create();
  f.pin = RingPin::in_process();
  CHECK_THROWS_AS(f.create(), StoreConflictError);
  CHECK(f.store->records.size() == 1);
}

TEST_CASE("a pin that remembers a ring is not given to a new one") {
  RingParts f;
  KeyRing first = f.create();
  const int wraps = f.provider->wraps();
  CHECK_THROWS_AS(KeyRing::create(memory_ring_store(), f.provider, {.token = "t"}, f.pin), InvalidArgumentError);
  CHECK(f.provider->wraps() == wraps);
  CHECK_NOTHROW(first.refresh());
}

TEST_CASE("an empty store holds no ring to open") {
  RingParts f;
  CHECK_THROWS_AS(f.open(), StoreError);
}

TEST_CASE("the set added last seals, and those before it are archived") {
  RingParts f;
  KeyRing ring = f.create();
  f.store->clock += 5s;
  CHECK(ring.add({.token = "t"}) == 2);
  CHECK(ring.add({.token = "t"}) == 3);
  CHECK(states(ring) == std::vector{kArchived, kArchived, kActive});
  CHECK(ring.active().version == 3);
  CHECK(ring.find(1)->archived_at == f.store->clock);
  CHECK(ring.find(1)->activated_at < ring.find(1)->archived_at);
}

TEST_CASE("a staged set seals nothing until it is activated") {
  RingParts f;
  KeyRing ring = f.create();
  const Version staged = ring.add({.token = "t"}, Activation::Later);
  CHECK(states(ring) == std::vector{kActive, kStaged});
  const EnvelopeEncryptor vault{ring};
  CHECK(inspect(vault.seal({}, kNoContext)).version == 1);
  CHECK_NOTHROW(ring.verify(staged));
  ring.activate(staged);
  CHECK(states(ring) == std::vector{kArchived, kActive});
  CHECK(inspect(vault.seal({}, kNoContext)).version == 2);
}

TEST_CASE("there is no way back to an older set") {
  RingParts f;
  KeyRing ring = f.create();
  const Version staged = ring.add({.token = "t"}, Activation::Later);
  const Version newer = ring.add({.token = "t"});
  CHECK_THROWS_AS(ring.activate(1), InvalidArgumentError);
  CHECK_THROWS_AS(ring.activate(staged), InvalidArgumentError);
  CHECK_THROWS_AS(ring.activate(newer), InvalidArgumentError);
  CHECK_THROWS_AS(ring.activate(17), UnknownVersionError);
  CHECK(ring.active().version == newer);
}

TEST_CASE("an add that fails leaves the sets as they were, and its version is not used again") {
  RingParts f;
  KeyRing ring = f.create();
  f.provider->fail(true);
  CHECK_THROWS_AS(ring.add({.token = "t"}), TokenError);
  CHECK(states(ring) == std::vector{kActive});
  f.provider->fail(false);
  CHECK(ring.add({.token = "t"}) == 3);
}

TEST_CASE("a description too long or not UTF-8 is refused before a key is made") {
  RingParts f;
  KeyRing ring = f.create();
  const int before = f.provider->wraps();
  CHECK_THROWS_AS(ring.add({.token = "t", .description = std::string(1025, 'x')}), InvalidArgumentError);
  CHECK_THROWS_AS(ring.add({.token = "t", .description = "\xff"}), InvalidArgumentError);
  CHECK(f.provider->wraps() == before);
  CHECK(ring.generation() == 1);
  CHECK(ring.add({.token = "t", .description = std::string(1024, 'x')}) == 2);
}

TEST_CASE("verify tells whether a set's key answers") {
  RingParts f;
  KeyRing ring = f.create();
  ring.add({.token = "t"});
  CHECK_NOTHROW(ring.verify(1));
  CHECK_NOTHROW(ring.verify(2));
  CHECK_THROWS_AS(ring.verify(3), UnknownVersionError);
  const Bytes first = id_of(ring, 1), second = id_of(ring, 2);
  f.provider->replace_key(first);
  CHECK_THROWS_AS(ring.verify(1), WrongKeyError);
  f.provider->remove_key(second);
  CHECK_THROWS_AS(ring.verify(2), KeyNotFoundError);
}

TEST_CASE("a key that a set already uses is recognised when it is adopted") {
  RingParts f;
  KeyRing ring = f.create();
  const CredentialSet first = ring.active();
  ring.add({.token = "t", .adopt_key_id = first.key.key_id});
  CHECK(ring.active().key.kek_id == first.key.kek_id);
  CHECK(ring.active().key.proof == first.key.proof);
  CHECK_NOTHROW(ring.verify(2));
  const Bytes other{std::byte{7}};
  f.provider->replace_key(other);
  ring.add({.token = "t", .adopt_key_id = other});
  CHECK(ring.active().key.kek_id != first.key.kek_id);
}

TEST_CASE("any set's key opens the ring, and none leaves it shut") {
  RingParts f;
  const KeyRing ring = [&] {
    KeyRing made = f.create();
    made.add({.token = "t"});
    made.add({.token = "t"});
    return made;
  }();
  f.provider->remove_key(id_of(ring, 3));
  f.provider->remove_key(id_of(ring, 1));
  CHECK(f.open().list() == ring.list());
  f.provider->remove_key(id_of(ring, 2));
  CHECK_THROWS_AS(f.open(), KeyNotFoundError);
  f.provider->fail(true);
  CHECK_THROWS_AS(f.open(), TokenError);
}

TEST_CASE("a loser of a race for the store tries again") {
  RingParts f;
  KeyRing ring = f.create();
  f.store->conflicts = 3;
  CHECK(ring.add({.token = "t"}) == 2);
  f.store->conflicts = 1'000'000;
  CHECK_THROWS_AS(ring.add({.token = "t"}), StoreConflictError);
  CHECK(states(ring) == std::vector{kArchived, kActive});
}

TEST_CASE("a set that was overtaken while it was added is stored as archived") {
  // Another host adds and activates version 3 between this host's reservation of version 2 and its end.
  struct Overtaker final : KeyProvider {
    explicit Overtaker(RingParts& fixture) : f(fixture) {}
    KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
      if (spec.description == "slow") f.open().add({.token = "t", .description = "fast"});
      return f.provider->provision(spec, ring, version);
    }
    std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override {
      return f.provider->connect(key, version);
    }
    std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
      return f.provider->find_keys(ring, token);
    }
    void destroy(const KeyDescription& key) override { f.provider->destroy(key); }
    RingParts& f;
  };
  RingParts f;
  f.create();
  KeyRing slow = KeyRing::open(f.store, std::make_shared<Overtaker>(f), f.pin);
  CHECK(slow.add({.token = "t", .description = "slow"}) == 2);
  CHECK(states(slow) == std::vector{kArchived, kArchived, kActive});
  CHECK(slow.find(2)->description == "slow");
  CHECK_FALSE(slow.find(2)->activated_at);
  CHECK(slow.active().version == 3);
  CHECK(f.open().list() == slow.list());
}

TEST_CASE("a body that was changed is tampered with, whatever was changed") {
  RingParts f;
  KeyRing ring = f.create();
  ring.add({.token = "t", .description = "second"});
  const RingRecord good = *f.store->record;
  std::size_t changes = 0;
  for (std::size_t i = 0; i < good.body.size(); ++i) {
    for (const int bit : {1, 2, 16, 64}) {
      f.store->record = good;
      f.store->record->body[i] = static_cast<char>(f.store->record->body[i] ^ bit);
      INFO("byte " << i << " bit " << bit);
      ++changes;
      try {
        f.open();
        FAIL("a changed body was accepted");
      } catch (const RingTamperedError&) {
      } catch (const WrongRingError&) {  // the ring's id was changed
      } catch (const StoreError&) {      // "format" was
      }
      CHECK_THROWS_AS(ring.refresh(), Error);
    }
  }
  CHECK(changes == good.body.size() * 4);
  CHECK(changes > 4000);
  f.store->record = good;
  CHECK_NOTHROW(f.open());
  CHECK(ring.generation() == good.generation);
}

TEST_CASE("a set cannot be activated, renamed or exchanged in the database") {
  RingParts f;
  KeyRing ring = f.create();
  ring.add({.token = "t", .description = "second"});
  ring.refresh();
  const RingRecord good = *f.store->record;
  const std::string own_key = ring.active().key.kek_id.to_string();
  const auto refused = [&] {
    CHECK_THROWS_AS(ring.refresh(), RingTamperedError);
    CHECK_THROWS_AS(KeyRing::open(f.store, f.provider, RingPin::in_process()), RingTamperedError);
    f.store->record = good;
  };
  forge(*f.store, "\"description\":\"second\"", "\"description\":\"third!\"");
  refused();
  forge(*f.store, "\"alias\":\"t\"", "\"alias\":\"u\"");
  refused();
  forge(*f.store, own_key, std::string(32, '0'));
  refused();
  f.store->record->mac[0] ^= std::byte{1};
  refused();
  CHECK_NOTHROW(ring.refresh());
}

TEST_CASE("an older record is a rollback, another history is a fork, another ring is a wrong ring") {
  RingParts f;
  KeyRing ring = f.create();
  ring.add({.token = "t"});
  const auto records = f.store->records;
  REQUIRE(records.size() == 3);

  f.store->record = records[0];
  CHECK_THROWS_AS(ring.refresh(), RingRolledBackError);
  CHECK_THROWS_AS(f.open(), RingRolledBackError);

  // The same generation, made by the same keys on a copy of the database.
  const auto copy = std::make_shared<OpenStore>();
  copy->record = records[1];
  KeyRing twin = KeyRing::open(copy, f.provider, RingPin::in_process());
  twin.add({.token = "t", .description = "elsewhere"});
  REQUIRE(twin.generation() == 4);
  f.store->record = copy->records[0];
  REQUIRE(f.store->record->generation == 3);
  CHECK_THROWS_AS(ring.refresh(), RingForkedError);
  f.store->record = copy->records[1];
  CHECK_THROWS_AS(ring.refresh(), RingForkedError);

  RingParts other;
  other.provider = f.provider;
  other.create();
  f.store->record = other.store->record;
  CHECK_THROWS_AS(ring.refresh(), WrongRingError);
  CHECK_THROWS_AS(f.open(), WrongRingError);
}

TEST_CASE("two hosts see each other's changes after a refresh") {
  RingParts f;
  KeyRing here = f.create();
  KeyRing there = f.open();
  here.add({.token = "t"});
  CHECK(there.list().size() == 1);
  there.refresh();
  CHECK(there.list() == here.list());
  there.add({.token = "t"});
  here.refresh();
  CHECK(here.list() == there.list());
}

TEST_CASE("an envelope of a set this host has not seen yet makes it look, at most once a second") {
  RingParts f;
  auto time = std::chrono::steady_clock::time_point{} + 1h;
  KeyRing here = f.create();
  const KeyRing there = f.open({.clock = [&] { return time; }});
  const EnvelopeEncryptor sealer{here}, opener{there};
  here.add({.token = "t"});
  const std::string second = sealer.seal_text("x", kNoContext);
  CHECK(opener.open_text(second, kNoContext).text() == "x");

  here.add({.token = "t"});
  const std::string third = sealer.seal_text("y", kNoContext);
  const int loads = f.store->loads;
  time += 999ms;
  CHECK_THROWS_AS(opener.open_text(third, kNoContext), RingOutOfDateError);
  CHECK(f.store->loads == loads);
  time += 1ms;
  CHECK(opener.open_text(third, kNoContext).text() == "y");
  CHECK(f.store->loads == loads + 1);
}

TEST_CASE("threads that meet a new set together look once, and all open it") {
  constexpr int kThreads = 8;
  RingParts f;
  KeyRing here = f.create();
  const KeyRing there = f.open();
  const EnvelopeEncryptor opener{there};
  here.add({.token = "t"});
  const std::string sealed = EnvelopeEncryptor{here}.seal_text("x", kNoContext);
  std::atomic<int> started = 0, opened = 0;
  f.store->on_load = [&] {
    while (started < kThreads) std::this_thread::yield();
  };
  const int loads = f.store->loads;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      ++started;
      if (opener.open_text(sealed, kNoContext).text() == "x") ++opened;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(opened == kThreads);
  CHECK(f.store->loads == loads + 1);
}

TEST_CASE("an envelope of a staged set opens while the store is down") {
  RingParts f;
  KeyRing here = f.create();
  const Version staged = here.add({.token = "t"}, Activation::Later);
  const KeyRing there = f.open();
  here.activate(staged);
  const std::string sealed = EnvelopeEncryptor{here}.seal_text("x", kNoContext);
  f.store->on_load = [] { throw StoreError("the store is down"); };
  CHECK(EnvelopeEncryptor{there}.open_text(sealed, kNoContext).text() == "x");
  CHECK(there.find(staged)->state == kStaged);
}

TEST_CASE("verify finds a staged set that another host added") {
  RingParts f;
  KeyRing here = f.create();
  KeyRing there = f.open();
  const Version staged = here.add({.token = "t"}, Activation::Later);
  CHECK_NOTHROW(there.verify(staged));
}

TEST_CASE("a ring that no host could read again is not stored") {
  struct Careless final : KeyProvider {
    explicit Careless(RingParts& fixture) : f(fixture) {}
    KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
      KeyDescription key = f.provider->provision(spec, ring, version);
      if (spec.description == "no id") key.key_id.clear();
      if (spec.description == "no proof") key.proof = {};
      return key;
    }
    std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override {
      return f.provider->connect(key.key_id.empty() ? f.open().active().key : key, version);
    }
    std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
      return f.provider->find_keys(ring, token);
    }
    void destroy(const KeyDescription& key) override { f.provider->destroy(key); }
    RingParts& f;
  };
  RingParts f;
  f.create();
  KeyRing ring = KeyRing::open(f.store, std::make_shared<Careless>(f), f.pin);
  CHECK_THROWS_AS(ring.add({.token = "t", .description = "no id"}), InvalidArgumentError);
  CHECK_THROWS_AS(ring.add({.token = "t", .description = "no proof"}), InvalidArgumentError);
  CHECK_THROWS_AS(ring.add({.token = "\xff"}), InvalidArgumentError);
  CHECK_NOTHROW(f.open());
  CHECK(states(ring) == std::vector{kActive});
  f.store->clock = Timestamp{-1ms};
  CHECK_THROWS_AS(ring.add({.token = "t"}), InvalidArgumentError);
}

TEST_CASE("a version below the newest that the ring does not have is unknown, not out of date") {
  RingParts f;
  KeyRing ring = f.create();
  f.provider->fail(true);
  CHECK_THROWS_AS(ring.add({.token = "t"}), TokenError);
  f.provider->fail(false);
  const EnvelopeEncryptor vault{ring};
  Bytes sealed = vault.seal({}, kNoContext);
  sealed[15] = std::byte{2};
  try {
    const auto opened = vault.open(sealed, kNoContext);
    FAIL("a version that does not exist was opened");
  } catch (const UnknownVersionError& error) {
    CHECK(error.code() == ErrorCode::UnknownVersion);
  }
}

TEST_CASE("the observer is told what happens, in order") {
  RingParts f;
  const auto recorder = std::make_shared<Recorder>();
  KeyRing ring = f.create({.observer = recorder});
  const EnvelopeEncryptor vault{ring};
  const std::string sealed = vault.seal_text("x", kNoContext);
  CHECK_THROWS_AS(vault.open_text(sealed, Context{}.add("a", "b")), OpenError);
  const auto opened = vault.open_text(sealed, kNoContext);
  ring.add({.token = "t"});
  const auto moved = vault.rewrap_text(sealed);
  using enum Event::Kind;
  CHECK(recorder->kinds() == std::vector{SetAdded, SetActivated, Sealed, OpenRefused, Opened, RingChanged, RingChanged,
                                         SetAdded, SetActivated, Rewrapped});
  CHECK(recorder->events.back().version == 2);
  CHECK(recorder->events.back().token == "t");
  CHECK(recorder->events.back().ring == ring.id());
}

TEST_CASE("a ring with a missing store, provider or clock is refused") {
  RingParts f;
  CHECK_THROWS_AS(KeyRing::create(nullptr, f.provider, {.token = "t"}, f.pin), InvalidArgumentError);
  CHECK_THROWS_AS(KeyRing::create(f.store, nullptr, {.token = "t"}, f.pin), InvalidArgumentError);
  CHECK_THROWS_AS(KeyRing::open(f.store, f.provider, f.pin, {.clock = nullptr}), InvalidArgumentError);
}

TEST_CASE("changes from many threads and handles are all kept") {
  RingParts f;
  const auto store = memory_ring_store();
  const KeyRing first = KeyRing::create(store, f.provider, {.token = "t"}, f.pin);
  std::vector<std::thread> threads;
  std::atomic<int> added = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      KeyRing ring = t % 2 == 0 ? first : KeyRing::open(store, f.provider, f.pin);
      for (int i = 0; i < 5; ++i) {
        ring.add({.token = "t"}, i % 2 == 0 ? Activation::Now : Activation::Later);
        ++added;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  KeyRing last = KeyRing::open(store, f.provider, f.pin);
  CHECK(added == 20);
  CHECK(last.list().size() == 21);
  CHECK(std::ranges::count(last.list(), kActive, &CredentialSet::state) == 1);
  CHECK(last.generation() == 41);
  for (const auto& set : last.list()) CHECK_NOTHROW(last.verify(set.version));
}
