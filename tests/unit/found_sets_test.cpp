#include <vector>

#include "ring/salvage.hpp"
#include "support/catch.hpp"

using namespace hsmseal;

TEST_CASE("a set that its token alone describes opens as its keys and its vendor's documents say") {
  const GcmForm appends{.iv_rule = IvRule::TokenAppends, .iv_bytes = 16};
  FoundKey one{"hsm", "label", "serial", Bytes(16, std::byte{1}), "hsmseal-v1", 1};
  one.gcm = appends;
  FoundKey two{"hsm", "label", "serial", Bytes(16, std::byte{2}), "hsmseal-v2", 2};
  two.gcm = appends;
  FoundKey beside_two{"hsm", "label", "serial", Bytes(16, std::byte{3}), "hsmseal-v2-mac", 2, KeyPart::Mac};
  const auto sets = ring::sets_of({one, two, beside_two});
  REQUIRE(sets.size() == 2);
  CHECK(sets[0].key.profile == WrapProfile{.gcm = appends});
  CHECK(sets[0].key.mac_key_id.empty());
  CHECK(sets[1].key.profile == WrapProfile{WrapAlgorithm::Aes256CbcHmac, {}});
  CHECK(sets[1].key.mac_key_id == beside_two.key_id);
}
