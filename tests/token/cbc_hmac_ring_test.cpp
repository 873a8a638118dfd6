#include <hsmseal/envelope.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_parts.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using test::SoftHsm;

namespace {

const SoftHsm& softhsm() { return SoftHsm::instance(); }

KeyRing open_anew(const std::shared_ptr<RingStore>& store) {
  return KeyRing::open(store, pkcs11_provider(softhsm().host()), RingPin::in_process());
}

SetSpec cbc_hmac(const std::string& token) { return {.token = token, .algorithm = WrapAlgorithm::Aes256CbcHmac}; }

}  // namespace

TEST_CASE("a ring whose sets wrap with AES-GCM and with AES-CBC and HMAC lives its whole life") {
  const auto store = memory_ring_store();
  auto ring = KeyRing::create(store, pkcs11_provider(softhsm().host()), cbc_hmac("one"), RingPin::in_process());
  const EnvelopeEncryptor vault{ring};
  const Bytes first = vault.seal(bytes_of("secret"), kNoContext);
  CHECK(inspect(first).version == 1);
  REQUIRE(ring.add({.token = "two"}) == 2);
  const Bytes second = vault.rewrap(first);
  CHECK(inspect(second).version == 2);
  REQUIRE(ring.add(cbc_hmac("two")) == 3);
  const Bytes third = vault.rewrap(second);
  CHECK(inspect(third).version == 3);
  REQUIRE(ring.add({.token = "one"}) == 4);
  const Bytes fourth = vault.rewrap(third);
  CHECK(inspect(fourth).version == 4);
  for (const Version version : {1U, 2U, 3U, 4U}) CHECK_NOTHROW(ring.verify(version));
  const auto anew = open_anew(store);
  const EnvelopeEncryptor elsewhere{anew};
  for (const Bytes& sealed : {first, second, third, fourth}) {
    CHECK(vault.open(sealed, kNoContext).text() == "secret");
    CHECK(elsewhere.open(sealed, kNoContext).text() == "secret");
    Bytes changed = sealed;
    changed[40] ^= std::byte{1};
    CHECK_THROWS_AS(vault.open(changed, kNoContext), OpenError);
  }
  CHECK(ring.orphans().empty());
}

TEST_CASE("an adopted key that a set uses keeps its kek_id, whatever the two wrap with") {
  auto ring =
      KeyRing::create(memory_ring_store(), pkcs11_provider(softhsm().host()), cbc_hmac("one"), RingPin::in_process());
  const auto made = ring.find(1)->key;
  const auto adopted = [&](const SetSpec& spec) { return ring.find(ring.add(spec))->key; };
  const auto same = adopted({.token = "one", .adopt_key_id = made.key_id, .adopt_mac_key_id = made.mac_key_id});
  CHECK(same.kek_id == made.kek_id);
  CHECK(same.proof == made.proof);
  const auto other_mac =
      adopted({.token = "one", .adopt_key_id = made.key_id, .algorithm = WrapAlgorithm::Aes256CbcHmac});
  CHECK(other_mac.kek_id == made.kek_id);
  const auto gcm = adopted({.token = "one", .adopt_key_id = made.key_id, .algorithm = WrapAlgorithm::Aes256Gcm});
  CHECK(gcm.kek_id == made.kek_id);
  CHECK(gcm.mac_key_id.empty());
  for (const CredentialSet& set : ring.list()) CHECK_NOTHROW(ring.verify(set.version));
  const EnvelopeEncryptor vault{ring};
  CHECK(vault.open(vault.seal(bytes_of("secret"), kNoContext), kNoContext).text() == "secret");
}
