#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/context.hpp>
#include <hsmseal/data_key_policy.hpp>
#include <hsmseal/envelope_batch.hpp>
#include <hsmseal/envelope_header.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {
namespace envelope {
class DataKeys;
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
  /// How long one operation, or one batch, may wait for tokens, see Deadline; more than 0. Not for the ring's store,
  /// which has timeouts of its own.
  std::chrono::milliseconds deadline{10'000};
  /// How many secrets share a data key. Suite::Token and Suite::Stream take per_secret() alone.
  DataKeyPolicy data_keys = DataKeyPolicy::per_secret();
  /// With DataKeyPolicy::reuse(): how many data keys are kept that were opened, so that the token is not asked for them
  /// again, at most 2^20; those that were not used for longest go first. 0: none.
  std::size_t opened_data_keys = 1'024;
};

/// Seals secrets under the ring's active credential set, and opens those of every set.
///
/// Copies share the data keys that they reuse.
///
/// Thread safety: const members may run concurrently.
/// Blocking: seal, open, rewrap and reseal call the token, and wait for sessions, recoveries and other threads at most
/// until EnvelopeOptions::deadline. A call that hangs in the driver is left then with HangPolicy::Isolated alone.
/// @throws from every member that calls the token: TokenError (see retryable(); never retry a TokenLoginError),
///         KeyNotFoundError, WrongKeyError, InvalidArgumentError when the set's token is not bound on this host.
class HSMSEAL_API EnvelopeEncryptor {
 public:
  /// @param ring  shared with the caller: what changes through its other handles changes here.
  /// @throws InvalidArgumentError  an option is out of its bounds, or goes against another one.
  explicit EnvelopeEncryptor(KeyRing ring, EnvelopeOptions options = {});

  /// Seals a secret under a data key (Suite::DataKey, Suite::Stream), of its own or not as EnvelopeOptions::data_keys
  /// says, or in the token (Suite::Token).
  ///
  /// @param secret   0 to kMaxSecretBytes bytes; with Suite::Token at most WrapProfile::max_plaintext. Not retained.
  /// @param context  what the envelope is bound to. Not retained.
  /// @returns the envelope: 138 bytes and the secret's size with Suite::DataKey, 46 with Suite::Token; 4 more if the
  ///         token's IVs have 16 bytes, 158 with WrapAlgorithm::Aes256CbcHmac.
  /// @throws InvalidArgumentError  the secret is too long, or Suite::Token and the active set wraps with Aes256CbcHmac,
  ///         which is for data keys alone.
  ///
  /// Blocking: one wrap (two token calls; four with Aes256CbcHmac), or none where a data key is reused.
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
  /// Blocking: one unwrap (two token calls; four with Aes256CbcHmac), or none if the data key is kept.
  /// Conformance: trusts the token to refuse a wrapped key whose tag is wrong; a MAC is compared on the host.
  [[nodiscard]] SecretBytes open(ByteView sealed, ContextView context) const;

  /// open() for the text form.
  [[nodiscard]] SecretBytes open_text(std::string_view sealed, ContextView context) const;

  /// Seals many secrets, as seal() does each of them: with a data key for each by as many threads as the set's wrapper
  /// serves at once (KeyWrapper::concurrency()).
  ///
  /// @returns a result for each item, in their order. One that fails does not stop the others.
  /// @throws nothing but std::bad_alloc: what seal() throws is the item's.
  ///
  /// Blocking: as seal() for each, until EnvelopeOptions::deadline for all of them: those that no time was left for have
  /// a TokenUnavailableError.
  [[nodiscard]] std::vector<SealResult> seal_many(std::span<const SealItem> items) const;

  /// Opens many envelopes, as open() does each of them, but asks the token once for each data key, however many of them
  /// share it. The threads are as with seal_many().
  ///
  /// @returns a result for each item, in their order. One that fails does not stop the others.
  /// @throws nothing but std::bad_alloc: what open() throws is the item's.
  ///
  /// Blocking: one unwrap for each data key that is not kept, with the deadline of seal_many().
  [[nodiscard]] std::vector<OpenResult> open_many(std::span<const OpenItem> items) const;

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
  std::shared_ptr<envelope::DataKeys> data_keys_;  ///< null with DataKeyPolicy::per_secret()
};

}  // namespace hsmseal
