#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <hsmseal/secret_bytes.hpp>

/// The cryptography that runs on the host. Botan stands behind it, and only behind it.
namespace hsmseal::crypto {

inline constexpr std::size_t kKeyBytes = 32;    ///< AES-256, HMAC-SHA-256, data keys, ring keys
inline constexpr std::size_t kNonceBytes = 12;  ///< AES-GCM
inline constexpr std::size_t kTagBytes = 16;    ///< AES-GCM

using Digest = std::array<std::byte, 32>;

/// Fills from the operating system's generator.
void random_fill(std::span<std::byte> out);

template <std::size_t N>
[[nodiscard]] std::array<std::byte, N> random_array() {
  std::array<std::byte, N> out;
  random_fill(out);
  return out;
}

[[nodiscard]] SecretBytes random_secret(std::size_t size);

/// Fills with random bytes of a supply that each thread has from the operating system, 4 KiB at a time: for nonces, of
/// which many are needed. What was given out is wiped in the supply, and a forked child does not inherit it.
///
/// A copy of the whole machine does: keys, and nonces under a key in a token, come from random_fill().
void draw_random(std::span<std::byte> out);

[[nodiscard]] Digest sha256(ByteView data);
[[nodiscard]] Digest hmac_sha256(ByteView key, ByteView data);

/// RFC 5869 section 2.3, with a uniform key and therefore no Extract (section 3.3).
/// @param size  at most 255 * 32.
[[nodiscard]] SecretBytes hkdf_expand_sha256(ByteView key, ByteView info, std::size_t size);
/// The same into memory of the caller's.
void hkdf_expand_sha256(ByteView key, ByteView info, std::span<std::byte> out);

/// Encrypts with AES-256-GCM (NIST SP 800-38D), nonces of 12 bytes. Making the object takes ten times as long as a short
/// message, so it takes one key after another.
///
/// Thread safety: none; one for each thread.
class Aes256GcmEncryption {
 public:
  Aes256GcmEncryption() noexcept;
  Aes256GcmEncryption(Aes256GcmEncryption&& other) noexcept;
  Aes256GcmEncryption& operator=(Aes256GcmEncryption&& other) noexcept;
  ~Aes256GcmEncryption();

  /// @param key  kKeyBytes. Not retained; what is made of it is wiped by clear(), and with the object.
  void set_key(ByteView key);
  /// Wipes what was made of the key; set_key() comes before the next message.
  void clear();

  /// Encrypts `text` in place and writes the tag.
  void encrypt(ByteView nonce, ByteView aad, std::span<std::byte> text, std::span<std::byte, kTagBytes> tag);

 private:
  friend class Aes256GcmDecryption;
  struct Mode;
  std::unique_ptr<Mode> mode_;
};

/// Decrypts what Aes256GcmEncryption made.
///
/// Thread safety: none; one for each thread.
class Aes256GcmDecryption {
 public:
  Aes256GcmDecryption() noexcept;
  Aes256GcmDecryption(Aes256GcmDecryption&& other) noexcept;
  Aes256GcmDecryption& operator=(Aes256GcmDecryption&& other) noexcept;
  ~Aes256GcmDecryption();

  /// As Aes256GcmEncryption.
  void set_key(ByteView key);
  void clear();

  /// Decrypts `text` in place. @returns false if the tag does not match; `text` is wiped then.
  [[nodiscard]] bool decrypt(ByteView nonce, ByteView aad, std::span<std::byte> text,
                             std::span<const std::byte, kTagBytes> tag);

 private:
  std::unique_ptr<Aes256GcmEncryption::Mode> mode_;
};

/// AES-256-GCM (NIST SP 800-38D) under one key, for many messages with nonces of 12 bytes: the key is expanded once.
///
/// Thread safety: none; one for each thread.
class Aes256Gcm {
 public:
  /// @param key  kKeyBytes. Not retained; what is made of it is wiped with the object.
  explicit Aes256Gcm(ByteView key);
  Aes256Gcm(Aes256Gcm&& other) noexcept;
  Aes256Gcm& operator=(Aes256Gcm&& other) noexcept;
  ~Aes256Gcm();

  /// Encrypts `text` in place and writes the tag.
  void encrypt(ByteView nonce, ByteView aad, std::span<std::byte> text, std::span<std::byte, kTagBytes> tag);

  /// Decrypts `text` in place. @returns false if the tag does not match; `text` is wiped then.
  [[nodiscard]] bool decrypt(ByteView nonce, ByteView aad, std::span<std::byte> text,
                             std::span<const std::byte, kTagBytes> tag);

 private:
  SecretBytes key_;
  std::optional<Aes256GcmEncryption> encryption_;
  std::optional<Aes256GcmDecryption> decryption_;
};

/// Aes256Gcm for one message.
void aes256_gcm_encrypt(ByteView key, ByteView nonce, ByteView aad, std::span<std::byte> text,
                        std::span<std::byte, kTagBytes> tag);
[[nodiscard]] bool aes256_gcm_decrypt(ByteView key, ByteView nonce, ByteView aad, std::span<std::byte> text,
                                      std::span<const std::byte, kTagBytes> tag);

/// AES-256-CBC without padding (NIST SP 800-38A), in place. It authenticates nothing.
/// @param iv    16 bytes.
/// @param text  a multiple of 16 bytes.
void aes256_cbc_encrypt(ByteView key, ByteView iv, std::span<std::byte> text);
void aes256_cbc_decrypt(ByteView key, ByteView iv, std::span<std::byte> text);

/// Compares in a time that depends on the size alone.
[[nodiscard]] bool equal(ByteView a, ByteView b) noexcept;

/// @returns nothing unless `text` is lower-case hexadecimal of even length.
[[nodiscard]] std::optional<Bytes> from_hex(std::string_view text);

/// RFC 4648 section 5, without padding.
[[nodiscard]] std::string to_base64url(ByteView bytes);
/// @returns nothing unless `text` is exactly what to_base64url() makes of some bytes.
[[nodiscard]] std::optional<Bytes> from_base64url(std::string_view text);

}  // namespace hsmseal::crypto
