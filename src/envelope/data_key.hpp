#pragma once

#include <hsmseal/context.hpp>

#include "envelope/wire.hpp"

namespace hsmseal::envelope {

/// What a data key is for, src/FORMAT.md section 3: the payload's AES-256-GCM key and the commitment to it.
class PayloadKey {
 public:
  PayloadKey(const SecretBytes& data_key, Suite suite, const RingId& ring);

  [[nodiscard]] ByteView commitment() const noexcept { return derived_.view().last(wire::kCommitmentBytes); }

  /// @throws OpenError  the envelope was sealed under another data key.
  void check_commitment(const wire::Envelope& envelope) const;

  /// Encrypts; suite, flags and nonce are taken from `envelope`. @returns ciphertext and tag.
  [[nodiscard]] Bytes encrypt(const wire::Envelope& envelope, ContextView context, SecretBytes secret) const;

  /// @throws OpenError  altered, or another context.
  [[nodiscard]] SecretBytes decrypt(const wire::Envelope& envelope, ContextView context) const;

 private:
  [[nodiscard]] ByteView key() const noexcept { return derived_.view().first(wire::kDataKeyBytes); }
  [[nodiscard]] Bytes aad(const wire::Envelope& envelope, ContextView context) const;

  RingId ring_;
  SecretBytes derived_;
};

}  // namespace hsmseal::envelope
