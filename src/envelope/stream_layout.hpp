#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "envelope/wire.hpp"

/// How a stream is cut into segments: src/FORMAT.md section 3.5.
namespace hsmseal::envelope {

inline constexpr std::size_t kSegmentBytes = std::size_t{64} << 10;  ///< of plaintext; the last one may have less
inline constexpr std::size_t kSealedSegmentBytes = kSegmentBytes + wire::kTagBytes;
inline constexpr std::uint64_t kMostSegments = std::uint64_t{1} << 32;  ///< what the counter in a nonce can tell apart

/// Copies a piece of a segment. With g++ 12 std::ranges::copy is a loop over bytes, which takes as long as encrypting them.
/// @param to  has as much room, or more.
inline void copy_bytes(ByteView from, std::span<std::byte> to) noexcept {
  if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
}

/// Where a segment stands in its stream.
struct SegmentPlace {
  std::uint64_t index = 0;
  bool is_last = false;
};

/// How many segments there are in so many sealed bytes, the last one perhaps cut; at least one.
[[nodiscard]] constexpr std::uint64_t segments_in(std::uint64_t sealed_bytes) noexcept {
  return sealed_bytes == 0 ? 1 : (sealed_bytes - 1) / kSealedSegmentBytes + 1;
}

/// Whether a last segment may have so many sealed bytes: an empty one is the only one of its stream.
[[nodiscard]] constexpr bool can_be_last(std::uint64_t index, std::size_t sealed_bytes) noexcept {
  return sealed_bytes <= kSealedSegmentBytes && sealed_bytes >= wire::kTagBytes + (index == 0 ? 0 : 1);
}

/// The size of the plaintext in so many sealed bytes, which are at least a tag.
[[nodiscard]] constexpr std::uint64_t plain_bytes_in(std::uint64_t sealed_bytes) noexcept {
  return sealed_bytes - segments_in(sealed_bytes) * wire::kTagBytes;
}

/// The size of all segments of so much plaintext.
[[nodiscard]] constexpr std::uint64_t sealed_bytes_of(std::uint64_t plain_bytes) noexcept {
  const std::uint64_t segments = plain_bytes == 0 ? 1 : (plain_bytes - 1) / kSegmentBytes + 1;
  return plain_bytes + segments * wire::kTagBytes;
}

}  // namespace hsmseal::envelope
