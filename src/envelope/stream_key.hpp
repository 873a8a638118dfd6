#pragma once

#include <span>

#include <hsmseal/context.hpp>

#include "crypto/crypto.hpp"
#include "envelope/stream_layout.hpp"
#include "envelope/wire.hpp"

namespace hsmseal::envelope {

/// What the data key of one stream is for: the key of its segments and the commitment to it.
class StreamKey {
 public:
  /// @param nonce  the header's. Not retained.
  StreamKey(const SecretBytes& data_key, const RingId& ring, ByteView nonce);

  [[nodiscard]] ByteView commitment() const noexcept { return derived_.view().last(wire::kCommitmentBytes); }

  /// @throws OpenError  the stream was sealed under another data key, or its nonce was altered.
  void check_commitment(ByteView commitment) const;

 private:
  friend class SegmentCipher;
  [[nodiscard]] ByteView key() const noexcept { return derived_.view().first(wire::kDataKeyBytes); }

  static constexpr std::size_t kPrefixBytes = 7;  ///< of the header's nonce, in that of each segment
  SecretBytes derived_;
  std::array<std::byte, kPrefixBytes> prefix_;
};

/// What each segment of a stream is bound to besides its place.
[[nodiscard]] Bytes segment_aad(const RingId& ring, ContextView context);

/// Encrypts and decrypts the segments of one stream, in any order.
///
/// Thread safety: none; one for each thread.
class SegmentCipher {
 public:
  SegmentCipher(const StreamKey& key, Bytes aad) : prefix_(key.prefix_), aad_(std::move(aad)), gcm_(key.key()) {}

  /// @param place  not beyond kMostSegments.
  void encrypt(SegmentPlace place, std::span<std::byte> text, std::span<std::byte, wire::kTagBytes> tag);

  /// @throws OpenError  altered, of another place or another context; `text` is wiped.
  void decrypt(SegmentPlace place, std::span<std::byte> text, std::span<const std::byte, wire::kTagBytes> tag);

 private:
  [[nodiscard]] std::array<std::byte, wire::kNonceBytes> nonce_of(SegmentPlace place) const;

  std::array<std::byte, StreamKey::kPrefixBytes> prefix_;
  Bytes aad_;
  crypto::Aes256Gcm gcm_;
};

/// All segments of a stream that is in memory.
[[nodiscard]] Bytes seal_segments(SegmentCipher cipher, ByteView plaintext);

/// @param sealed  at least a tag.
/// @throws OpenError
[[nodiscard]] SecretBytes open_segments(SegmentCipher cipher, ByteView sealed);

}  // namespace hsmseal::envelope
