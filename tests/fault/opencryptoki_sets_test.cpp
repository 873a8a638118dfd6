// Sets on openCryptoki's soft token, which in 3.8.1 has no AES-GCM and says CKR_OK to altered AES-CBC.

#include <hsmseal/envelope.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/opencryptoki.hpp"
#include "support/ring_parts.hpp"

using namespace hsmseal;
using test::OpenCryptoki;

namespace {

Host host_of(const OpenCryptoki& ock) {
  Host host;
  host.token("ock", ock.binding());
  return host;
}

/// 3.8 has nothing else, and finds it by itself; 3.23 has AES-GCM too.
const SetSpec kCbcHmac{.token = "ock", .algorithm = WrapAlgorithm::Aes256CbcHmac};

}  // namespace

TEST_CASE("openCryptoki takes a set with AES-CBC and HMAC, and opens it after its daemon's restart") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  const auto store = memory_ring_store();
  auto ring = KeyRing::create(store, pkcs11_provider(host_of(ock)), kCbcHmac, RingPin::in_process());
  const auto key = ring.active().key;
  CHECK(key.profile == WrapProfile{WrapAlgorithm::Aes256CbcHmac, {}});
  CHECK(key.mac_key_id.size() == 16);
  const EnvelopeEncryptor vault{ring};
  const Bytes sealed = vault.seal(bytes_of("secret"), kNoContext);
  const auto check_works = [&] {
    CHECK(vault.open(sealed, kNoContext).text() == "secret");
    CHECK(vault.open(vault.seal(bytes_of("new"), kNoContext), kNoContext).text() == "new");
    const EnvelopeEncryptor anew{KeyRing::open(store, pkcs11_provider(host_of(ock)), RingPin::in_process())};
    CHECK(anew.open(sealed, kNoContext).text() == "secret");
  };
  check_works();
  ock.kill_daemon();
  ock.start_daemon();
  check_works();
  for (std::size_t at = 32; at < sealed.size(); ++at) {
    Bytes changed = sealed;
    changed[at] ^= std::byte{1};
    CHECK_THROWS_AS(vault.open(changed, kNoContext), Error);
  }
  REQUIRE(ring.add(kCbcHmac) == 2);
  CHECK(vault.open(vault.rewrap(sealed), kNoContext).text() == "secret");
  CHECK(ring.orphans().empty());
}

TEST_CASE("openCryptoki gives the provider two keys as they are asked for, and both back") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  const auto provider = pkcs11_provider(host_of(ock));
  const RingId ring{{std::byte{1}}};
  const KeyDescription key = provider->provision(kCbcHmac, ring, 1);
  CHECK(key.profile.algorithm == WrapAlgorithm::Aes256CbcHmac);
  REQUIRE(provider->find_keys(ring, "ock").size() == 2);
  const auto wrapper = provider->connect(key, 1);
  const Bytes wrapped = wrapper->wrap(Bytes(32, std::byte{7}), bytes_of("context"));
  CHECK(wrapped.size() == 80);
  for (std::size_t at = 0; at < wrapped.size(); ++at) {
    Bytes changed = wrapped;
    changed[at] ^= std::byte{1};
    CHECK_THROWS_AS(wrapper->unwrap(changed, bytes_of("context")), OpenError);
  }
  CHECK(wrapper->unwrap(wrapped, bytes_of("context")).size() == 32);
  provider->destroy(key);
  CHECK(provider->find_keys(ring, "ock").empty());
}
