#include "crypto/crypto.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>

#include <botan/aead.h>
#include <botan/base64.h>
#include <botan/cipher_mode.h>
#include <botan/exceptn.h>
#include <botan/hash.h>
#include <botan/hex.h>
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

constexpr std::size_t kBlockBytes = 32;
constexpr std::size_t kMostExpanded = 255 * kBlockBytes;

template <typename Value>
struct WipedAtEnd {
  WipedAtEnd() = default;
  WipedAtEnd(const WipedAtEnd&) = delete;
  WipedAtEnd& operator=(const WipedAtEnd&) = delete;
  ~WipedAtEnd() { Botan::secure_scrub_memory(&value, sizeof value); }
  Value value{};
};

/// A key in an object that goes on to be used with others. At the end one of zeros takes its place: clear() would give
/// memory back to a pool of the whole process, and the next key would have to ask for it.
class KeyedMac {
 public:
  KeyedMac(Botan::MessageAuthenticationCode& mac, ByteView key) : mac_(mac) { mac.set_key(raw(key), key.size()); }
  KeyedMac(const KeyedMac&) = delete;
  KeyedMac& operator=(const KeyedMac&) = delete;
  ~KeyedMac() {
    constexpr std::array<std::uint8_t, kKeyBytes> kZeros{};
    mac_.set_key(kZeros.data(), kZeros.size());
  }

 private:
  Botan::MessageAuthenticationCode& mac_;
};

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
  SecretBytes out{size};
  hkdf_expand_sha256(key, info, out.writable());
  return out;
}

// Written out because Botan's object for it allocates at each use, under a lock of the whole process.
void hkdf_expand_sha256(ByteView key, ByteView info, std::span<std::byte> out) {
  if (out.size() > kMostExpanded) throw std::invalid_argument("HKDF-Expand makes at most 255 blocks");
  thread_local const auto mac = Botan::MessageAuthenticationCode::create_or_throw("HMAC(SHA-256)");
  WipedAtEnd<std::array<std::uint8_t, kBlockBytes>> block;
  const KeyedMac keyed{*mac, key};
  std::uint8_t counter = 0;
  for (std::span<std::byte> rest = out; !rest.empty();) {
    if (counter != 0) mac->update(block.value.data(), block.value.size());
    mac->update(raw(info), info.size());
    mac->update(++counter);
    mac->final(block.value.data());
    const std::size_t size = std::min(rest.size(), block.value.size());
    copy_out(rest.first(size), block.value.data());
    rest = rest.subspan(size);
  }
}

// ---- AES-GCM --------------------------------------------------------------------------------------------------------

struct Aes256GcmEncryption::Mode {
  explicit Mode(Botan::Cipher_Dir direction) : aead(Botan::AEAD_Mode::create_or_throw("AES-256/GCM", direction)) {}

  /// The mode of an object, which is made when it is first used.
  static Mode& of(std::unique_ptr<Mode>& mode, Botan::Cipher_Dir direction) {
    if (!mode) mode = std::make_unique<Mode>(direction);
    return *mode;
  }

  void start(ByteView nonce, ByteView aad) const {
    aead->set_associated_data(raw(aad), aad.size());
    aead->start(raw(nonce), nonce.size());
  }

  const std::unique_ptr<Botan::AEAD_Mode> aead;
  Buffer end;
};

Aes256GcmEncryption::Aes256GcmEncryption() noexcept = default;
Aes256GcmEncryption::Aes256GcmEncryption(Aes256GcmEncryption&& other) noexcept = default;
Aes256GcmEncryption& Aes256GcmEncryption::operator=(Aes256GcmEncryption&& other) noexcept = default;
Aes256GcmEncryption::~Aes256GcmEncryption() = default;

void Aes256GcmEncryption::set_key(ByteView key) { Mode::of(mode_, kEncryption).aead->set_key(raw(key), key.size()); }

void Aes256GcmEncryption::clear() {
  if (mode_) mode_->aead->clear();
}

void Aes256GcmEncryption::encrypt(ByteView nonce, ByteView aad, std::span<std::byte> text,
                                  std::span<std::byte, kTagBytes> tag) {
  Mode& mode = Mode::of(mode_, kEncryption);
  mode.start(nonce, aad);
  const auto rest = text.subspan(process_in_place(*mode.aead, text));
  Buffer& end = mode.end;
  end.assign(raw(rest), raw(rest) + rest.size());
  mode.aead->finish(end);
  copy_out(rest, end.data());
  copy_out(tag, end.data() + rest.size());
}

Aes256GcmDecryption::Aes256GcmDecryption() noexcept = default;
Aes256GcmDecryption::Aes256GcmDecryption(Aes256GcmDecryption&& other) noexcept = default;
Aes256GcmDecryption& Aes256GcmDecryption::operator=(Aes256GcmDecryption&& other) noexcept = default;
Aes256GcmDecryption::~Aes256GcmDecryption() = default;

void Aes256GcmDecryption::set_key(ByteView key) {
  Aes256GcmEncryption::Mode::of(mode_, kDecryption).aead->set_key(raw(key), key.size());
}

void Aes256GcmDecryption::clear() {
  if (mode_) mode_->aead->clear();
}

bool Aes256GcmDecryption::decrypt(ByteView nonce, ByteView aad, std::span<std::byte> text,
                                  std::span<const std::byte, kTagBytes> tag) {
  auto& mode = Aes256GcmEncryption::Mode::of(mode_, kDecryption);
  mode.start(nonce, aad);
  const auto rest = text.subspan(process_in_place(*mode.aead, text));
  Buffer& end = mode.end;
  end.assign(raw(rest), raw(rest) + rest.size());
  end.insert(end.end(), raw(tag), raw(tag) + tag.size());
  try {
    mode.aead->finish(end);
  } catch (const Botan::Invalid_Authentication_Tag&) {
    Botan::secure_scrub_memory(text.data(), text.size());
    Botan::secure_scrub_memory(end.data(), end.size());
    return false;
  }
  copy_out(rest, end.data());
  Botan::secure_scrub_memory(end.data(), end.size());
  return true;
}

Aes256Gcm::Aes256Gcm(ByteView key) : key_(key) {}
Aes256Gcm::Aes256Gcm(Aes256Gcm&& other) noexcept = default;
Aes256Gcm& Aes256Gcm::operator=(Aes256Gcm&& other) noexcept = default;
Aes256Gcm::~Aes256Gcm() = default;

void Aes256Gcm::encrypt(ByteView nonce, ByteView aad, std::span<std::byte> text, std::span<std::byte, kTagBytes> tag) {
  if (!encryption_) encryption_.emplace().set_key(key_.view());
  encryption_->encrypt(nonce, aad, text, tag);
}

bool Aes256Gcm::decrypt(ByteView nonce, ByteView aad, std::span<std::byte> text,
                        std::span<const std::byte, kTagBytes> tag) {
  if (!decryption_) decryption_.emplace().set_key(key_.view());
  return decryption_->decrypt(nonce, aad, text, tag);
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

// Botan's takes as long for 32 bytes as encrypting them.
bool equal(ByteView a, ByteView b) noexcept {
  if (a.size() != b.size()) return false;
  std::byte difference{0};
  for (std::size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == std::byte{0};
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
