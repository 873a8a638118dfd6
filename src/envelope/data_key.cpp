#include "envelope/data_key.hpp"

#include <algorithm>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::envelope {

PayloadKey::PayloadKey(const SecretBytes& data_key, Suite suite, const RingId& ring)
    : ring_(ring),
      derived_(crypto::hkdf_expand_sha256(
          data_key.view(),
          core::Binding{core::kPayloadLabel}.append(static_cast<std::uint8_t>(suite)).append(ring).view(),
          wire::kDataKeyBytes + wire::kCommitmentBytes)) {}

void PayloadKey::check_commitment(const wire::Envelope& envelope) const {
  if (!crypto::equal(commitment(), envelope.commitment)) throw OpenError();
}

/// Neither version nor wrap algorithm is in it, so that an envelope can be rewrapped without touching its payload.
Bytes PayloadKey::aad(const wire::Envelope& envelope, ContextView context) const {
  return core::Binding{core::kPayloadLabel}
      .append(static_cast<std::uint8_t>(envelope.suite))
      .append(wire::flags_of(envelope))
      .append(ring_)
      .append_sized(context.bytes())
      .take();
}

Bytes PayloadKey::encrypt(const wire::Envelope& envelope, ContextView context, SecretBytes secret) const {
  std::array<std::byte, wire::kTagBytes> tag;
  crypto::aes256_gcm_encrypt(key(), envelope.nonce, aad(envelope, context), secret.writable(), tag);
  Bytes payload;
  payload.reserve(secret.size() + tag.size());
  payload.assign(secret.view().begin(), secret.view().end());
  payload.insert(payload.end(), tag.begin(), tag.end());
  return payload;
}

SecretBytes PayloadKey::decrypt(const wire::Envelope& envelope, ContextView context) const {
  SecretBytes secret{envelope.payload.first(envelope.payload.size() - wire::kTagBytes)};
  const auto tag = envelope.payload.last<wire::kTagBytes>();
  if (!crypto::aes256_gcm_decrypt(key(), envelope.nonce, aad(envelope, context), secret.writable(), tag)) {
    throw OpenError();
  }
  return secret;
}

}  // namespace hsmseal::envelope
