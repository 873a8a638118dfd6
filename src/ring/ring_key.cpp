#include "ring/ring_key.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::ring {
namespace {

SecretBytes link_key(const SecretBytes& next) {
  return crypto::hkdf_expand_sha256(next.view(), bytes_of(core::kFormerRingKeyLabel), crypto::kKeyBytes);
}

Bytes link_aad(const RingId& ring, std::size_t index) {
  return core::Binding{core::kFormerRingKeyLabel}.append(ring).append(std::uint64_t{index}).take();
}

}  // namespace

std::array<std::byte, 32> key_check(const SecretBytes& ring_key) {
  const SecretBytes check =
      crypto::hkdf_expand_sha256(ring_key.view(), bytes_of(core::kRingKeyCheckLabel), crypto::kKeyBytes);
  std::array<std::byte, 32> bytes{};
  std::ranges::copy(check.view(), bytes.begin());
  return bytes;
}

Bytes wrap_former_ring_key(const SecretBytes& former, const SecretBytes& next, const RingId& ring, std::size_t index) {
  const auto nonce = crypto::random_array<crypto::kNonceBytes>();
  SecretBytes text = former.clone();
  std::array<std::byte, crypto::kTagBytes> tag;
  crypto::aes256_gcm_encrypt(link_key(next).view(), nonce, link_aad(ring, index), text.writable(), tag);
  return core::Binding{""}.append(ByteView{nonce}).append(text.view()).append(ByteView{tag}).take();
}

std::optional<SecretBytes> ring_key_before(const Body& body, const SecretBytes& next, std::size_t index) {
  const ByteView link = body.former_ring_keys[index];
  SecretBytes former{link.subspan(crypto::kNonceBytes, crypto::kKeyBytes)};
  if (!crypto::aes256_gcm_decrypt(link_key(next).view(), link.first(crypto::kNonceBytes), link_aad(body.id, index),
                                  former.writable(), link.last<crypto::kTagBytes>())) {
    return std::nullopt;
  }
  return former;
}

std::optional<SecretBytes> former_ring_key(const Body& body, const SecretBytes& present, std::size_t index) {
  if (index >= body.former_ring_keys.size()) return std::nullopt;
  std::optional<SecretBytes> key = present.clone();
  for (std::size_t at = body.former_ring_keys.size(); key && at-- > index;) key = ring_key_before(body, *key, at);
  return key;
}

}  // namespace hsmseal::ring
