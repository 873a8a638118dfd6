#include "crypto/crypto.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>

#include <botan/aead.h>
#include <botan/base64.h>
#include <botan/cipher_mode.h>
#include <botan/exceptn.h>
#include <botan/hash.h>
#include <botan/hex.h>
#include <botan/kdf.h>
#include <botan/mac.h>
#include <botan/mem_ops.h>
#include <botan/system_rng.h>
#include <botan/version.h>

#include "core/hex.hpp"

namespace hsmseal::crypto {
namespace {

// Botan 3 has other names for the directions; the former ones are deprecated there.
#if BOTAN_VERSION_MAJOR >= 3
constexpr auto kEncryption = Botan::Cipher_Dir::Encryption, kDecryption = Botan::Cipher_Dir::Decryption;
#else
constexpr auto kEncryption = Botan::Cipher_Dir::ENCRYPTION, kDecryption = Botan::Cipher_Dir::DECRYPTION;
#endif

using Buffer = Botan::secure_vector<std::uint8_t>;

const std::uint8_t* raw(ByteView bytes) { return reinterpret_cast<const std::uint8_t*>(bytes.data()); }
std::uint8_t* writable(std::span<std::byte> bytes) { return reinterpret_cast<std::uint8_t*>(bytes.data()); }

Buffer buffer(ByteView bytes) { return {raw(bytes), raw(bytes) + bytes.size()}; }

/// Runs all but the end of `text` through the cipher in place, so that large secrets never lie in memory that is not
/// ours; Botan wants the end in a buffer of its own. @returns where the end starts.
std::size_t process_in_place(Botan::AEAD_Mode& mode, std::span<std::byte> text) {
  const std::size_t granularity = mode.update_granularity();
  const std::size_t whole = text.size() / granularity * granularity;
  if (whole != 0) mode.process(writable(text), whole);
  return whole;
}

void copy_out(std::span<std::byte> to, const std::uint8_t* from) {
  std::transform(from, from + to.size(), to.begin(), [](std::uint8_t b) { return std::byte{b}; });
}

void aes256_cbc(Botan::Cipher_Dir direction, ByteView key, ByteView iv, std::span<std::byte> text) {
  auto mode = Botan::Cipher_Mode::create_or_throw("AES-256/CBC/NoPadding", direction);
  mode->set_key(raw(key), key.size());
  mode->start(raw(iv), iv.size());
  Buffer whole = buffer(text);
  mode->finish(whole);
  copy_out(text, whole.data());
}

}  // namespace

void random_fill(std::span<std::byte> out) { Botan::system_rng().randomize(writable(out), out.size()); }

SecretBytes random_secret(std::size_t size) {
  SecretBytes secret{size};
  random_fill(secret.writable());
  return secret;
}

Digest sha256(ByteView data) {
  auto hash = Botan::HashFunction::create_or_throw("SHA-256");
  hash->update(raw(data), data.size());
  Digest digest;
  hash->final(writable(digest));
  return digest;
}

Digest hmac_sha256(ByteView key, ByteView data) {
  auto mac = Botan::MessageAuthenticationCode::create_or_throw("HMAC(SHA-256)");
  mac->set_key(raw(key), key.size());
  mac->update(raw(data), data.size());
  Digest digest;
  mac->final(writable(digest));
  return digest;
}

SecretBytes hkdf_expand_sha256(ByteView key, ByteView info, std::size_t size) {
  auto kdf = Botan::KDF::create_or_throw("HKDF-Expand(SHA-256)");
  // Vectors are what derive_key() takes in Botan 2 and 3 alike.
  const Buffer derived = kdf->derive_key(size, buffer(key), Buffer{}, buffer(info));
  SecretBytes out{size};
  copy_out(out.writable(), derived.data());
  return out;
}

/// Botan has an object for each direction; one that is not used is not made.
struct Aes256Gcm::Modes {
  using Mode = std::unique_ptr<Botan::AEAD_Mode>;

  explicit Modes(ByteView aes_key) : key(aes_key) {}

  Botan::AEAD_Mode& start(Mode& mode, Botan::Cipher_Dir direction, ByteView nonce, ByteView aad) {
    if (!mode) {
      mode = Botan::AEAD_Mode::create_or_throw("AES-256/GCM", direction);
      mode->set_key(raw(key.view()), key.size());
    }
    mode->set_associated_data(raw(aad), aad.size());
    mode->start(raw(nonce), nonce.size());
    return *mode;
  }

  SecretBytes key;
  Mode encryption;
  Mode decryption;
  Buffer end;
};

Aes256Gcm::Aes256Gcm(ByteView key) : modes_(std::make_unique<Modes>(key)) {}
Aes256Gcm::Aes256Gcm(Aes256Gcm&& other) noexcept = default;
Aes256Gcm& Aes256Gcm::operator=(Aes256Gcm&& other) noexcept = default;
Aes256Gcm::~Aes256Gcm() = default;

void Aes256Gcm::encrypt(ByteView nonce, ByteView aad, std::span<std::byte> text, std::span<std::byte, kTagBytes> tag) {
  Botan::AEAD_Mode& mode = modes_->start(modes_->encryption, kEncryption, nonce, aad);
  const auto rest = text.subspan(process_in_place(mode, text));
  Buffer& end = modes_->end;
  end.assign(raw(rest), raw(rest) + rest.size());
  mode.finish(end);
  copy_out(rest, end.data());
  copy_out(tag, end.data() + rest.size());
}

bool Aes256Gcm::decrypt(ByteView nonce, ByteView aad, std::span<std::byte> text,
                        std::span<const std::byte, kTagBytes> tag) {
  Botan::AEAD_Mode& mode = modes_->start(modes_->decryption, kDecryption, nonce, aad);
  const auto rest = text.subspan(process_in_place(mode, text));
  Buffer& end = modes_->end;
  end.assign(raw(rest), raw(rest) + rest.size());
  end.insert(end.end(), raw(tag), raw(tag) + tag.size());
  try {
    mode.finish(end);
  } catch (const Botan::Invalid_Authentication_Tag&) {
    Botan::secure_scrub_memory(text.data(), text.size());
    return false;
  }
  copy_out(rest, end.data());
  return true;
}

void aes256_gcm_encrypt(ByteView key, ByteView nonce, ByteView aad, std::span<std::byte> text,
                        std::span<std::byte, kTagBytes> tag) {
  Aes256Gcm{key}.encrypt(nonce, aad, text, tag);
}

bool aes256_gcm_decrypt(ByteView key, ByteView nonce, ByteView aad, std::span<std::byte> text,
                        std::span<const std::byte, kTagBytes> tag) {
  return Aes256Gcm{key}.decrypt(nonce, aad, text, tag);
}

void aes256_cbc_encrypt(ByteView key, ByteView iv, std::span<std::byte> text) {
  aes256_cbc(kEncryption, key, iv, text);
}
void aes256_cbc_decrypt(ByteView key, ByteView iv, std::span<std::byte> text) {
  aes256_cbc(kDecryption, key, iv, text);
}

bool equal(ByteView a, ByteView b) noexcept {
  return a.size() == b.size() && Botan::constant_time_compare(raw(a), raw(b), a.size());
}

std::optional<Bytes> from_hex(std::string_view text) {
  if (text.find_first_not_of("0123456789abcdef") != std::string_view::npos || text.size() % 2 != 0) return std::nullopt;
  Bytes bytes(text.size() / 2);
  Botan::hex_decode(writable(bytes), text.data(), text.size(), false);
  return bytes;
}

std::string to_base64url(ByteView bytes) {
  std::string text = Botan::base64_encode(raw(bytes), bytes.size());
  text.erase(std::min(text.find('='), text.size()));
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  return text;
}

std::optional<Bytes> from_base64url(std::string_view text) {
  std::string standard{text};
  std::replace(standard.begin(), standard.end(), '-', '+');
  std::replace(standard.begin(), standard.end(), '_', '/');
  standard.append((4 - standard.size() % 4) % 4, '=');
  Bytes bytes(Botan::base64_decode_max_output(standard.size()));
  try {
    bytes.resize(Botan::base64_decode(writable(bytes), standard, false));
  } catch (const std::exception&) {
    return std::nullopt;
  }
  // Whatever decoders tolerate (padding, white space, other alphabets, trailing bits) does not survive this.
  if (to_base64url(bytes) != text) return std::nullopt;
  return bytes;
}

}  // namespace hsmseal::crypto
