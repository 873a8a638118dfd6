#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include <hsmseal/context.hpp>
#include <hsmseal/envelope_header.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {
namespace envelope {
struct EncryptorParts;
}  // namespace envelope

/// Whether the size of an envelope shows the size of its secret.
class HSMSEAL_API Padding {
 public:
  /// It does, to the byte.
  [[nodiscard]] static Padding none() noexcept { return Padding{0}; }

  /// Secrets are padded to the next multiple of `bucket` bytes (ISO/IEC 7816-4, at least one byte), inside the
  /// encryption.
  /// @param bucket  2 bytes to 1 MiB; 64 hides the length of passwords.
  /// @throws InvalidArgumentError
  [[nodiscard]] static Padding to_multiple_of(std::size_t bucket);

  /// 0: no padding.
  [[nodiscard]] std::size_t bucket() const noexcept { return bucket_; }

 private:
  explicit Padding(std::size_t bucket) noexcept : bucket_(bucket) {}
  std::size_t bucket_;
};

/// How an encryptor seals. What it can open does not depend on this.
struct EnvelopeOptions {
  Suite suite = Suite::DataKey;       ///< where secrets are encrypted: on the host, in the token, or as streams
  Padding padding = Padding::none();  ///< how much the sizes of envelopes tell; not for Suite::Stream
  /// How long one operation may wait for tokens, see Deadline; more than 0. Not for the ring's store, which has timeouts
  /// of its own.
  std::chrono::milliseconds deadline{10'000};
};

/// Seals secrets under the ring's active credential set, and opens those of every set.
///
/// Thread safety: const members may run concurrently.
/// Blocking: seal, open, rewrap and reseal call the token, and wait for sessions, recoveries and other threads at most
/// until EnvelopeOptions::deadline. A call that hangs in the driver is left then with HangPolicy::Isolated alone.
/// @throws from every member that calls the token: TokenError (see retryable(); never retry a TokenLoginError),
///         KeyNotFoundError, WrongKeyError, InvalidArgumentError when the set's token is not bound on this host.
class HSMSEAL_API EnvelopeEncryptor {
 public:
  /// @param ring  shared with the caller: what changes through its other handles changes here.
  /// @throws InvalidArgumentError  the deadline is not above 0, or streams are to be padded.
  explicit EnvelopeEncryptor(KeyRing ring, EnvelopeOptions options = {});

  /// Seals a secret under a data key of its own (Suite::DataKey, Suite::Stream) or in the token (Suite::Token).
  ///
  /// @param secret   0 to kMaxSecretBytes bytes; with Suite::Token at most WrapProfile::max_plaintext. Not retained.
  /// @param context  what the envelope is bound to. Not retained.
  /// @returns the envelope: 138 bytes and the secret's size with Suite::DataKey, 46 with Suite::Token; 4 more if the
  ///         token's IVs have 16 bytes, 158 with WrapAlgorithm::Aes256CbcHmac.
  /// @throws InvalidArgumentError  the secret is too long, or Suite::Token and the active set wraps with Aes256CbcHmac,
  ///         which is for data keys alone.
  ///
  /// Blocking: one wrap (two token calls; four with Aes256CbcHmac).
  [[nodiscard]] Bytes seal(ByteView secret, ContextView context) const;

  /// seal() for text columns: "hse1." and base64url without padding.
  [[nodiscard]] std::string seal_text(std::string_view secret, ContextView context) const;

  /// Recovers the secret of one complete envelope.
  ///
  /// The header names the credential set; callers cannot choose it.
  ///
  /// @param sealed   bytes as in src/FORMAT.md section 2, at most kMaxEnvelopeBytes. Not retained.
  /// @param context  must equal, byte for byte, the context given to seal(). Not retained.
  /// @returns the secret, wiped when the returned object is destroyed.
  /// @throws FormatError           not an envelope; the token was not asked. Do not retry.
  /// @throws WrongRingError        sealed under another ring.
  /// @throws RingOutOfDateError    sealed under a set that is newer than all this host can see.
  /// @throws UnknownVersionError   the ring has no such set.
  /// @throws what KeyRing::refresh() throws: the set is not known here, and the store was asked for news.
  /// @throws OpenError             altered data, wrong context or key: deliberately not told apart.
  ///
  /// Blocking: one unwrap (two token calls; four with Aes256CbcHmac).
  /// Conformance: trusts the token to refuse a wrapped key whose tag is wrong; a MAC is compared on the host.
  [[nodiscard]] SecretBytes open(ByteView sealed, ContextView context) const;

  /// open() for the text form.
  [[nodiscard]] SecretBytes open_text(std::string_view sealed, ContextView context) const;

  /// Moves an envelope to the active set, whatever its algorithm: the data key is unwrapped and wrapped again, the
  /// payload bytes stay the same.
  /// The secret is not decrypted. Not for a compromised key: see reseal().
  ///
  /// @throws InvalidArgumentError  Suite::Token has no data key to move: use reseal().
  /// @throws as open().
  /// Blocking: one unwrap and one wrap (four token calls).
  [[nodiscard]] Bytes rewrap(ByteView sealed) const;
  /// rewrap() of an envelope that is sure to open in its context: the secret is decrypted on the host, and wiped. With
  /// Suite::Token as reseal().
  [[nodiscard]] Bytes rewrap(ByteView sealed, ContextView context) const;
  /// rewrap() for the text form.
  [[nodiscard]] std::string rewrap_text(std::string_view sealed) const;

  /// Opens an envelope and seals its secret anew, under a new data key and this encryptor's options: when the old key
  /// may have been used by somebody else, and for Suite::Token.
  ///
  /// @throws as open() and seal().
  /// Blocking: one unwrap and one wrap (four token calls).
  [[nodiscard]] Bytes reseal(ByteView sealed, ContextView context) const;
  /// reseal() for the text form.
  [[nodiscard]] std::string reseal_text(std::string_view sealed, ContextView context) const;

  /// Whether the envelope was sealed under another set than the active one. Calls neither token nor store.
  /// @throws FormatError, WrongRingError
  [[nodiscard]] bool needs_rewrap(ByteView sealed) const;
  /// needs_rewrap() for the text form.
  [[nodiscard]] bool needs_rewrap_text(std::string_view sealed) const;

 private:
  friend struct envelope::EncryptorParts;

  KeyRing ring_;
  EnvelopeOptions options_;
};

}  // namespace hsmseal
