// What an operator does with the sets of a ring: amend, remove and restore. purge_test.cpp has what cannot be undone.
#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "core/hex.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::error_of;
using test::message_of;
using test::none_left;
using test::open;
using test::RingHosts;
using test::seal;

namespace {

constexpr auto kGrace = 60s;

SetState state_of(const KeyRing& ring, Version version) { return ring.find(version)->state; }

/// A ring whose first set is archived, has an envelope, and may be removed.
struct Rotated : RingHosts {
  KeyRing ring = create();
  std::string sealed = seal(ring);
  Version second = ring.add({.token = "u"});
  Rotated() { pass(kGrace); }

  /// That neither the ring in the store nor this host's view of it has changed since.
  template <typename Call>
  void expect_unchanged(const Call& call) {
    const auto before = ring.list();
    const auto records = store->records;
    call();
    CHECK(ring.list() == before);
    CHECK(store->records == records);
  }
};

}  // namespace

// ---- amend ----------------------------------------------------------------------------------------------------------

TEST_CASE("a new description asks no token") {
  Rotated f;
  const int unwraps = f.token->unwraps(), wraps = f.token->wraps();
  f.ring.amend(1, {.description = "the old one"});
  CHECK(f.ring.find(1)->description == "the old one");
  CHECK(f.token->unwraps() == unwraps);
  CHECK(f.token->wraps() == wraps);
  f.token->fail(true);
  CHECK_NOTHROW(f.ring.amend(2, {.description = ""}));
  f.token->fail(false);
  CHECK(f.join().list() == f.ring.list());
  CHECK(f.recorder->kinds().back() == Event::Kind::SetAmended);
}

TEST_CASE("a set's key is proved at its new place, and then used there") {
  Rotated f;
  const KeyRing other = f.join();
  const int unwraps = f.token->unwraps();
  f.ring.amend(1, {.token = "moved", .token_label = "new label", .token_serial = "17"});
  CHECK(f.token->unwraps() == unwraps + 2);
  const KeyDescription key = f.ring.find(1)->key;
  CHECK(key.token == "moved");
  CHECK(key.token_label == "new label");
  CHECK(key.token_serial == "17");
  f.provider->missing.insert("t");
  CHECK(open(f.ring, f.sealed) == "x");
  f.pass(5s);
  CHECK(open(other, f.sealed) == "x");
  CHECK(other.find(1)->key == key);
  CHECK_NOTHROW(f.ring.verify(1));
}

TEST_CASE("the active set is amended too, and seals at its new place") {
  Rotated f;
  f.ring.amend(2, {.token = "moved"});
  f.provider->missing.insert("u");
  CHECK(open(f.ring, seal(f.ring)) == "x");
}

TEST_CASE("a set is not moved to a place where its key does not answer") {
  Rotated f;
  f.provider->exchanged["other"] = f.ring.find(2)->key.key_id;
  f.provider->missing.insert("empty");
  f.expect_unchanged([&] {
    CHECK_THROWS_AS(f.ring.amend(1, {.token = "other"}), WrongKeyError);
    CHECK_THROWS_AS(f.ring.amend(1, {.token = "empty"}), KeyNotFoundError);
    f.token->fail(true);
    CHECK_THROWS_AS(f.ring.amend(1, {.token_label = "x"}), TokenError);
    f.token->fail(false);
  });
  CHECK(open(f.ring, f.sealed) == "x");
}

TEST_CASE("a change that cannot be stored, or of a set that is not there, is refused") {
  Rotated f;
  const int unwraps = f.token->unwraps();
  f.expect_unchanged([&] {
    CHECK_THROWS_AS(f.ring.amend(3, {.description = "x"}), UnknownVersionError);
    CHECK_THROWS_AS(f.ring.amend(0, {}), UnknownVersionError);
    CHECK_THROWS_AS(f.ring.amend(1, {.description = std::string(1025, 'x')}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.amend(1, {.description = "\xff"}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.amend(1, {.token = "\xc0\x80"}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.amend(1, {.token_label = "\xed\xa0\x80"}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.amend(1, {.token_serial = "\xf8"}), InvalidArgumentError);
  });
  CHECK(f.token->unwraps() == unwraps);
}

TEST_CASE("a removed set is amended, and then restored at its new place") {
  Rotated f;
  f.ring.remove(1, none_left);
  f.provider->missing.insert("t");
  CHECK_THROWS_AS(f.ring.restore(1), KeyNotFoundError);
  f.ring.amend(1, {.token = "moved"});
  CHECK(state_of(f.ring, 1) == SetState::Deleted);
  f.ring.restore(1);
  CHECK(open(f.ring, f.sealed) == "x");
}

TEST_CASE("two hosts amend a set at once, and the later one keeps both changes") {
  Rotated f;
  KeyRing other = f.join();
  bool amended = false;
  f.store->on_swap = [&] {
    if (!std::exchange(amended, true)) other.amend(1, {.token = "moved"});
  };
  f.ring.amend(1, {.description = "described"});
  CHECK(f.ring.find(1)->description == "described");
  CHECK(f.ring.find(1)->key.token == "moved");
}

TEST_CASE("two hosts move a set to two places at once, and one of them is told") {
  Rotated f;
  KeyRing other = f.join();
  bool amended = false;
  f.store->on_swap = [&] {
    if (!std::exchange(amended, true)) other.amend(1, {.token = "there"});
  };
  // Alias and label would be proved apart, and stored together.
  CHECK_THROWS_AS(f.ring.amend(1, {.token_label = "here"}), StoreConflictError);
  CHECK(f.ring.find(1)->key == other.find(1)->key);
  CHECK(f.ring.find(1)->key.token == "there");
}

// ---- remove ---------------------------------------------------------------------------------------------------------

TEST_CASE("the active set is not removed, nor one that does not exist") {
  Rotated f;
  f.expect_unchanged([&] {
    const Census unasked = [](Version) -> std::uint64_t { throw std::logic_error("the census was asked"); };
    CHECK_THROWS_AS(f.ring.remove(2, unasked), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.remove(3, unasked), UnknownVersionError);
    CHECK_THROWS_AS(f.ring.remove_without_census(2), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.remove_without_census(0), UnknownVersionError);
    CHECK_THROWS_AS(f.ring.remove(1, Census{}), InvalidArgumentError);
  });
}

TEST_CASE("a set is removed when its grace is over by the store's clock") {
  Rotated f;
  f.store->clock -= 1ms;
  f.passed += 3'600'000;  // the hosts' clocks do not count
  f.expect_unchanged([&] {
    CHECK_THROWS_AS(f.ring.remove(1, none_left), SetInUseError);
    CHECK_THROWS_AS(f.ring.remove_without_census(1), SetInUseError);
  });
  f.store->clock += 1ms;
  CHECK_NOTHROW(f.ring.remove(1, none_left));
  CHECK(state_of(f.ring, 1) == SetState::Deleted);
  CHECK(f.ring.find(1)->deleted_at == f.store->clock);
}

TEST_CASE("a set whose store's clock shows the end of time is not removed early") {
  RingHosts f;
  KeyRing ring = f.create();
  f.store->clock = Timestamp::max();
  ring.add({.token = "t"});
  f.store->clock -= 1ms;
  CHECK_NAMES(message_of<SetInUseError>([&] { return ring.remove(1, none_left), 0; }), "archived on 292278994-08-17");
  f.store->clock = Timestamp{0ms};
  CHECK_THROWS_AS(ring.remove(1, none_left), SetInUseError);
}

TEST_CASE("a set that was never active is removed without grace") {
  Rotated f;
  const Version staged = f.ring.add({.token = "t"}, Activation::Later);
  f.ring.remove(staged, none_left);
  const CredentialSet removed = *f.ring.find(staged);
  CHECK(removed.state == SetState::Deleted);
  CHECK_FALSE(removed.archived_at);
  CHECK(f.join().list() == f.ring.list());
  CHECK_THROWS_AS(f.ring.activate(staged), InvalidArgumentError);
}

TEST_CASE("a set that envelopes name is not removed") {
  Rotated f;
  std::vector<Version> asked;
  f.expect_unchanged([&] {
    const auto message = message_of<SetInUseError>([&] {
      f.ring.remove(1, [&](Version version) {
        asked.push_back(version);
        return std::uint64_t{17};
      });
      return 0;
    });
    CHECK_NAMES(message, "17 envelopes");
  });
  CHECK(asked == std::vector<Version>{1});
}

TEST_CASE("what a census throws is passed on, and nothing is removed") {
  Rotated f;
  f.expect_unchanged([&] {
    CHECK_THROWS_AS(f.ring.remove(1, [](Version) -> std::uint64_t { throw std::domain_error("count"); }),
                    std::domain_error);
  });
}

TEST_CASE("a census is asked once, whoever is faster") {
  Rotated f;
  int asked = 0;
  f.store->conflicts = 5;
  f.ring.remove(1, [&](Version) {
    ++asked;
    return std::uint64_t{0};
  });
  CHECK(asked == 1);
  CHECK(state_of(f.ring, 1) == SetState::Deleted);
}

TEST_CASE("a set that seals while it is counted is not removed by that count") {
  Rotated f;
  KeyRing other = f.join();
  const Version staged = f.ring.add({.token = "t"}, Activation::Later);
  std::string sealed;
  const Census slow = [&](Version version) {
    other.activate(version);
    sealed = seal(other);
    other.add({.token = "t"});
    f.pass(kGrace);
    return std::uint64_t{0};  // none were there when the count began
  };
  CHECK_THROWS_AS(f.ring.remove(staged, slow), SetInUseError);
  CHECK(open(other, sealed) == "x");
  CHECK(state_of(f.ring, staged) == SetState::Archived);
}

TEST_CASE("a set is removed once") {
  Rotated f;
  f.ring.remove_without_census(1);
  f.expect_unchanged([&] {
    const auto message = message_of<DeletedVersionError>([&] { return f.ring.remove(1, none_left), 0; });
    CHECK_NAMES(message, "2023-11-14 22:14:20 UTC");
    CHECK_THROWS_AS(f.ring.remove_without_census(1), DeletedVersionError);
  });
}

// ---- what a removed set does ----------------------------------------------------------------------------------------

TEST_CASE("an envelope of a removed set is told when it was removed, by every host that sees it") {
  Rotated f;
  const KeyRing other = f.join();
  f.ring.remove(1, none_left);
  const int unwraps = f.token->unwraps();
  const auto message = message_of<DeletedVersionError>([&] { return open(f.ring, f.sealed); });
  CHECK_NAMES(message, "credential set 1 was removed on 2023-11-14 22:14:20 UTC; KeyRing::restore() brings it back");
  CHECK_THROWS_AS(EnvelopeEncryptor{f.ring}.rewrap_text(f.sealed), DeletedVersionError);
  CHECK_THROWS_AS(EnvelopeEncryptor{f.ring}.reseal_text(f.sealed, kNoContext), DeletedVersionError);
  CHECK(EnvelopeEncryptor{f.ring}.needs_rewrap_text(f.sealed));
  CHECK(f.token->unwraps() == unwraps);
  CHECK(open(other, f.sealed) == "x");  // has not seen it yet
  f.pass(5s);
  CHECK_THROWS_AS(open(other, f.sealed), DeletedVersionError);
}

TEST_CASE("a removed set leaves what is needed to restore it, and not the ring's key") {
  Rotated f;
  const CredentialSet before = *f.ring.find(1);
  REQUIRE(before.wrapped_ring_key.size() == 60);
  f.ring.remove(1, none_left);
  CredentialSet expected = before;
  expected.state = SetState::Deleted;
  expected.deleted_at = f.store->clock;
  expected.wrapped_ring_key.clear();
  CHECK(f.ring.find(1) == expected);
  CHECK(f.ring.list().front() == expected);
  CHECK(f.store->record->body.find(core::to_hex(before.wrapped_ring_key)) == std::string::npos);
  CHECK(f.ring.orphans().empty());
}

TEST_CASE("a removed set is not verified, activated or found by its key") {
  Rotated f;
  f.ring.remove(1, none_left);
  CHECK_THROWS_AS(f.ring.verify(1), DeletedVersionError);
  CHECK_THROWS_AS(f.ring.activate(1), InvalidArgumentError);
  KeyRing other = f.join();
  CHECK_THROWS_AS(other.verify(1), DeletedVersionError);
  f.ring.restore(1);
  CHECK_NOTHROW(other.verify(1));  // looks, since it may have been restored
}

TEST_CASE("the observer is told of what is removed, restored and amended, in order") {
  Rotated f;
  f.recorder->events.clear();
  f.ring.amend(1, {.description = "y"});
  f.ring.remove(1, none_left);
  f.ring.restore(1);
  using enum Event::Kind;
  CHECK(f.recorder->kinds() == std::vector{RingChanged, SetAmended, RingChanged, SetRemoved, RingChanged, SetRestored});
  for (const Event& event : f.recorder->events) {
    CHECK(event.ring == f.ring.id());
    if (event.kind == RingChanged) continue;
    CHECK(event.version == 1);
    CHECK(event.token == "t");
  }
}

// ---- restore --------------------------------------------------------------------------------------------------------

TEST_CASE("a restored set is archived again and opens what it sealed, on every host") {
  Rotated f;
  const CredentialSet before = *f.ring.find(1);
  f.ring.remove(1, none_left);
  const KeyRing other = f.join();
  CHECK_THROWS_AS(open(other, f.sealed), DeletedVersionError);
  f.ring.restore(1);
  CredentialSet expected = before;
  expected.wrapped_ring_key = f.ring.find(1)->wrapped_ring_key;
  CHECK(f.ring.find(1) == expected);
  CHECK(expected.wrapped_ring_key != before.wrapped_ring_key);
  CHECK(open(f.ring, f.sealed) == "x");
  f.pass(1s);
  CHECK(open(other, f.sealed) == "x");
  CHECK(inspect_text(seal(other)).version == 2);
  CHECK_NOTHROW(f.ring.verify(1));
}

TEST_CASE("a set that was removed while it was staged is archived when it is restored") {
  Rotated f;
  const Version staged = f.ring.add({.token = "t"}, Activation::Later);
  f.ring.remove(staged, none_left);
  f.pass(1h);
  f.ring.restore(staged);
  CHECK(state_of(f.ring, staged) == SetState::Archived);
  CHECK(f.ring.find(staged)->archived_at == f.store->clock);
  CHECK_THROWS_AS(f.ring.activate(staged), InvalidArgumentError);
  CHECK(f.join().list() == f.ring.list());
  f.pass(kGrace);
  CHECK_NOTHROW(f.ring.remove(staged, none_left));
}

TEST_CASE("a set is not restored if it is not deleted, or its key is not there") {
  Rotated f;
  CHECK_THROWS_AS(f.ring.restore(1), InvalidArgumentError);
  CHECK_THROWS_AS(f.ring.restore(2), InvalidArgumentError);
  CHECK_THROWS_AS(f.ring.restore(3), UnknownVersionError);
  const Bytes key = f.ring.find(1)->key.key_id;
  f.ring.remove(1, none_left);
  f.expect_unchanged([&] {
    f.token->fail(true);
    CHECK_THROWS_AS(f.ring.restore(1), TokenError);
    f.token->fail(false);
    f.token->replace_key(key);
    CHECK_THROWS_AS(f.ring.restore(1), WrongKeyError);
    f.token->remove_key(key);
    CHECK_THROWS_AS(f.ring.restore(1), KeyNotFoundError);
  });
}

TEST_CASE("a restored set holds the key that the ring has by then") {
  Rotated f;
  f.ring.add({.token = "t"});
  f.pass(kGrace);
  KeyRing other = f.join();
  f.ring.remove(1, none_left);
  // Another host changes the ring's key while the copy for the restored set is being stored.
  bool removed = false;
  f.store->on_swap = [&] {
    if (!std::exchange(removed, true)) other.remove(2, none_left);
  };
  f.ring.restore(1);
  REQUIRE(removed);
  CHECK_NOTHROW(f.ring.verify(1));
  f.provider->missing.insert("u");
  for (const auto& set : f.ring.list()) {
    if (set.version != 1 && set.state != SetState::Deleted) f.token->remove_key(set.key.key_id);
  }
  CHECK(f.join().list() == f.ring.list());
}

TEST_CASE("a set that is removed by two hosts at once is removed once") {
  Rotated f;
  KeyRing other = f.join();
  bool removed = false;
  f.store->on_swap = [&] {
    if (!std::exchange(removed, true)) other.remove(1, none_left);
  };
  CHECK_THROWS_AS(f.ring.remove(1, none_left), DeletedVersionError);
  CHECK(f.ring.generation() == other.generation());
  CHECK(seal(f.ring) != seal(other));
}

TEST_CASE("a set that another host restores while it is being removed is removed, and can be restored again") {
  Rotated f;
  KeyRing other = f.join();
  f.ring.remove(1, none_left);
  f.ring.restore(1);
  int round = 0;
  f.store->on_swap = [&] {
    switch (round++) {
      case 0:
        other.remove(1, none_left);
        break;
      case 2:
        other.restore(1);
        break;
      default:
        break;
    }
  };
  CHECK_THROWS_AS(f.ring.remove(1, none_left), DeletedVersionError);
  CHECK_THROWS_AS(f.ring.restore(1), InvalidArgumentError);
  CHECK(round == 4);
  CHECK(open(f.ring, f.sealed) == "x");
  CHECK(f.ring.list() == other.list());
}

TEST_CASE("a staged set that is activated while it is being removed stays") {
  Rotated f;
  KeyRing other = f.join();
  const Version staged = f.ring.add({.token = "t"}, Activation::Later);
  bool activated = false;
  f.store->on_swap = [&] {
    if (!std::exchange(activated, true)) other.activate(staged);
  };
  CHECK_THROWS_AS(f.ring.remove(staged, none_left), InvalidArgumentError);
  CHECK(f.ring.active().version == staged);
}

TEST_CASE("a removal of which nobody knows the outcome is seen when the store is read again") {
  Rotated f;
  f.store->on_swap = [&] { throw StoreInDoubtError("the connection broke"); };
  CHECK_THROWS_AS(f.ring.remove(1, none_left), StoreInDoubtError);
  CHECK(open(f.ring, f.sealed) == "x");
  f.store->on_swap = nullptr;
  KeyRing other = f.join();
  other.remove(1, none_left);  // as if the first had come through
  f.ring.refresh();
  CHECK_THROWS_AS(open(f.ring, f.sealed), DeletedVersionError);
}
