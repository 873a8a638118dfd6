// remove() gives the ring a new key: who follows it, and who is shut out by it.
#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "crypto/crypto.hpp"
#include "ring/body.hpp"
#include "ring/record.hpp"
#include "ring/ring_key.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using ring::Body;
using test::none_left;
using test::open;
using test::RingHosts;
using test::seal;

namespace {

constexpr auto kGrace = 60s;

/// A ring of `sets` sets on tokens t1, t2, ..., all but the last archived and ready to be removed.
struct Several : RingHosts {
  explicit Several(Version sets) {
    for (Version version = 2; version <= sets; ++version) ring.add({.token = name(version)});
    pass(kGrace);
  }
  static std::string name(Version version) { return "t" + std::to_string(version); }
  KeyRing ring = create();
};

/// Somebody who can write the database, has every past record, and can use the keys that a test gives him.
struct Forger {
  RingHosts& f;

  /// The ring's key as it was in a past record, through one set's key.
  [[nodiscard]] SecretBytes learn(const RingRecord& past, Version version) const {
    const Body body = ring::from_text(past.body);
    const CredentialSet& set = *body.find(version);
    return ring::unwrap_ring_key(*f.token->connect(set.key, 1), body.id, set);
  }

  /// Wraps a key as the ring's, under a set's key.
  void wrap(Body& body, Version version, const SecretBytes& ring_key) const {
    CredentialSet& set = *body.find(version);
    const auto uncounted = std::make_shared<ring::UsageMeters>(memory_ring_store(), nullptr);
    ring::CountedWrapper wrapper{f.token->connect(set.key, 1), body, set, uncounted};
    set.wrapped_ring_key = ring::wrap_ring_key(wrapper, ring_key, body.id, set);
  }
};

/// The names of what running and newly opened hosts threw.
using Outcomes = std::map<std::string, int>;

template <typename Call>
std::string outcome_of(const Call& call) {
  try {
    static_cast<void>(call());
  } catch (const RingTamperedError&) {
    return "tampered";
  } catch (const RingRolledBackError&) {
    return "rolled back";
  } catch (const RingForkedError&) {
    return "forked";
  } catch (const std::exception& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

// ---- who follows ----------------------------------------------------------------------------------------------------

TEST_CASE("a running host follows a change of the ring's key by one unwrap") {
  Several f{4};
  KeyRing other = f.join();
  const std::string before = seal(other);
  f.ring.remove(1, none_left);
  const int unwraps = f.token->unwraps(), wraps = f.token->wraps();
  other.refresh();
  CHECK(f.token->unwraps() == unwraps + 1);
  CHECK(f.token->wraps() == wraps);
  CHECK(other.list() == f.ring.list());
  CHECK(open(other, before) == "x");
  other.refresh();
  CHECK(f.token->unwraps() == unwraps + 2);
  CHECK(other.add({.token = "t"}) == 5);
  f.ring.refresh();
  CHECK(f.ring.list() == other.list());
}

TEST_CASE("a host that was away while several sets were removed follows") {
  Several f{5};
  const KeyRing other = f.join();
  const std::string sealed = seal(other);
  for (const Version version : {2U, 1U, 4U}) f.ring.remove(version, none_left);
  f.ring.add({.token = "t6"});
  f.pass(5s);
  const int unwraps = f.token->unwraps();
  CHECK(test::sealing_version(other) == 6);
  CHECK(f.token->unwraps() == unwraps + 1);
  CHECK(other.list() == f.ring.list());
  CHECK(other.pinned() == f.ring.pinned());
  CHECK(open(other, sealed) == "x");
}

TEST_CASE("a host follows though only one of the sets that stay answers to it") {
  for (const Version reachable : {2U, 3U, 4U}) {
    Several f{4};
    const auto elsewhere = std::make_shared<test::HookedProvider>(f.token);
    KeyRing other = KeyRing::open(f.store, elsewhere, RingPin::in_process(), f.options());
    for (const Version version : {2U, 3U, 4U}) {
      if (version != reachable) elsewhere->missing.insert(Several::name(version));
    }
    f.ring.remove(1, none_left);
    CHECK_NOTHROW(other.refresh());
    CHECK(other.list() == f.ring.list());
    elsewhere->missing.insert(Several::name(reachable));
    other.refresh();  // the ring's key is known by now
    f.ring.remove(reachable == 2 ? 3 : 2, none_left);
    CHECK_THROWS_AS(other.refresh(), KeyNotFoundError);
    CHECK_THROWS_AS(KeyRing::open(f.store, elsewhere, RingPin::in_process()), KeyNotFoundError);
  }
}

TEST_CASE("every set that stays holds the ring's new key, and the removed one none") {
  Several f{4};
  const Version staged = f.ring.add({.token = "t5"}, Activation::Later);
  const auto before = f.ring.list();
  const PinnedRing pinned = f.ring.pinned();
  f.ring.remove(2, none_left);
  CHECK(f.ring.pinned().key_check != pinned.key_check);
  CHECK(ring::from_text(f.store->record->body).former_ring_keys.size() == 1);
  for (const Version version : {1U, 3U, 4U, staged}) {
    CHECK(f.ring.find(version)->wrapped_ring_key != before[version - 1].wrapped_ring_key);
    CHECK_NOTHROW(f.ring.verify(version));
    const auto key = Forger{f}.learn(*f.store->record, version);
    CHECK(ring::key_check(key) == f.ring.pinned().key_check);
  }
  CHECK(f.ring.find(2)->wrapped_ring_key.empty());
}

TEST_CASE("a set that stays and whose key does not answer keeps another from being removed") {
  Several f{4};
  const Version staged = f.ring.add({.token = "t5"}, Activation::Later);
  const auto list = f.ring.list();
  const auto records = f.store->records;
  for (const Version version : {2U, 3U, 4U, staged}) {
    f.provider->missing = {Several::name(version)};
    CHECK_THROWS_AS(f.ring.remove(1, none_left), KeyNotFoundError);
  }
  f.provider->missing = {Several::name(1) /* no set's */, "t"};
  CHECK(f.ring.list() == list);
  CHECK(f.store->records == records);
  CHECK_NOTHROW(f.ring.remove(1, none_left));  // the removed set's own key is not asked
}

TEST_CASE("copies of the ring's new key are made once, whoever is faster") {
  Several f{4};
  KeyRing other = f.join();
  int swaps = 0;
  f.store->on_swap = [&] {
    if (++swaps <= 5) other.amend(3, {.description = std::to_string(swaps)});
  };
  f.store->conflicts = 10;
  const int wraps = f.token->wraps();
  f.ring.remove(1, none_left);
  CHECK(f.token->wraps() == wraps + 3);
  f.store->on_swap = nullptr;
  for (const Version version : {2U, 3U, 4U}) CHECK_NOTHROW(f.ring.verify(version));
  // Also if another host changes the ring's key meanwhile.
  bool removed = false;
  f.store->on_swap = [&] {
    if (!std::exchange(removed, true)) other.remove(2, none_left);
  };
  f.ring.remove(3, none_left);
  CHECK(f.join().list() == f.ring.list());
  other.refresh();
  CHECK(other.pinned() == f.ring.pinned());
}

TEST_CASE("a change that another host makes with the old key does not undo a removal") {
  Several f{3};
  KeyRing other = f.join();
  bool removed = false;
  f.store->on_swap = [&] {
    if (!std::exchange(removed, true)) f.ring.remove(1, none_left);
  };
  other.amend(2, {.description = "late"});
  REQUIRE(removed);
  CHECK(other.find(1)->state == SetState::Deleted);
  CHECK(other.pinned().key_check == f.ring.pinned().key_check);
  f.ring.refresh();
  CHECK(f.ring.find(2)->description == "late");
}

TEST_CASE("a set that is being added while the ring's key changes holds the new one") {
  Several f{3};
  KeyRing other = f.join();
  f.provider->after_provision = [&] { other.remove(1, none_left); };
  int swaps = 0;
  f.store->on_swap = [&] {
    if (++swaps == 4) other.remove(2, none_left);  // after the reservation, a removal, and the first look
  };
  CHECK(f.ring.add({.token = "new"}) == 4);
  CHECK(f.ring.find(1)->state == SetState::Deleted);
  CHECK_NOTHROW(f.ring.verify(4));
  f.provider->missing = {"t2", "t3"};
  CHECK(f.join().list() == f.ring.list());
}

// ---- who does not ---------------------------------------------------------------------------------------------------

TEST_CASE("who knows an old key of the ring and a removed set's makes no record that a host takes") {
  Several f{4};
  const RingRecord past = *f.store->record;
  RingPin pin = RingPin::in_process();
  KeyRing running = KeyRing::open(f.store, f.provider, pin, f.options());
  f.ring.remove(1, none_left);
  f.ring.remove(2, none_left);
  running.refresh();
  const RingRecord good = *f.store->record;
  const Body present = ring::from_text(good.body);
  REQUIRE(present.former_ring_keys.size() == 2);

  const Forger forger{f};
  const SecretBytes known = forger.learn(past, 1);
  const SecretBytes made = crypto::random_secret(crypto::kKeyBytes);
  const auto link = [&](const SecretBytes& former, const SecretBytes& next, std::size_t index) {
    return ring::wrap_former_ring_key(former, next, present.id, index);
  };
  const Bytes garbage = link(made, known, 17);
  const auto& real = present.former_ring_keys;
  const std::vector<std::vector<Bytes>> chains{
      {},
      {link(known, made, 0)},
      {real[0]},
      {link(made, known, 0)},
      {real[0], real[1]},
      {real[0], link(known, made, 1)},
      {link(known, made, 0), link(made, made, 1)},
      {real[1], real[0]},
      {real[0], real[1], link(known, made, 2)},
      {real[0], real[1], link(made, known, 2)},
      {real[0], real[1], garbage},
      {real[0], real[1], link(known, made, 2), link(made, made, 3)},
  };
  Outcomes while_running, newly_opened;
  int cases = 0;
  for (const auto& chain : chains) {
    for (const SecretBytes* key : {&known, &made}) {
      for (const int copies : {0, 1, 2}) {  // what the sets that stayed hold: as it was, removed, the old key
        for (const int later : {-2, -1, 0, 1, 2, 50}) {  // generations
          Body body = present;
          CredentialSet& mine = *body.find(1);
          mine = *ring::from_text(past.body).find(1);
          mine.state = SetState::Active;
          mine.archived_at.reset();
          forger.wrap(body, 1, *key);
          CredentialSet& active = *body.find(4);
          active.state = SetState::Archived;
          active.archived_at = f.store->clock;
          if (copies == 1) std::erase_if(body.sets, [](const CredentialSet& set) { return set.version != 1; });
          if (copies == 2) {
            for (const Version version : {3U, 4U}) {
              body.find(version)->wrapped_ring_key = ring::from_text(past.body).find(version)->wrapped_ring_key;
            }
          }
          body.former_ring_keys = chain;
          body.generation = static_cast<std::uint64_t>(static_cast<std::int64_t>(present.generation) + later);
          if (later == 1) body.prev_mac = good.mac;
          f.store->record = ring::record_of(body, *key);
          ++cases;
          ++while_running[outcome_of([&] { running.refresh(); })];
          ++newly_opened[outcome_of([&] { return KeyRing::open(f.store, f.provider, pin, f.options()); })];
          f.pass(6s);
          CHECK(outcome_of([&] { static_cast<void>(test::sealing_version(running)); }) != "accepted");
        }
      }
    }
  }
  CHECK(cases == 12 * 2 * 3 * 6);
  CHECK(while_running == Outcomes{{"forked", 108}, {"rolled back", 54}, {"tampered", 270}});
  CHECK(newly_opened == Outcomes{{"forked", 288}, {"rolled back", 144}});
  f.store->record = good;
  CHECK_NOTHROW(running.refresh());
  f.pass(6s);
  CHECK(test::sealing_version(running) == 4);
}

TEST_CASE("records of the past are rolled back, whatever the ring's key was then") {
  RingPin pin = RingPin::in_process();
  Several f{4};
  KeyRing running = KeyRing::open(f.store, f.provider, pin, f.options());
  const auto step = [&](const auto& change) {
    change();
    running.refresh();
  };
  step([&] { f.ring.remove(1, none_left); });
  step([&] { f.ring.amend(3, {.description = "x"}); });
  step([&] { f.ring.restore(1); });
  step([&] { f.ring.remove(3, none_left); });
  step([&] { f.ring.remove(2, none_left); });
  step([&] { f.ring.add({.token = "t5"}); });
  const auto past = f.store->records;
  REQUIRE(past.size() == 14);
  for (std::size_t i = 0; i + 1 < past.size(); ++i) {
    INFO("generation " << past[i].generation);
    f.store->record = past[i];
    CHECK(outcome_of([&] { running.refresh(); }) == "rolled back");
    CHECK(outcome_of([&] { return KeyRing::open(f.store, f.provider, pin); }) == "rolled back");
    f.pass(6s);
    CHECK_THROWS_AS(seal(running), RingRolledBackError);
    // Under another number than its own.
    f.store->record->generation = past.back().generation + 1;
    CHECK(outcome_of([&] { running.refresh(); }) == "tampered");
    CHECK(outcome_of([&] { return KeyRing::open(f.store, f.provider, pin); }) == "tampered");
  }
  f.store->record = past.back();
  CHECK_NOTHROW(running.refresh());
}

TEST_CASE("another history of the ring is forked, on either side of a change of its key") {
  Several f{4};
  const RingRecord common = *f.store->record;
  const auto copy = std::make_shared<test::OpenStore>();
  copy->record = common;
  copy->clock = f.store->clock;
  KeyRing twin = KeyRing::open(copy, f.provider, RingPin::in_process(), f.options());
  KeyRing running = f.join();
  const auto history = [&](const RingRecord& record) {
    f.store->record = record;
    return outcome_of([&] { running.refresh(); });
  };

  f.ring.remove(1, none_left);
  running.refresh();
  twin.remove(2, none_left);
  CHECK(history(*copy->record) == "tampered");  // as many keys, but others
  twin.amend(3, {.description = "x"});
  CHECK(history(*copy->record) == "tampered");
  twin.remove(3, none_left);
  CHECK(history(*copy->record) == "forked");  // the key this host knows is not among those before
  twin.add({.token = "t5"});
  CHECK(history(*copy->record) == "forked");
}

TEST_CASE("former keys of the ring that were exchanged, dropped or altered are found out by a host that was away") {
  Several f{5};
  RingPin pin = RingPin::in_process();
  KeyRing away = KeyRing::open(f.store, f.provider, pin, f.options());
  for (const Version version : {1U, 2U, 3U}) f.ring.remove(version, none_left);
  const RingRecord good = *f.store->record;
  const Body body = ring::from_text(good.body);
  REQUIRE(body.former_ring_keys.size() == 3);
  const SecretBytes key = Forger{f}.learn(good, 5);
  Outcomes unsigned_ones, signed_ones;
  int cases = 0;
  const auto refused = [&](const auto& change) {
    Body changed = body;
    change(changed.former_ring_keys);
    ++cases;
    // Without the ring's key, and as only another host could.
    f.store->record = RingRecord{good.generation, ring::to_text(changed), good.mac};
    ++unsigned_ones[outcome_of([&] { away.refresh(); })];
    ++unsigned_ones[outcome_of([&] { return KeyRing::open(f.store, f.provider, pin); })];
    f.store->record = ring::record_of(changed, key);
    ++signed_ones[outcome_of([&] { away.refresh(); })];
  };
  for (std::size_t i = 0; i < 3; ++i) {
    refused([&](auto& keys) { keys.erase(keys.begin() + static_cast<std::ptrdiff_t>(i)); });
    refused([&](auto& keys) { std::swap(keys[i], keys[(i + 1) % 3]); });
    refused([&](auto& keys) { keys.insert(keys.begin() + static_cast<std::ptrdiff_t>(i), keys[i]); });
    for (std::size_t byte = 0; byte < 60; ++byte) {
      refused([&](auto& keys) { keys[i][byte] ^= std::byte{0x80}; });
    }
  }
  refused([](auto& keys) { keys.clear(); });
  CHECK(cases == 190);
  CHECK(unsigned_ones == Outcomes{{"tampered", 2 * cases}});
  CHECK(signed_ones == Outcomes{{"forked", cases - 1}, {"tampered", 1}});  // the last: without any key before
  f.store->record = good;
  CHECK_NOTHROW(away.refresh());
}

TEST_CASE("a record with very many former keys is refused soon") {
  Several f{3};
  const Forger forger{f};
  const RingRecord past = *f.store->record;
  KeyRing running = f.join();
  f.ring.remove(1, none_left);
  running.refresh();
  const SecretBytes known = forger.learn(past, 1);
  Body body = ring::from_text(past.body);
  body.generation += 100;
  for (std::size_t i = 0; i < 20'000; ++i) {
    body.former_ring_keys.push_back(ring::wrap_former_ring_key(known, known, body.id, i));
  }
  f.store->record = ring::record_of(body, known);
  CHECK(outcome_of([&] { running.refresh(); }) == "forked");
}

TEST_CASE("a removed set's key tells nothing of the ring any more") {
  Several f{3};
  f.ring.remove(1, none_left);
  const auto elsewhere = std::make_shared<test::HookedProvider>(f.token);
  elsewhere->missing = {"t2", "t3"};
  CHECK_THROWS_AS(KeyRing::open(f.store, elsewhere, RingPin::in_process()), KeyNotFoundError);
}
