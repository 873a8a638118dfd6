#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <hsmseal/export.hpp>
#include <hsmseal/gcm_form.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

/// The number of a credential set in its ring: 1, 2, 3 and so on, never used twice. 0 is no version.
using Version = std::uint32_t;

/// A point in time in UTC, in milliseconds; the ring takes all of them from its store's clock.
using Timestamp = std::chrono::sys_time<std::chrono::milliseconds>;

/// 16 random bytes that name a ring for ever.
struct HSMSEAL_API RingId {
  std::array<std::byte, 16> bytes{};  ///< as the generator of random numbers gave them
  auto operator<=>(const RingId&) const = default;
  /// 32 lower-case hexadecimal digits.
  [[nodiscard]] std::string to_string() const;
  /// Reads what to_string() wrote.
  /// @throws InvalidArgumentError  anything else.
  [[nodiscard]] static RingId from_string(std::string_view text);
};

/// 16 bytes that name a key-encryption key: two sets with one kek_id use one key.
struct HSMSEAL_API KekId {
  std::array<std::byte, 16> bytes{};  ///< also the CKA_ID of a key that hsmseal made
  auto operator<=>(const KekId&) const = default;
  /// 32 lower-case hexadecimal digits.
  [[nodiscard]] std::string to_string() const;
};

/// Where a set stands in its life. It moves down this list only, but for KeyRing::restore().
enum class SetState : std::uint8_t {
  Staged,    ///< stored and proved, not sealing yet; see KeyRing::activate()
  Active,    ///< seals everything new; exactly one set of a ring
  Archived,  ///< opens what it sealed
  Deleted,   ///< opens nothing; what is left says how to find its key again, see KeyRing::restore() and purge()
};

/// "staged", "active", "archived" or "deleted", as src/FORMAT.md has it; "unknown" for any other value.
[[nodiscard]] HSMSEAL_API std::string_view to_string(SetState state) noexcept;

/// How data keys are wrapped: the meaning, not a driver's mechanism number. Values are those of src/FORMAT.md.
enum class WrapAlgorithm : std::uint8_t {
  Aes256Gcm = 1,  ///< AES-256-GCM, 16-byte tag (NIST SP 800-38D)
  /// AES-256-CBC (NIST SP 800-38A) without padding, then HMAC-SHA-256 (RFC 2104) with a second key, over the ciphertext and
  /// what belongs to it; the MAC is checked on the host before anything is decrypted.
  Aes256CbcHmac = 2,
};

/// How a token is asked to wrap; found by real operations when a set is added.
struct WrapProfile {
  WrapAlgorithm algorithm = WrapAlgorithm::Aes256Gcm;  ///< what protects the data keys
  GcmForm gcm;                         ///< as it was found to work; as it is by default where the algorithm is another
  std::uint32_t max_plaintext = 4096;  ///< the most bytes one call may encrypt; the ceiling of Suite::Token
  auto operator<=>(const WrapProfile&) const = default;
};

/// What shows that the right key answers: 32 random bytes wrapped under it, and their SHA-256.
struct KeyProof {
  Bytes wrapped;                       ///< as KeyWrapper::wrap() returns it; empty: there is no proof
  std::array<std::byte, 32> digest{};  ///< SHA-256 of the bytes before they were wrapped
  bool operator==(const KeyProof&) const = default;
};

/// A key-encryption key as its provider describes it: everything another host needs to find it and to know it again.
struct KeyDescription {
  std::string token;         ///< the binding's alias
  std::string token_label;   ///< CK_TOKEN_INFO.label when the key was added
  std::string token_serial;  ///< CK_TOKEN_INFO.serialNumber when the key was added
  Bytes key_id;              ///< CKA_ID, 1 to 255 bytes
  std::string key_label;     ///< CKA_LABEL, for people
  Bytes mac_key_id = {};     ///< CKA_ID of the second key of WrapAlgorithm::Aes256CbcHmac, 1 to 255 bytes; else empty
  KekId kek_id;              ///< authenticated with everything that the key wraps
  WrapProfile profile;       ///< what was found to work
  KeyProof proof;            ///< unwrapped before the key is used
  bool operator==(const KeyDescription&) const = default;
};

/// One version of a ring: how to reach one key-encryption key, and since when. A plain value without secrets.
struct CredentialSet {
  Version version = 0;                    ///< never used again, even when the set is gone
  SetState state = SetState::Staged;      ///< what the set may be used for now
  KeyDescription key;                     ///< where its key is, and which one it is
  Bytes wrapped_ring_key;                 ///< the ring's own key under this set's key; empty for a deleted set
  std::string description;                ///< the operator's words, at most 1024 bytes
  Timestamp created_at;                   ///< when add() stored it
  std::optional<Timestamp> activated_at;  ///< when it began to seal; absent if it never did
  std::optional<Timestamp> archived_at;   ///< since when it only opens; RingSettings::removal_grace counts from here
  std::optional<Timestamp> deleted_at;    ///< since when it is deleted; RingSettings::quarantine counts from here
  std::optional<Timestamp> key_destroyed_at;  ///< when KeyRing::destroy_key() began; there is no way back from it
  bool operator==(const CredentialSet&) const = default;
};

/// What an operator changes about how a set's key is reached, after a token was renamed, moved or cloned. What is absent
/// stays as it is.
struct SetChange {
  std::optional<std::string> description = {};   ///< at most 1024 bytes
  std::optional<std::string> token = {};         ///< the alias of a token bound on this host
  std::optional<std::string> token_label = {};   ///< the label that the token is to have from now on
  std::optional<std::string> token_serial = {};  ///< the serial number that the token is to have from now on
};

/// Which of a credential set's keys is meant.
enum class KeyPart : std::uint8_t {
  Encryption,  ///< the key-encryption key, labelled `hsmseal-<ring id>-v<version>`
  Mac,         ///< the second key of WrapAlgorithm::Aes256CbcHmac, labelled the same with `-mac` behind
};

/// A key of a ring that a token holds, told by its label (see KeyPart).
struct FoundKey {
  std::string token;                   ///< the binding's alias
  std::string token_label;             ///< CK_TOKEN_INFO.label
  std::string token_serial;            ///< CK_TOKEN_INFO.serialNumber
  Bytes key_id;                        ///< CKA_ID
  std::string key_label;               ///< CKA_LABEL
  Version version = 0;                 ///< the version that the label names
  KeyPart part = KeyPart::Encryption;  ///< which of its set's keys it is
  GcmForm gcm = {};                    ///< how its driver's vendor documents AES-GCM; else as it is by default
  bool operator==(const FoundKey&) const = default;
};

/// A way in which an existing key may fall short of what hsmseal makes itself.
enum class KeyWeakness {
  NotPrivate,     ///< CKA_PRIVATE false: visible without login
  NotSensitive,   ///< CKA_SENSITIVE false: readable in plain text
  Extractable,    ///< CKA_EXTRACTABLE true: can leave the token wrapped
  WasExposed,     ///< CKA_ALWAYS_SENSITIVE or CKA_NEVER_EXTRACTABLE false or not told: may have been outside
  WrapsKeys,      ///< CKA_WRAP or CKA_UNWRAP true: the key could be used to pull keys out
  SignsOrDerives  ///< CKA_SIGN, CKA_VERIFY or CKA_DERIVE true: used for something else as well
};

/// Which shortcomings the operator accepts in a key that hsmseal did not make. None by default.
struct AdoptionPolicy {
  std::set<KeyWeakness> accept = {};  ///< any other shortcoming is a WrongKeyError
};

/// What the operator asks for when a set is added.
struct SetSpec {
  std::string token = {};        ///< the alias of a token bound on this host
  std::string description = {};  ///< for people, at most 1024 bytes
  std::string key_label = {};    ///< empty: `hsmseal-<ring id>-v<version>`, which lets the token alone name the set
  std::optional<Bytes> adopt_key_id = {};  ///< the CKA_ID of an existing AES-256 key; absent: a new key is made
  /// The CKA_ID of an existing generic secret of 32 bytes or more, for an adopted key of WrapAlgorithm::Aes256CbcHmac;
  /// absent: the second key is made anew.
  std::optional<Bytes> adopt_mac_key_id = {};
  AdoptionPolicy policy = {};  ///< only for adopted keys
  /// How keys are wrapped; absent: AES-GCM if the token does it in a way that `gcm`, its vendor's documentation or the
  /// standard names, otherwise CBC with HMAC.
  std::optional<WrapAlgorithm> algorithm = {};
  /// How the token does AES-GCM, if its vendor's manual says so: nothing else is tried then. Absent: as its driver's alias
  /// documents it, then with the caller's IV. A form that makes the token's IV is never guessed: a token that does not
  /// make one would encrypt under zeros.
  std::optional<GcmForm> gcm = {};
};

}  // namespace hsmseal
