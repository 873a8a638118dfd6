#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/pin_source.hpp>
#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

namespace pkcs11 {
struct SessionAccess;
}

/// What a session may change in its token.
enum class SessionMode {
  ReadWrite,  ///< CKF_RW_SESSION: some drivers refuse any other
  ReadOnly,   ///< makes no keys of KeyLifetime::Token
};

/// CK_OBJECT_HANDLE: valid while this process is logged in to the token, and never to be stored.
struct KeyHandle {
  std::uint64_t value = 0;  ///< 0 is never a key (CK_INVALID_HANDLE)
  bool operator==(const KeyHandle&) const = default;
};

/// Which secret key is looked for; every field given must match, and at least one must be given.
struct KeyQuery {
  std::optional<Bytes> id = {};           ///< CKA_ID
  std::optional<std::string> label = {};  ///< CKA_LABEL
};

/// What a new key may be used for. Never both: a key has one purpose.
enum class KeyUse {
  EncryptDecrypt,  ///< CKA_ENCRYPT and CKA_DECRYPT
  SignVerify,      ///< CKA_SIGN and CKA_VERIFY
  Mac,             ///< CKA_SIGN alone, of a generic secret: MACs are compared on the host
};

/// Where a new key lives.
enum class KeyLifetime {
  Token,    ///< CKA_TOKEN: until it is destroyed
  Session,  ///< until the session is closed
};

/// A new secret key. It is always private, sensitive and not extractable.
struct KeyTemplate {
  Bytes id = {};                              ///< CKA_ID, 1 to 255 bytes; 16 random bytes are a good choice
  std::string label = {};                     ///< CKA_LABEL
  KeyUse use = KeyUse::EncryptDecrypt;        ///< the one purpose of the key
  KeyLifetime lifetime = KeyLifetime::Token;  ///< KeyLifetime::Token needs SessionMode::ReadWrite
  std::size_t bytes = 32;                     ///< the key's size: 16, 24 or 32; with KeyUse::Mac 32 to 64
};

/// The attributes of a key as the token tells them; absent where it does not.
struct KeyAttributes {
  std::optional<std::uint64_t> key_type;     ///< CKA_KEY_TYPE: CKK_AES is 0x1f
  std::optional<std::uint64_t> value_bytes;  ///< CKA_VALUE_LEN
  std::optional<Bytes> id;                   ///< CKA_ID
  std::optional<std::string> label;          ///< CKA_LABEL
  std::optional<bool> token;                 ///< CKA_TOKEN
  std::optional<bool> is_private;            ///< CKA_PRIVATE
  std::optional<bool> sensitive;             ///< CKA_SENSITIVE
  std::optional<bool> always_sensitive;      ///< CKA_ALWAYS_SENSITIVE
  std::optional<bool> extractable;           ///< CKA_EXTRACTABLE
  std::optional<bool> never_extractable;     ///< CKA_NEVER_EXTRACTABLE
  std::optional<bool> encrypt;               ///< CKA_ENCRYPT
  std::optional<bool> decrypt;               ///< CKA_DECRYPT
  std::optional<bool> wrap;                  ///< CKA_WRAP
  std::optional<bool> unwrap;                ///< CKA_UNWRAP
  std::optional<bool> sign;                  ///< CKA_SIGN
  std::optional<bool> verify;                ///< CKA_VERIFY
  std::optional<bool> derive;                ///< CKA_DERIVE
};

/// AES-GCM with a 16-byte tag (NIST SP 800-38D). An IV must never serve twice under one key.
struct AesGcm {
  ByteView iv = {};   ///< 1 to 256 bytes, of which 12 is what every token takes; empty where the token makes it
  ByteView aad = {};  ///< associated data; may be empty
  GcmForm form = {};  ///< how this token does it
};

/// AES-CBC without padding (NIST SP 800-38A). It authenticates nothing.
struct AesCbc {
  explicit AesCbc(ByteView the_iv) : iv(the_iv) {}  ///< With this IV, which is not copied.
  ByteView iv;                                      ///< 16 bytes that nobody can foretell
};

/// How sign() makes a MAC.
enum class MacMechanism {
  AesCmac,     ///< CKM_AES_CMAC: 16 bytes, an AES key
  HmacSha256,  ///< CKM_SHA256_HMAC: 32 bytes, a generic secret key
};

/// One session with one token, owned by one thread at a time.
///
/// Usable on its own, without a ring. Closing a session never logs out, since that would log out every other session of
/// the process; but PKCS#11 ends the login with the last session, so a program that opens and closes sessions keeps one
/// open. After a call that failed in the token (a login left aside) the session may be stuck in an operation that
/// nobody can end: it is marked as spent, and every later call throws InvalidArgumentError; open a new one.
///
/// @throws from every member that calls the driver: TokenError.
/// Lifetime: one that was moved from may only be destroyed or assigned to.
/// Thread safety: none; may be moved between threads.
/// Blocking: every member but token() and usable() calls the driver, which may take as long as it likes.
class HSMSEAL_API Pkcs11Session {
 public:
  /// Opens a session; nobody is logged in by that.
  /// @throws as Pkcs11Module::token(), and TokenError from C_OpenSession.
  Pkcs11Session(std::shared_ptr<Pkcs11Module> module, const TokenSelector& selector,
                SessionMode mode = SessionMode::ReadWrite);

  Pkcs11Session(Pkcs11Session&& other) noexcept;             ///< Takes over the open session.
  Pkcs11Session& operator=(Pkcs11Session&& other) noexcept;  ///< Closes its own and takes over the other.
  Pkcs11Session(const Pkcs11Session&) = delete;
  Pkcs11Session& operator=(const Pkcs11Session&) = delete;
  ~Pkcs11Session();

  /// The token as it was when the session was opened.
  [[nodiscard]] const TokenInfo& token() const noexcept;

  /// Whether the session still takes calls: open, and no call has failed in it.
  [[nodiscard]] bool usable() const noexcept;

  /// Logs the whole process in to the token as its user. If it is logged in already, checks that the PIN is the one
  /// that hsmseal logged in with; the PIN of a login that other code made is not known and not compared.
  ///
  /// A PIN that the token refused is remembered (as a keyed digest) for the life of the process and not tried again:
  /// one C_Login for each PIN value, whichever session or thread asks.
  ///
  /// @throws InvalidArgumentError  the source gives no PIN; see PinSource::read().
  /// @throws TokenLoginError       refused by the token, or by hsmseal to keep the token from locking.
  void login(const PinSource& pin, LowPinCount low_pin_count = LowPinCount::Refuse);

  /// Finds a secret key.
  /// @returns nothing if there is none.
  /// @throws WrongKeyError  more than one key matches.
  [[nodiscard]] std::optional<KeyHandle> find_key(const KeyQuery& query);

  /// Makes an AES key inside the token and checks that the token kept to the template. An attribute that the token
  /// refuses is left out if a key is as safe without it.
  ///
  /// @throws WrongKeyError  it did not; the key is destroyed again.
  [[nodiscard]] KeyHandle generate_aes_key(const KeyTemplate& key);

  /// The same for a generic secret.
  /// @param key  with KeyUse::Mac.
  [[nodiscard]] KeyHandle generate_mac_key(const KeyTemplate& key);

  /// Reads the attributes, one by one, as drivers differ in what they know.
  [[nodiscard]] KeyAttributes attributes(KeyHandle key);

  /// C_EncryptInit and C_Encrypt, no length query.
  /// A driver that is asked with another IvRule than its own may encrypt under an IV of zeros or of no bytes, or crash:
  /// ask with a rule that its vendor documents.
  ///
  /// @returns ciphertext of the size of `plaintext`, then the tag (16 bytes); before them the IV if the token made it.
  /// @throws InvalidArgumentError  an IV of another size, or one where the token makes it.
  /// @throws TokenError  the call failed, or the token returned another length, changed the caller's IV, or used one of
  ///         zeros.
  [[nodiscard]] Bytes encrypt(KeyHandle key, const AesGcm& mechanism, ByteView plaintext);

  /// C_DecryptInit and C_Decrypt, no length query.
  /// @param mechanism  with the IV, whoever made it.
  /// @throws TokenError  the call failed, which includes a tag that does not match: drivers disagree about its CK_RV.
  [[nodiscard]] SecretBytes decrypt(KeyHandle key, const AesGcm& mechanism, ByteView ciphertext);

  /// The same with AES-CBC. @param plaintext  whole blocks of 16 bytes, at least one; so with ciphertext.
  [[nodiscard]] Bytes encrypt(KeyHandle key, const AesCbc& mechanism, ByteView plaintext);
  /// What comes back is not authenticated.
  [[nodiscard]] SecretBytes decrypt(KeyHandle key, const AesCbc& mechanism, ByteView ciphertext);

  /// C_SignInit and C_Sign with a symmetric mechanism.
  /// @returns the MAC: 16 or 32 bytes.
  [[nodiscard]] Bytes sign(KeyHandle key, MacMechanism mechanism, ByteView data);

  /// Random bytes from the token, asked for in pieces of 8 to 1024 bytes.
  /// @throws TokenError  the call failed, or the driver left its buffer as it was.
  [[nodiscard]] SecretBytes random(std::size_t size);

  /// Ends the session now instead of in the destructor. Does not log out.
  void close() noexcept;

 private:
  friend struct pkcs11::SessionAccess;
  [[nodiscard]] KeyHandle generate(const KeyTemplate& key);
  void check_made_as_asked(KeyHandle made, const KeyTemplate& key);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hsmseal
