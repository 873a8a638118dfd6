#pragma once

#include <span>

#include "envelope/wire.hpp"

namespace hsmseal::envelope {

/// The sizes of what a data key is made into, src/FORMAT.md section 3: the payload's AES-256-GCM key, then the
/// commitment to it.
inline constexpr std::size_t kDerivedBytes = wire::kDataKeyBytes + wire::kCommitmentBytes;

/// Makes both of a data key.
void derive_payload_key(const SecretBytes& data_key, Suite suite, const RingId& ring,
                        std::span<std::byte, kDerivedBytes> out);

/// Both, wherever they lie. Refers to them.
class PayloadKeyView {
 public:
  explicit PayloadKeyView(std::span<const std::byte, kDerivedBytes> derived) noexcept : derived_(derived) {}

  [[nodiscard]] ByteView key() const noexcept { return derived_.first<wire::kDataKeyBytes>(); }
  [[nodiscard]] ByteView commitment() const noexcept { return derived_.last<wire::kCommitmentBytes>(); }

  /// @throws OpenError  the envelope was sealed under another data key.
  void check_commitment(const wire::Envelope& envelope) const;

 private:
  std::span<const std::byte, kDerivedBytes> derived_;
};

/// Both, of a data key that is used once.
class PayloadKey {
 public:
  PayloadKey(const SecretBytes& data_key, Suite suite, const RingId& ring);

  [[nodiscard]] PayloadKeyView view() const noexcept { return PayloadKeyView{derived_.view().first<kDerivedBytes>()}; }

 private:
  SecretBytes derived_;
};

}  // namespace hsmseal::envelope
