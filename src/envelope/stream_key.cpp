#include "envelope/stream_key.hpp"

#include <algorithm>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"

namespace hsmseal::envelope {
namespace {

constexpr auto kSuite = static_cast<std::uint8_t>(Suite::Stream);

}  // namespace

StreamKey::StreamKey(const SecretBytes& data_key, const RingId& ring, ByteView nonce)
    : derived_(crypto::hkdf_expand_sha256(
          data_key.view(), core::Binding{core::kPayloadLabel}.append(kSuite).append(ring).append(nonce).view(),
          wire::kDataKeyBytes + wire::kCommitmentBytes)),
      prefix_() {
  std::ranges::copy(nonce.first(kPrefixBytes), prefix_.begin());
}

void StreamKey::check_commitment(ByteView commitment_found) const {
  if (!crypto::equal(commitment(), commitment_found)) throw OpenError();
}

/// The context's digest, so that a long context is not hashed again with each segment. It cannot be in the key instead:
/// a stream is rewrapped, and its commitment checked, by those who do not know the context.
Bytes segment_aad(const RingId& ring, ContextView context) {
  constexpr std::uint8_t kNoFlags = 0;
  const crypto::Digest digest = crypto::sha256(context.bytes());
  return core::Binding{core::kPayloadLabel}
      .append(kSuite)
      .append(kNoFlags)
      .append(ring)
      .append(ByteView{digest})
      .take();
}

std::array<std::byte, wire::kNonceBytes> SegmentCipher::nonce_of(SegmentPlace place) const {
  std::array<std::byte, wire::kNonceBytes> nonce{};
  auto next = std::ranges::copy(prefix_, nonce.begin()).out;
  for (const int shift : {24, 16, 8, 0}) *next++ = static_cast<std::byte>((place.index >> shift) & 0xffU);
  *next = place.is_last ? std::byte{1} : std::byte{0};
  return nonce;
}

void SegmentCipher::encrypt(SegmentPlace place, std::span<std::byte> text, std::span<std::byte, wire::kTagBytes> tag) {
  gcm_.encrypt(nonce_of(place), aad_, text, tag);
}

void SegmentCipher::decrypt(SegmentPlace place, std::span<std::byte> text,
                            std::span<const std::byte, wire::kTagBytes> tag) {
  if (!gcm_.decrypt(nonce_of(place), aad_, text, tag)) throw OpenError();
}

Bytes seal_segments(SegmentCipher cipher, ByteView plaintext) {
  Bytes sealed(sealed_bytes_of(plaintext.size()));
  std::span<std::byte> room{sealed};
  SecretBytes text{std::min(plaintext.size(), kSegmentBytes)};
  for (SegmentPlace place; !place.is_last; ++place.index) {
    const ByteView piece = plaintext.first(std::min(plaintext.size(), kSegmentBytes));
    plaintext = plaintext.subspan(piece.size());
    place.is_last = plaintext.empty();
    const auto segment = text.writable().first(piece.size());
    copy_bytes(piece, segment);
    cipher.encrypt(place, segment, room.subspan(piece.size()).first<wire::kTagBytes>());
    copy_bytes(segment, room);
    room = room.subspan(piece.size() + wire::kTagBytes);
  }
  return sealed;
}

SecretBytes open_segments(SegmentCipher cipher, ByteView sealed) {
  SecretBytes plaintext{plain_bytes_in(sealed.size())};
  std::span<std::byte> room = plaintext.writable();
  for (SegmentPlace place; !place.is_last; ++place.index) {
    const ByteView segment = sealed.first(std::min(sealed.size(), kSealedSegmentBytes));
    sealed = sealed.subspan(segment.size());
    place.is_last = sealed.empty();
    if (place.is_last && !can_be_last(place.index, segment.size())) throw OpenError();
    const auto text = room.first(segment.size() - wire::kTagBytes);
    copy_bytes(segment.first(text.size()), text);
    cipher.decrypt(place, text, segment.last<wire::kTagBytes>());
    room = room.subspan(text.size());
  }
  return plaintext;
}

}  // namespace hsmseal::envelope
