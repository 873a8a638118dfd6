#pragma once

#include <hsmseal/envelope.hpp>

#include "ring/ring_core.hpp"

namespace hsmseal::envelope {

/// What an encryptor is made of, for parts of the library that are not its own.
struct EncryptorParts {
  [[nodiscard]] static const KeyRing& handle(const EnvelopeEncryptor& encryptor) noexcept { return encryptor.ring_; }
  [[nodiscard]] static ring::RingCore& ring(const EnvelopeEncryptor& encryptor) noexcept {
    return ring::CoreOf::handle(encryptor.ring_);
  }
  [[nodiscard]] static const EnvelopeOptions& options(const EnvelopeEncryptor& encryptor) noexcept {
    return encryptor.options_;
  }
  static void tell(const EnvelopeEncryptor& encryptor, Event::Kind kind, const ring::ConnectedSet& set) {
    ring(encryptor).tell(kind, set.set());
  }
};

}  // namespace hsmseal::envelope
