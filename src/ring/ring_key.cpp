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

std::optional<SecretBytes> unwrap_link(const Body& body, const SecretBytes& next, std::size_t index) {
  const ByteView link = body.former_ring_keys.at(index);
  if (link.size() != crypto::kNonceBytes + crypto::kKeyBytes + crypto::kTagBytes) return std::nullopt;
  SecretBytes key{link.subspan(crypto::kNonceBytes, crypto::kKeyBytes)};
  const bool opened =
      crypto::aes256_gcm_decrypt(link_key(next).view(), link.first(crypto::kNonceBytes), link_aad(body.id, index),
                                 key.writable(), link.last<crypto::kTagBytes>());
  return opened ? std::optional{std::move(key)} : std::nullopt;
}

}  // namespace

std::array<std::byte, 32> key_check(const SecretBytes& ring_key) {
  const SecretBytes derived =
      crypto::hkdf_expand_sha256(ring_key.view(), bytes_of(core::kRingKeyCheckLabel), crypto::kKeyBytes);
  std::array<std::byte, 32> check;
  std::ranges::copy(derived.view(), check.begin());
  return check;
}

std::optional<SecretBytes> former_ring_key(const Body& body, const SecretBytes& present, std::size_t index) {
  if (index > body.former_ring_keys.size()) return std::nullopt;
  std::optional key{present.clone()};
  for (std::size_t at = body.former_ring_keys.size(); key && at > index; --at) key = unwrap_link(body, *key, at - 1);
  return key;
}

bool leads_to(const Body& body, const SecretBytes& present, const std::array<std::byte, 32>& check) {
  std::optional key{present.clone()};
  for (std::size_t at = body.former_ring_keys.size(); key; --at) {
    if (key_check(*key) == check) return true;
    if (at == 0) return false;
    key = unwrap_link(body, *key, at - 1);
  }
  return false;
}

Bytes wrap_former_ring_key(const SecretBytes& former, const SecretBytes& next, const RingId& ring, std::size_t index) {
  const auto nonce = crypto::random_array<crypto::kNonceBytes>();
  SecretBytes text = former.clone();
  std::array<std::byte, crypto::kTagBytes> tag;
  crypto::aes256_gcm_encrypt(link_key(next).view(), nonce, link_aad(ring, index), text.writable(), tag);
  Bytes link(nonce.size() + text.size() + tag.size());
  auto end = std::ranges::copy(nonce, link.begin()).out;
  end = std::ranges::copy(text.view(), end).out;
  std::ranges::copy(tag, end);
  return link;
}

}  // namespace hsmseal::ring
