// What cannot be undone: records of removed sets that are erased, keys that are destroyed; and keys that are left over.
#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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

namespace {

constexpr auto kGrace = 60s;
constexpr auto kQuarantine = std::chrono::hours{24 * 7};
const Census kUnasked = [](Version) -> std::uint64_t { throw std::logic_error("the census was asked"); };

/// A function that does something the first time only, also if what it does calls it again.
template <typename Call>
auto once(Call call) {
  return [call, done = false](const auto&...) mutable {
    if (!std::exchange(done, true)) call();
  };
}

std::uint64_t some_left(Version) { return 3; }

/// A ring whose first set was removed, a quarantine ago, and has an envelope.
struct Removed : RingHosts {
  KeyRing ring = create();
  std::string sealed = seal(ring);
  Version second = ring.add({.token = "u"});
  CredentialSet first;

  Removed() {
    pass(kGrace);
    ring.remove(1, none_left);
    pass(kQuarantine);
    first = *ring.find(1);
    recorder->events.clear();
  }

  [[nodiscard]] bool key_is_there() const {
    try {
      return !token->key(first.key.key_id).empty();
    } catch (const KeyNotFoundError&) {
      return false;
    }
  }
  void destroy_first() { ring.destroy_key(1, none_left, {.version_again = 1}); }

  /// That neither the ring in the store nor the key in the token has changed since.
  template <typename Call>
  void expect_unchanged(const Call& call) {
    const auto records = store->records;
    call();
    CHECK(store->records == records);
    CHECK(key_is_there());
  }
  /// Does something once, between a change of this ring and its swap.
  template <typename Call>
  void before_swap(const Call& call) {
    store->on_swap = once(call);
  }
};

}  // namespace

// ---- purge ----------------------------------------------------------------------------------------------------------

TEST_CASE("a purged set is unknown, and its version is not used again") {
  Removed f;
  f.ring.purge(1, none_left);
  CHECK_FALSE(f.ring.find(1));
  CHECK(f.ring.list().size() == 1);
  CHECK_THROWS_AS(open(f.ring, f.sealed), UnknownVersionError);
  CHECK_THROWS_AS(f.ring.restore(1), UnknownVersionError);
  CHECK_THROWS_AS(f.ring.purge(1, none_left), UnknownVersionError);
  CHECK_THROWS_AS(f.ring.verify(1), UnknownVersionError);
  CHECK_THROWS_AS(f.destroy_first(), UnknownVersionError);
  CHECK(f.ring.add({.token = "t"}) == 3);
  CHECK(f.join().list() == f.ring.list());
  CHECK(f.recorder->events[0].kind == Event::Kind::RingChanged);
  CHECK(f.recorder->events[1].kind == Event::Kind::SetPurged);
  CHECK(f.recorder->events[1].version == 1);
}

TEST_CASE("the newest set's version is not used again after its purge") {
  RingHosts f;
  KeyRing ring = f.create();
  const Version staged = ring.add({.token = "t"}, Activation::Later);
  ring.remove(staged, none_left);
  f.pass(kQuarantine);
  ring.purge(staged, none_left);
  CHECK(ring.list().size() == 1);
  CHECK(ring.add({.token = "t"}) == staged + 1);
}

TEST_CASE("a purge leaves the key in its token, as an orphan that can be adopted again") {
  Removed f;
  CHECK(f.ring.orphans().empty());
  f.ring.purge(1, none_left);
  REQUIRE(f.ring.orphans().size() == 1);
  const FoundKey orphan = f.ring.orphans().front();
  CHECK(orphan.key_id == f.first.key.key_id);
  CHECK(orphan.version == 1);
  f.ring.add({.token = "t", .adopt_key_id = orphan.key_id});
  CHECK(f.ring.orphans().empty());
  CHECK_THROWS_AS(open(f.ring, f.sealed), UnknownVersionError);
}

TEST_CASE("a set is purged and its key destroyed only after the quarantine, by the store's clock") {
  Removed f;
  f.store->clock -= 1ms;
  f.passed += 1'000'000'000;
  f.expect_unchanged([&] {
    const auto message = message_of<SetInUseError>([&] { return f.ring.purge(1, kUnasked), 0; });
    CHECK_NAMES(message, "stays in quarantine until 2023-11-21 22:14:20 UTC");
    CHECK_THROWS_AS(f.ring.destroy_key(1, kUnasked, {1}), SetInUseError);
  });
  f.store->clock += 1ms;
  CHECK_NOTHROW(f.destroy_first());
  // The destruction has a quarantine of its own: another host may still be at it.
  CHECK_THROWS_AS(f.ring.purge(1, kUnasked), SetInUseError);
  f.store->clock += 24h * 7;
  CHECK_NOTHROW(f.ring.purge(1, none_left));
}

TEST_CASE("a quarantine begins anew when a set is removed again") {
  Removed f;
  f.ring.restore(1);
  f.ring.remove(1, none_left);
  f.expect_unchanged([&] {
    CHECK_THROWS_AS(f.ring.purge(1, kUnasked), SetInUseError);
    CHECK_THROWS_AS(f.ring.destroy_key(1, kUnasked, {1}), SetInUseError);
  });
}

TEST_CASE("nothing is purged or destroyed that envelopes name, is not deleted, or was not counted") {
  Removed f;
  f.expect_unchanged([&] {
    CHECK_THROWS_AS(f.ring.purge(1, some_left), SetInUseError);
    CHECK_THROWS_AS(f.ring.destroy_key(1, some_left, {1}), SetInUseError);
    CHECK_THROWS_AS(f.ring.purge(1, Census{}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.destroy_key(1, Census{}, {1}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.purge(2, kUnasked), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.destroy_key(2, kUnasked, {2}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.purge(3, kUnasked), UnknownVersionError);
    CHECK_THROWS_AS(f.ring.destroy_key(3, kUnasked, {3}), UnknownVersionError);
    CHECK_THROWS_AS(f.ring.purge(1, [](Version) -> std::uint64_t { throw std::domain_error("count"); }),
                    std::domain_error);
    CHECK_THROWS_AS(f.ring.destroy_key(1, kUnasked, {2}), InvalidArgumentError);
    CHECK_THROWS_AS(f.ring.destroy_key(1, kUnasked, {}), InvalidArgumentError);
  });
  CHECK_NOTHROW(f.ring.restore(1));
  CHECK(open(f.ring, f.sealed) == "x");
}

TEST_CASE("a second census is asked once, whoever is faster") {
  Removed f;
  int asked = 0;
  const Census census = [&](Version) {
    ++asked;
    return std::uint64_t{0};
  };
  f.store->conflicts = 3;
  f.ring.destroy_key(1, census, {1});
  CHECK(asked == 1);
  f.store->clock += 24h * 7;
  f.store->conflicts = 3;
  f.ring.purge(1, census);
  CHECK(asked == 2);
}

// ---- destroy --------------------------------------------------------------------------------------------------------

TEST_CASE("a destroyed key is gone, and its set says since when") {
  Removed f;
  f.destroy_first();
  CHECK_FALSE(f.key_is_there());
  CHECK(f.ring.find(1)->key_destroyed_at == f.store->clock);
  CHECK(f.ring.find(1)->deleted_at == f.first.deleted_at);
  CHECK_THROWS_AS(f.ring.restore(1), InvalidArgumentError);
  const auto message = message_of<DeletedVersionError>([&] { return open(f.ring, f.sealed); });
  CHECK_NAMES(message, "was removed on 2023-11-14 22:14:20 UTC; its key was destroyed on 2023-11-21 22:14:20 UTC");
  const std::vector expected{Event::Kind::RingChanged, Event::Kind::KeyDestroyed};
  CHECK(f.recorder->kinds() == expected);
  CHECK(f.join().list() == f.ring.list());
  f.store->clock += 24h * 7;
  CHECK_NOTHROW(f.ring.purge(1, none_left));
  CHECK(f.ring.orphans().empty());
}

TEST_CASE("the ring notes that a key is destroyed before it is") {
  Removed f;
  std::string seen;
  f.provider->before_destroy = [&](const KeyDescription&) {
    KeyRing other = f.join();
    CHECK(other.find(1)->key_destroyed_at == f.store->clock);
    seen = message_of<InvalidArgumentError>([&] { return other.restore(1), 0; });
  };
  f.destroy_first();
  CHECK_NAMES(seen, "its key was destroyed");
}

TEST_CASE("a key whose destruction fails half-way is destroyed when it is asked for again") {
  Removed f;
  f.provider->before_destroy = [](const KeyDescription&) {
    throw TokenError({"C_DestroyObject", 0x30, "CKR_DEVICE_ERROR", true}, "C_DestroyObject failed");
  };
  CHECK_THROWS_AS(f.destroy_first(), TokenError);
  CHECK(f.key_is_there());
  CHECK(f.ring.find(1)->key_destroyed_at);
  CHECK_THROWS_AS(f.ring.restore(1), InvalidArgumentError);
  CHECK(f.recorder->kinds() == std::vector{Event::Kind::RingChanged});
  f.provider->before_destroy = nullptr;
  const auto generation = f.ring.generation();
  f.pass(1s);
  KeyRing other = f.join();
  CHECK_NOTHROW(other.destroy_key(1, none_left, {1}));
  CHECK_FALSE(f.key_is_there());
  CHECK(other.generation() == generation);
  CHECK_NOTHROW(f.destroy_first());  // once more does no harm
  f.store->clock += 24h * 7;
  CHECK_NOTHROW(f.ring.purge(1, none_left));
}

TEST_CASE("a key that does not answer is not noted as destroyed") {
  Removed f;
  f.expect_unchanged([&] {
    f.token->fail(true);
    CHECK_THROWS_AS(f.destroy_first(), TokenError);
    f.token->fail(false);
    f.provider->missing = {"t"};
    CHECK_THROWS_AS(f.destroy_first(), KeyNotFoundError);
    f.provider->missing = {};
    f.provider->exchanged["t"] = f.ring.active().key.key_id;
    CHECK_THROWS_AS(f.destroy_first(), WrongKeyError);
    f.provider->exchanged = {};
  });
  CHECK_NOTHROW(f.ring.restore(1));
}

TEST_CASE("a key that another set uses is not destroyed, whatever that set's state") {
  RingHosts f;
  KeyRing ring = f.create();
  const Bytes key = ring.active().key.key_id;
  ring.add({.token = "t", .adopt_key_id = key});
  ring.add({.token = "t"});
  f.pass(kGrace);
  ring.remove(1, none_left);
  f.pass(kQuarantine);
  const auto refused = [&] {
    const auto message = message_of<InvalidArgumentError>([&] { return ring.destroy_key(1, none_left, {1}), 0; });
    CHECK_NAMES(message, "also that of set 2");
  };
  refused();
  ring.remove(2, none_left);
  refused();
  f.pass(kQuarantine);
  ring.purge(2, none_left);
  CHECK_NOTHROW(ring.destroy_key(1, none_left, {1}));
  CHECK_THROWS_AS(f.token->key(key), KeyNotFoundError);
}

TEST_CASE("a key that another host adopts before its destruction is noted is not destroyed") {
  Removed f;
  KeyRing other = f.join();
  f.before_swap([&] { other.add({.token = "t", .adopt_key_id = f.first.key.key_id}); });
  CHECK_THROWS_AS(f.destroy_first(), InvalidArgumentError);
  CHECK(f.key_is_there());
  CHECK_FALSE(f.ring.find(1)->key_destroyed_at);
}

TEST_CASE("a key that is adopted by two hosts at once is one key to the ring") {
  RingHosts f;
  KeyRing ring = f.create();
  KeyRing other = f.join();
  const Bytes key{std::byte{7}};
  f.token->replace_key(key);
  f.provider->after_provision = once([&] { other.add({.token = "t", .adopt_key_id = key}); });
  ring.add({.token = "t", .adopt_key_id = key});
  REQUIRE(ring.list().size() == 3);
  CHECK(ring.find(2)->key.kek_id == ring.find(3)->key.kek_id);
  for (const auto& set : ring.list()) CHECK_NOTHROW(ring.verify(set.version));
  int swaps = 0;
  f.store->on_swap = [&] {
    if (++swaps == 2) other.add({.token = "t", .adopt_key_id = Bytes{std::byte{8}}});
  };
  f.token->replace_key({std::byte{8}});
  ring.add({.token = "t", .adopt_key_id = Bytes{std::byte{8}}});
  REQUIRE(ring.list().size() == 5);
  CHECK(ring.find(4)->key.kek_id == ring.find(5)->key.kek_id);
  for (const auto& set : ring.list()) CHECK_NOTHROW(ring.verify(set.version));
}

TEST_CASE("a key whose destruction was noted is not adopted any more") {
  Removed f;
  KeyRing other = f.join();
  f.provider->before_destroy = [&](const KeyDescription& key) {
    const auto message =
        message_of<InvalidArgumentError>([&] { return other.add({.token = "t", .adopt_key_id = key.key_id}); });
    CHECK_NAMES(message, "destroy");
  };
  f.destroy_first();
  CHECK_FALSE(f.key_is_there());
  CHECK(f.join().list() == f.ring.list());
  CHECK(other.active().version == 2);
}

TEST_CASE("two hosts that destroy a key at once both find it destroyed") {
  Removed f;
  KeyRing other = f.join();
  SECTION("the other one is faster before it is noted") {
    f.before_swap([&] { other.destroy_key(1, none_left, {1}); });
  }
  SECTION("the other one is faster after it is noted") {
    f.provider->before_destroy = once([&] { other.destroy_key(1, none_left, {1}); });
  }
  CHECK_NOTHROW(f.destroy_first());
  CHECK_FALSE(f.key_is_there());
  f.ring.refresh();
  other.refresh();
  CHECK(f.ring.list() == other.list());
}

// ---- races ----------------------------------------------------------------------------------------------------------

TEST_CASE("a set that is restored while it is being purged or destroyed stays") {
  Removed f;
  KeyRing other = f.join();
  f.before_swap([&] { other.restore(1); });
  SECTION("purged") { CHECK_THROWS_AS(f.ring.purge(1, none_left), InvalidArgumentError); }
  SECTION("destroyed") { CHECK_THROWS_AS(f.destroy_first(), InvalidArgumentError); }
  SECTION("restored while it is counted") {
    f.store->on_swap = nullptr;
    const Census census = [&](Version) {
      other.restore(1);
      return std::uint64_t{0};
    };
    CHECK_THROWS_AS(f.ring.destroy_key(1, census, {1}), InvalidArgumentError);
  }
  SECTION("restored and removed again") {
    f.before_swap([&] {
      other.restore(1);
      other.remove(1, none_left);
    });
    CHECK_THROWS_AS(f.destroy_first(), SetInUseError);
    f.ring.restore(1);
  }
  CHECK(f.key_is_there());
  CHECK(open(f.ring, f.sealed) == "x");
}

TEST_CASE("a set that is purged while it is being restored, purged or destroyed is unknown") {
  Removed f;
  KeyRing other = f.join();
  f.before_swap([&] { other.purge(1, none_left); });
  SECTION("restored") { CHECK_THROWS_AS(f.ring.restore(1), UnknownVersionError); }
  SECTION("purged") { CHECK_THROWS_AS(f.ring.purge(1, none_left), UnknownVersionError); }
  SECTION("destroyed") { CHECK_THROWS_AS(f.destroy_first(), UnknownVersionError); }
  CHECK(f.key_is_there());
  CHECK(f.ring.orphans().size() == 1);
}

TEST_CASE("a set whose key is being destroyed while it is restored is not restored") {
  Removed f;
  KeyRing other = f.join();
  f.before_swap([&] { other.destroy_key(1, none_left, {1}); });
  CHECK_THROWS_AS(f.ring.restore(1), InvalidArgumentError);
  CHECK(f.ring.find(1)->state == SetState::Deleted);
}

TEST_CASE("a set whose key is being destroyed is not moved to another place, where the key would stay") {
  Removed f;
  KeyRing other = f.join();
  f.provider->before_destroy = [&](const KeyDescription&) {
    CHECK_THROWS_AS(other.amend(1, {.token = "moved"}), InvalidArgumentError);
    CHECK_NOTHROW(other.amend(1, {.description = "going"}));
  };
  CHECK_NOTHROW(f.destroy_first());
  CHECK_FALSE(f.key_is_there());
  CHECK(other.find(1)->description == "going");
}

// ---- orphans --------------------------------------------------------------------------------------------------------

TEST_CASE("a key whose set could not be stored is an orphan") {
  RingHosts f;
  KeyRing ring = f.create();
  CHECK(ring.orphans().empty());
  int swaps = 0;
  SECTION("the store fails") {
    f.store->on_swap = [&] {
      if (++swaps == 2) throw StoreError("the store is down");
    };
    CHECK_THROWS_AS(ring.add({.token = "t"}), StoreError);
  }
  SECTION("the connection breaks") {
    f.store->on_swap = [&] {
      if (++swaps == 2) throw StoreInDoubtError("the connection broke");
    };
    CHECK_THROWS_AS(ring.add({.token = "t"}), StoreInDoubtError);
  }
  SECTION("other hosts are always faster") {
    f.store->on_swap = [&] {
      if (++swaps == 2) f.store->conflicts = 1000;
    };
    const auto message = message_of<StoreConflictError>([&] { return ring.add({.token = "t"}); });
    CHECK_NAMES(message, "its key 'hsmseal-" + ring.id().to_string() + "-v2' stays in token 't', unused");
  }
  f.store->on_swap = nullptr;
  f.store->conflicts = 0;
  REQUIRE(ring.orphans().size() == 1);
  CHECK(ring.orphans().front().version == 2);
  CHECK(ring.list().size() == 1);
  CHECK(ring.add({.token = "t"}) == 3);
  CHECK(ring.orphans().size() == 1);
}

TEST_CASE("an add of which nobody knows the outcome has no orphan if it came through") {
  RingHosts f;
  KeyRing ring = f.create();
  struct Doubtful final : RingStore {
    explicit Doubtful(std::shared_ptr<test::OpenStore> kept) : inner(std::move(kept)) {}
    std::optional<RingRecord> load() override { return inner->load(); }
    std::optional<RingHead> head() override { return inner->head(); }
    bool compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& record) override {
      const bool stored = inner->compare_and_swap(expected, record);
      if (++swaps == 2) throw StoreInDoubtError("the connection broke");
      return stored;
    }
    std::vector<RingRecord> history(std::size_t most) override { return inner->history(most); }
    std::uint64_t reserve_usage(const KekId& id, std::uint64_t block) override {
      return inner->reserve_usage(id, block);
    }
    Timestamp now() override { return inner->now(); }
    std::shared_ptr<test::OpenStore> inner;
    int swaps = 0;
  };
  KeyRing doubtful = KeyRing::open(std::make_shared<Doubtful>(f.store), f.provider, RingPin::in_process(), f.options());
  CHECK_THROWS_AS(doubtful.add({.token = "t"}), StoreInDoubtError);
  CHECK(doubtful.active().version == 1);
  doubtful.refresh();
  CHECK(doubtful.active().version == 2);
  CHECK(doubtful.orphans().empty());
  ring.refresh();
  CHECK(open(ring, seal(doubtful)) == "x");
}

TEST_CASE("orphans are not listed if a token cannot be asked") {
  Removed f;
  f.token->fail(true);
  CHECK_THROWS_AS(f.ring.orphans(), TokenError);
}
