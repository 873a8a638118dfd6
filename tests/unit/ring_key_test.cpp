#include "ring/ring_key.hpp"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "crypto/crypto.hpp"
#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::hex;

namespace {

/// A ring that had three keys before the present one.
struct RekeyedRing {
  std::vector<SecretBytes> keys;
  ring::Body body;

  RekeyedRing() {
    body.id = {crypto::random_array<16>()};
    for (int i = 0; i < 4; ++i) keys.push_back(crypto::random_secret(crypto::kKeyBytes));
    for (std::size_t i = 0; i < 3; ++i) {
      body.former_ring_keys.push_back(ring::wrap_former_ring_key(keys[i], keys[i + 1], body.id, i));
    }
  }

  [[nodiscard]] const SecretBytes& present() const { return keys.back(); }

  /// How many keys are found from the present one, which counts.
  [[nodiscard]] int found() const {
    int found = 0;
    for (const SecretBytes& key : keys) found += ring::leads_to(body, present(), ring::key_check(key)) ? 1 : 0;
    return found;
  }
};

}  // namespace

TEST_CASE("every key that a ring had is found from the present one") {
  const RekeyedRing r;
  for (std::size_t i = 0; i < r.keys.size(); ++i) {
    INFO(i);
    const auto key = ring::former_ring_key(r.body, r.present(), i);
    REQUIRE(key);
    CHECK(hex(key->view()) == hex(r.keys[i].view()));
  }
  CHECK_FALSE(ring::former_ring_key(r.body, r.present(), 4));
  CHECK(r.found() == 4);
  CHECK_FALSE(ring::leads_to(r.body, r.present(), ring::key_check(crypto::random_secret(crypto::kKeyBytes))));
}

TEST_CASE("a former ring key leads to no later one") {
  const RekeyedRing r;
  for (std::size_t i = 0; i < 3; ++i) {
    INFO(i);
    CHECK_FALSE(ring::leads_to(r.body, r.keys[i], ring::key_check(r.present())));
    CHECK_FALSE(ring::former_ring_key(r.body, r.keys[i], 0));
  }
}

TEST_CASE("a former ring key that was altered or moved ends the way back") {
  for (std::size_t bit = 0; bit < 60 * 8; ++bit) {
    RekeyedRing r;
    Bytes& link = r.body.former_ring_keys[1];
    REQUIRE(link.size() == 60);
    link = test::with_flipped_bit(link, bit);
    INFO("bit " << bit);
    CHECK(r.found() == 2);
    CHECK(ring::former_ring_key(r.body, r.present(), 2));
    CHECK_FALSE(ring::former_ring_key(r.body, r.present(), 1));
    CHECK_FALSE(ring::former_ring_key(r.body, r.present(), 0));
  }
  RekeyedRing swapped, shorter, without_newest, in_another_ring;
  std::swap(swapped.body.former_ring_keys[0], swapped.body.former_ring_keys[1]);
  CHECK(swapped.found() == 2);
  shorter.body.former_ring_keys[1].pop_back();
  CHECK(shorter.found() == 2);
  without_newest.body.former_ring_keys.pop_back();
  CHECK(without_newest.found() == 1);
  in_another_ring.body.id.bytes[15] ^= std::byte{1};
  CHECK(in_another_ring.found() == 1);
}

TEST_CASE("what tells a ring key is not the key, and is another for each") {
  std::set<std::string> checks;
  for (int i = 0; i < 16; ++i) {
    const SecretBytes key = crypto::random_secret(crypto::kKeyBytes);
    CHECK(ring::key_check(key) == ring::key_check(key.clone()));
    CHECK(hex(ring::key_check(key)) != hex(key.view()));
    checks.insert(hex(ring::key_check(key)));
  }
  CHECK(checks.size() == 16);
}

TEST_CASE("a former ring key is wrapped with a nonce of its own each time") {
  const SecretBytes former = crypto::random_secret(crypto::kKeyBytes), next = crypto::random_secret(crypto::kKeyBytes);
  const RingId id{crypto::random_array<16>()};
  std::set<std::string> nonces;
  for (int i = 0; i < 16; ++i) {
    const Bytes link = ring::wrap_former_ring_key(former, next, id, 0);
    REQUIRE(link.size() == 60);
    nonces.insert(hex(ByteView{link}.first(12)));
  }
  CHECK(nonces.size() == 16);
}
