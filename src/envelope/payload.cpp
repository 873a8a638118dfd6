#include "envelope/payload.hpp"

#include <algorithm>
#include <array>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "envelope/padding.hpp"
#include "platform/platform.hpp"

namespace hsmseal::envelope {
namespace {

/// What is kept from one payload to the next: enough for passwords, keys and their contexts.
constexpr std::size_t kKept = 4096;

/// Wipes plaintext that an exception left behind.
class WipedUnlessDone {
 public:
  explicit WipedUnlessDone(std::span<std::byte> text) noexcept : text_(text) {}
  WipedUnlessDone(const WipedUnlessDone&) = delete;
  WipedUnlessDone& operator=(const WipedUnlessDone&) = delete;
  ~WipedUnlessDone() { platform::wipe(text_.data(), text_.size()); }
  void done() noexcept { text_ = {}; }

 private:
  std::span<std::byte> text_;
};

/// Wipes a key from a cipher that goes on to be used with others.
template <typename Cipher>
class Keyed {
 public:
  Keyed(Cipher& cipher, ByteView key) : cipher_(cipher) { cipher.set_key(key); }
  Keyed(const Keyed&) = delete;
  Keyed& operator=(const Keyed&) = delete;
  ~Keyed() { cipher_.clear(); }

 private:
  Cipher& cipher_;
};

/// A workbench, with ciphers for data keys that are used once.
struct OneTimeBench {
  static OneTimeBench& of_thread() {
    thread_local OneTimeBench bench;
    return bench;
  }

  Workbench bench;
  crypto::Aes256GcmEncryption encryption;
  crypto::Aes256GcmDecryption decryption;
};

}  // namespace

/// Neither version nor wrap algorithm is in it, so that an envelope can be rewrapped without touching its payload.
ByteView Workbench::aad(const wire::Envelope& envelope, const RingId& ring, ContextView context) {
  if (aad_.capacity() > 2 * kKept) aad_ = {};
  core::Binding aad{core::kPayloadLabel, std::move(aad_)};
  aad_ = aad.append(static_cast<std::uint8_t>(envelope.suite))
             .append(wire::flags_of(envelope))
             .append(ring)
             .append_sized(context.bytes())
             .take();
  return aad_;
}

Bytes Workbench::seal(crypto::Aes256GcmEncryption& cipher, const Header& header, const wire::Nonce& nonce,
                      Secret secret, ContextView context) {
  // Encrypted in memory for secrets and copied from there: where the result lies, plaintext must not.
  SecretBytes large;
  if (secret.padded_size > kKept) large = SecretBytes{secret.padded_size};
  if (secret.padded_size <= kKept && scratch_.empty()) scratch_ = SecretBytes{kKept};
  const auto text = (large.empty() ? scratch_ : large).writable().first(secret.padded_size);
  WipedUnlessDone plain{text};
  copy_padded(secret.bytes, text);
  std::array<std::byte, wire::kTagBytes> tag;
  cipher.encrypt(nonce, aad(header.envelope, header.ring, context), text, tag);
  plain.done();
  return wire::write_rest(header.start, nonce, text, tag);
}

SecretBytes Workbench::open(crypto::Aes256GcmDecryption& cipher, const wire::Envelope& envelope, const RingId& ring,
                            ContextView context) {
  SecretBytes secret{envelope.payload.first(envelope.payload.size() - wire::kTagBytes)};
  const auto tag = envelope.payload.last<wire::kTagBytes>();
  if (!cipher.decrypt(envelope.nonce, aad(envelope, ring, context), secret.writable(), tag)) throw OpenError();
  return envelope.padded ? without_padding(std::move(secret)) : std::move(secret);
}

wire::Nonce new_nonce() {
  wire::Nonce nonce;
  crypto::draw_random(nonce);
  return nonce;
}

Bytes seal_once(PayloadKeyView key, const wire::Envelope& envelope, const RingId& ring, Workbench::Secret secret,
                ContextView context) {
  OneTimeBench& own = OneTimeBench::of_thread();
  const Keyed keyed{own.encryption, key.key()};
  const Bytes start = wire::write_start(envelope);
  return own.bench.seal(own.encryption, {envelope, start, ring}, new_nonce(), secret, context);
}

Opening::Opening(PayloadKeyView key) : key_(key) { OneTimeBench::of_thread().decryption.set_key(key.key()); }

Opening::~Opening() { OneTimeBench::of_thread().decryption.clear(); }

SecretBytes Opening::open(const wire::Envelope& envelope, const RingId& ring, ContextView context) {
  key_.check_commitment(envelope);
  OneTimeBench& own = OneTimeBench::of_thread();
  return own.bench.open(own.decryption, envelope, ring, context);
}

}  // namespace hsmseal::envelope
