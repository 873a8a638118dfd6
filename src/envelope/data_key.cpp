#include "envelope/data_key.hpp"

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::envelope {

void derive_payload_key(const SecretBytes& data_key, Suite suite, const RingId& ring,
                        std::span<std::byte, kDerivedBytes> out) {
  const auto info = core::Binding{core::kPayloadLabel}.append(static_cast<std::uint8_t>(suite)).append(ring).take();
  crypto::hkdf_expand_sha256(data_key.view(), info, out);
}

void PayloadKeyView::check_commitment(const wire::Envelope& envelope) const {
  if (!crypto::equal(commitment(), envelope.commitment)) throw OpenError();
}

PayloadKey::PayloadKey(const SecretBytes& data_key, Suite suite, const RingId& ring) : derived_(kDerivedBytes) {
  derive_payload_key(data_key, suite, ring, derived_.writable().first<kDerivedBytes>());
}

}  // namespace hsmseal::envelope
