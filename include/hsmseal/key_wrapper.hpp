#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

/// Wraps and unwraps a few bytes under one key that this object never sees.
///
/// The seam between ring and token: implement it, and KeyProvider, to keep keys elsewhere than behind PKCS#11.
/// Implementations that wait do so until Deadline::current().
///
/// Thread safety: members may run concurrently.
struct HSMSEAL_API KeyWrapper {
  KeyWrapper() = default;
  KeyWrapper(const KeyWrapper&) = delete;
  KeyWrapper& operator=(const KeyWrapper&) = delete;
  virtual ~KeyWrapper();

  /// Encrypts and authenticates `key` together with `aad`, under a fresh random IV.
  ///
  /// @param key  0 to WrapProfile::max_plaintext bytes; with WrapAlgorithm::Aes256CbcHmac a multiple of 16, at least 16
  ///         and at most 4096. Not retained.
  /// @param aad  associated data, at most 64 KiB. Not retained.
  /// @returns IV, ciphertext of the size of `key`, and with WrapAlgorithm::Aes256Gcm a tag (16 bytes), with
  ///         Aes256CbcHmac a MAC (32 bytes). The IV has the size that the profile says (GcmForm::iv_bytes), with
  ///         Aes256CbcHmac 16 bytes, whoever made it.
  /// @throws InvalidArgumentError  `key` has another size than these.
  /// @throws TokenError     see retryable().
  /// @throws WrongKeyError, KeyNotFoundError  the set's key does not answer.
  /// Conformance: the key was proved with check_key_proof() since the provider last (re)connected to it.
  [[nodiscard]] virtual Bytes wrap(ByteView key, ByteView aad) = 0;

  /// Undoes wrap(). With Aes256CbcHmac nothing is decrypted before the MAC was found right.
  ///
  /// @throws OpenError  altered bytes, other associated data, another key, another size: not told apart.
  /// @throws TokenError, WrongKeyError, KeyNotFoundError  as wrap().
  [[nodiscard]] virtual SecretBytes unwrap(ByteView wrapped, ByteView aad) = 0;

  /// How many calls it serves at once, at least 1, for the threads of a batch. One in front of another passes that on.
  [[nodiscard]] virtual std::size_t concurrency() const { return 1; }
};

/// Makes keys for a ring and connects to them.
///
/// Thread safety: members may run concurrently.
struct HSMSEAL_API KeyProvider {
  KeyProvider() = default;
  KeyProvider(const KeyProvider&) = delete;
  KeyProvider& operator=(const KeyProvider&) = delete;
  virtual ~KeyProvider();

  /// Makes a key-encryption key, or adopts the one that `spec` names, and shows by real operations that it works.
  ///
  /// @returns the key's description, with a proof made by make_key_proof().
  /// @throws InvalidArgumentError  the token is not bound on this host, or the specification is wrong.
  /// @throws WrongKeyError         the key does not meet the policy; a key made here is destroyed again if the token
  ///         lets it.
  /// @throws KeyNotFoundError      no key to adopt, or another session does not find the key.
  /// @throws TokenError            the token failed.
  [[nodiscard]] virtual KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) = 0;

  /// Returns the wrapper of a described key. Does not touch the token yet and does not fail for one that is missing
  /// here: the wrapper's first call does.
  ///
  /// @param version  the set that the key belongs to, for events.
  /// @param key  without a proof (KeyProof::wrapped is empty), as a token alone describes a key: the wrapper then only
  ///         unwraps, and wrap() throws InvalidArgumentError.
  [[nodiscard]] virtual std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) = 0;

  /// The keys of a ring that a token holds under labels of hsmseal's own making.
  ///
  /// @param token  the alias of a token bound on this host; empty: all of them.
  /// @throws InvalidArgumentError  no such token is bound here, or none at all.
  /// @throws TokenError            a token failed, or wants a login that its binding does not make: the list would not
  ///         be whole.
  [[nodiscard]] virtual std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) = 0;

  /// Destroys a described key for ever: finds it anew by its CKA_ID and proves it first.
  ///
  /// @throws KeyNotFoundError  there is no such key, and none that is only invisible without a login; it may have been
  ///         destroyed before.
  /// @throws WrongKeyError     another token or key answers; nothing was destroyed.
  /// @throws TokenError        the token failed or refused.
  virtual void destroy(const KeyDescription& key) = 0;
};

/// Wraps 32 random bytes under a key, with "hsmseal/1/proof" and the kek_id as associated data.
/// @throws what KeyWrapper::wrap() throws.
[[nodiscard]] HSMSEAL_API KeyProof make_key_proof(KeyWrapper& wrapper, const KekId& kek_id);

/// Whether `wrapper` reaches the key that made `proof`.
/// @throws WrongKeyError  it does not.
/// @throws TokenError     the token failed, so nothing is known.
HSMSEAL_API void check_key_proof(KeyWrapper& wrapper, const KekId& kek_id, const KeyProof& proof);

}  // namespace hsmseal
