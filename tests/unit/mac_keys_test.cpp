// Sets of AES-CBC and HMAC have two keys: they are adopted, destroyed, left over and salvaged together.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "ring/salvage.hpp"
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

constexpr auto kCbc = WrapAlgorithm::Aes256CbcHmac;
constexpr auto kQuarantine = std::chrono::hours{24 * 7};

SetSpec cbc() { return {.token = "t", .algorithm = kCbc}; }

/// A ring whose second set, the active one, wraps with CBC and HMAC.
struct TwoKeys : RingHosts {
  KeyRing ring = create();
  Version version = ring.add(cbc());
  KeyDescription key = ring.active().key;
  std::string sealed = seal(ring);

  /// The set's keys, adopted anew.
  [[nodiscard]] SetSpec both() const {
    SetSpec spec = cbc();
    spec.adopt_key_id = key.key_id;
    spec.adopt_mac_key_id = key.mac_key_id;
    return spec;
  }
  [[nodiscard]] bool holds(const Bytes& id) const {
    try {
      return !token->key(id).empty();
    } catch (const KeyNotFoundError&) {
      return false;
    }
  }
  /// Removes a set and waits until its key may be destroyed.
  void remove_for_good(Version removed) {
    pass(60s);
    ring.remove(removed, none_left);
    pass(kQuarantine);
  }
};

}  // namespace

// ---- adoption -------------------------------------------------------------------------------------------------------

TEST_CASE("two keys that a set already uses are recognised when they are adopted") {
  TwoKeys f;
  f.ring.add(f.both());
  const KeyDescription again = f.ring.active().key;
  CHECK(again.kek_id == f.key.kek_id);
  CHECK(again.proof == f.key.proof);
  CHECK(again.mac_key_id == f.key.mac_key_id);
  CHECK_NOTHROW(f.ring.verify(3));
  CHECK(open(f.ring, f.sealed) == "x");
  CHECK(open(f.join(), seal(f.ring)) == "x");
}

TEST_CASE("an adopted key is recognised also if it is to wrap in another way") {
  TwoKeys f;
  const KeyDescription first = f.ring.find(1)->key;
  SECTION("with CBC and HMAC, where it wrapped with AES-GCM") {
    SetSpec spec = cbc();
    spec.adopt_key_id = first.key_id;
    f.ring.add(spec);
    CHECK(f.ring.active().key.kek_id == first.kek_id);
  }
  SECTION("with AES-GCM, where it wrapped with CBC and HMAC") {
    f.ring.add({.token = "t", .adopt_key_id = f.key.key_id});
    CHECK(f.ring.active().key.kek_id == f.key.kek_id);
  }
  SECTION("with another MAC key") {
    SetSpec spec = cbc();
    spec.adopt_key_id = f.key.key_id;
    f.ring.add(spec);
    CHECK(f.ring.active().key.kek_id == f.key.kek_id);
    CHECK(f.ring.active().key.mac_key_id != f.key.mac_key_id);
  }
  SECTION("with a longer IV") {
    f.ring.add({.token = "t", .adopt_key_id = first.key_id, .gcm = GcmForm{IvRule::TokenWrites, 16}});
    CHECK(f.ring.active().key.kek_id == first.kek_id);
  }
  // Its proof is its own: the other set's is of another form.
  const KeyDescription again = f.ring.active().key;
  CHECK(again.proof != first.proof);
  CHECK(again.proof != f.key.proof);
  for (const Version version : {1U, 2U, 3U}) CHECK_NOTHROW(f.ring.verify(version));
  CHECK(open(f.ring, f.sealed) == "x");
  CHECK(open(f.join(), seal(f.ring)) == "x");
}

TEST_CASE("a key of the same id that is another key is not recognised") {
  TwoKeys f;
  const Bytes first = f.ring.find(1)->key.key_id;
  f.token->replace_key(first);
  SetSpec spec = cbc();
  spec.adopt_key_id = first;
  f.ring.add(spec);
  CHECK(f.ring.active().key.kek_id != f.ring.find(1)->key.kek_id);
  f.token->remove_key(f.key.mac_key_id);  // what its proof needs
  f.ring.add({.token = "t", .adopt_key_id = f.key.key_id});
  CHECK(f.ring.active().key.kek_id != f.key.kek_id);
}

// ---- destruction ----------------------------------------------------------------------------------------------------

TEST_CASE("both keys of a set are destroyed, and the set's record goes on to tell of them") {
  TwoKeys f;
  f.ring.add({.token = "t"});
  f.remove_for_good(2);
  REQUIRE(f.holds(f.key.mac_key_id));
  f.ring.destroy_key(2, none_left, {2});
  CHECK_FALSE(f.holds(f.key.key_id));
  CHECK_FALSE(f.holds(f.key.mac_key_id));
  CHECK(f.ring.find(2)->key == f.key);
  CHECK(f.join().list() == f.ring.list());
}

TEST_CASE("a key is not destroyed while a set wraps with it in another way") {
  TwoKeys f;
  f.ring.add({.token = "t", .adopt_key_id = f.key.key_id});
  f.remove_for_good(2);
  const auto message = message_of<InvalidArgumentError>([&] { return f.ring.destroy_key(2, none_left, {2}), 0; });
  CHECK_NAMES(message, "also that of set 3");
  CHECK(f.holds(f.key.key_id));
  CHECK_NOTHROW(f.ring.verify(3));
}

TEST_CASE("a set's keys are not destroyed while its MAC key serves another set") {
  TwoKeys f;
  SetSpec spec = cbc();
  spec.adopt_key_id = Bytes{std::byte{7}};
  spec.adopt_mac_key_id = f.key.mac_key_id;
  f.token->replace_key({std::byte{7}});
  f.ring.add(spec);
  CHECK(f.ring.active().key.kek_id != f.key.kek_id);
  f.remove_for_good(2);
  const auto message = message_of<InvalidArgumentError>([&] { return f.ring.destroy_key(2, none_left, {2}), 0; });
  CHECK_NAMES(message, "also that of set 3");
  CHECK(f.holds(f.key.key_id));
  CHECK(f.holds(f.key.mac_key_id));
  CHECK_NOTHROW(f.ring.verify(3));
}

TEST_CASE("a MAC key that is being destroyed is not adopted with another key") {
  TwoKeys f;
  f.ring.add({.token = "t"});
  f.remove_for_good(2);
  f.token->replace_key({std::byte{7}});
  KeyRing other = f.join();
  bool asked = false;
  f.provider->before_destroy = [&](const KeyDescription&) {
    SetSpec spec = f.both();
    spec.adopt_key_id = Bytes{std::byte{7}};
    CHECK_NAMES(message_of<InvalidArgumentError>([&] { return other.add(spec); }), "destroyed");
    asked = true;
  };
  f.ring.destroy_key(2, none_left, {2});
  CHECK(asked);
  CHECK(f.join().list().size() == 3);
}

// ---- what is left over ----------------------------------------------------------------------------------------------

TEST_CASE("of a purged set both keys are orphans, each told which it is") {
  TwoKeys f;
  f.ring.add({.token = "t"});
  CHECK(f.ring.orphans().empty());
  f.remove_for_good(2);
  f.ring.purge(2, none_left);
  std::vector<FoundKey> found = f.ring.orphans();
  REQUIRE(found.size() == 2);
  if (found.front().part == KeyPart::Mac) std::swap(found.front(), found.back());
  CHECK(found.front().part == KeyPart::Encryption);
  CHECK(found.front().key_id == f.key.key_id);
  CHECK(found.back().part == KeyPart::Mac);
  CHECK(found.back().key_id == f.key.mac_key_id);
  CHECK(found.back().version == 2);
  // The key adopted without its MAC key leaves that alone.
  f.ring.add({.token = "t", .adopt_key_id = f.key.key_id});
  REQUIRE(f.ring.orphans().size() == 1);
  CHECK(f.ring.orphans().front().part == KeyPart::Mac);
}

TEST_CASE("a token alone opens what its two keys have sealed") {
  TwoKeys f;
  const std::string first = seal(f.ring);
  f.ring.add({.token = "t"});
  const std::string of_gcm = seal(f.ring);
  const KeyRing salvaged = KeyRing::salvage_from_token(f.provider, "", f.ring.id());
  REQUIRE(salvaged.list().size() == 3);
  CHECK(salvaged.find(2)->key.profile.algorithm == kCbc);
  CHECK(salvaged.find(2)->key.mac_key_id == f.key.mac_key_id);
  CHECK(salvaged.find(3)->key.profile == WrapProfile{});
  CHECK(salvaged.find(3)->key.mac_key_id.empty());
  for (const std::string& sealed : {f.sealed, first, of_gcm}) CHECK(open(salvaged, sealed) == "x");
}

TEST_CASE("a damaged record's set of two keys opens what it sealed") {
  TwoKeys f;
  f.store->record->body.resize(f.store->record->body.find("\"settings\""));
  f.store->records.clear();
  const KeyRing salvaged = KeyRing::open_for_salvage(f.store, f.provider, f.ring.id());
  REQUIRE(salvaged.list().size() == 2);
  CHECK(salvaged.find(2)->key == f.key);
  CHECK(open(salvaged, f.sealed) == "x");
}

TEST_CASE("of two keys one opens nothing") {
  TwoKeys f;
  SECTION("the MAC key is gone") {
    f.token->remove_key(f.key.mac_key_id);
    CHECK_THROWS_AS(open(KeyRing::salvage_from_token(f.provider, "", f.ring.id()), f.sealed), OpenError);
  }
  SECTION("the other one is gone") {
    f.token->remove_key(f.key.key_id);
    CHECK_THROWS_AS(open(KeyRing::salvage_from_token(f.provider, "", f.ring.id()), f.sealed), UnknownVersionError);
  }
}

TEST_CASE("a MAC key is paired with the key of its own version and token") {
  const auto key = [](const char* token, Version version, KeyPart part, int id) {
    return FoundKey{token, "l", "s", Bytes(16, static_cast<std::byte>(id)), "hsmseal", version, part};
  };
  constexpr auto kKey = KeyPart::Encryption, kMac = KeyPart::Mac;
  const std::vector<CredentialSet> sets = ring::sets_of(
      {key("a", 1, kKey, 1), key("a", 2, kMac, 2), key("a", 2, kKey, 3), key("b", 1, kMac, 4), key("a", 4, kMac, 5)});
  REQUIRE(sets.size() == 2);
  CHECK(sets[0].version == 1);
  CHECK(sets[0].key.mac_key_id.empty());
  CHECK(sets[0].key.profile.algorithm == WrapAlgorithm::Aes256Gcm);
  CHECK(sets[1].version == 2);
  CHECK(sets[1].key.key_id == Bytes(16, std::byte{3}));
  CHECK(sets[1].key.mac_key_id == Bytes(16, std::byte{2}));
  CHECK(sets[1].key.profile.algorithm == kCbc);
}
