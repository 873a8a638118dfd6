#pragma once

#include <hsmseal/context.hpp>

#include "crypto/crypto.hpp"
#include "envelope/data_key.hpp"
#include "envelope/wire.hpp"

namespace hsmseal::envelope {

/// What one thread needs at a time to encrypt and decrypt payloads besides the cipher; it is made once and used again.
///
/// Thread safety: none.
class Workbench {
 public:
  /// What is sealed.
  struct Secret {
    ByteView bytes;
    std::size_t padded_size;  ///< more than there are bytes: it is padded
  };

  /// What stands before it.
  struct Header {
    const wire::Envelope& envelope;  ///< of which suite and flags are taken
    ByteView start;                  ///< as wire::write_start() makes it
    const RingId& ring;
  };

  /// Encrypts a secret.
  ///
  /// @param cipher  holds the payload's key.
  /// @param nonce   used once under that key.
  /// @returns the whole envelope.
  [[nodiscard]] Bytes seal(crypto::Aes256GcmEncryption& cipher, const Header& header, const wire::Nonce& nonce,
                           Secret secret, ContextView context);

  /// Decrypts the payload, and takes the padding off.
  ///
  /// @param cipher  holds the payload's key.
  /// @throws OpenError  altered, or another context.
  [[nodiscard]] SecretBytes open(crypto::Aes256GcmDecryption& cipher, const wire::Envelope& envelope,
                                 const RingId& ring, ContextView context);

 private:
  [[nodiscard]] ByteView aad(const wire::Envelope& envelope, const RingId& ring, ContextView context);

  Bytes aad_;
  SecretBytes scratch_;
};

/// A nonce that nobody has used.
[[nodiscard]] wire::Nonce new_nonce();

/// Seals one secret under a data key that is used once.
[[nodiscard]] Bytes seal_once(PayloadKeyView key, const wire::Envelope& envelope, const RingId& ring,
                              Workbench::Secret secret, ContextView context);

/// Opens envelopes of one data key, in one thread: its cipher lasts longer than this, but the key in it does not. One at
/// a time in each thread.
class Opening {
 public:
  explicit Opening(PayloadKeyView key);
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;
  ~Opening();

  /// @throws OpenError  sealed under another data key, altered, or another context.
  [[nodiscard]] SecretBytes open(const wire::Envelope& envelope, const RingId& ring, ContextView context);

 private:
  const PayloadKeyView key_;
};

}  // namespace hsmseal::envelope
