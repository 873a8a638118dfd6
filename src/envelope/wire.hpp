#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include <hsmseal/envelope_header.hpp>

namespace hsmseal::wire {

inline constexpr std::size_t kTagBytes = 16;
inline constexpr std::size_t kCommitmentBytes = 32;
inline constexpr std::size_t kNonceBytes = 12;
inline constexpr std::size_t kDataKeyBytes = 32;

using Nonce = std::array<std::byte, kNonceBytes>;

/// The fields of an envelope, src/FORMAT.md section 2. The views refer to what it was read from or is written from.
struct Envelope {
  Suite suite = Suite::DataKey;
  WrapAlgorithm algorithm = WrapAlgorithm::Aes256Gcm;
  bool padded = false;
  std::array<std::byte, 4> ring_prefix{};
  Version version = 0;
  ByteView wrapped;     ///< the W bytes: the wrapped data key, or the IV alone with Suite::Token
  ByteView commitment;  ///< empty with Suite::Token
  ByteView nonce;       ///< empty with Suite::Token
  ByteView payload;     ///< ciphertext and tag; with Suite::Stream of each segment
};

/// The one place where offsets of untrusted bytes are touched.
/// @throws FormatError
[[nodiscard]] Envelope read(ByteView sealed);

/// The beginning of a stream.
/// @param start  its first kStreamStartBytes, or all of it. `payload` is what of it stands behind the header.
/// @throws FormatError  also for another envelope.
[[nodiscard]] Envelope read_stream(ByteView start);

/// The size of all before the payload.
[[nodiscard]] std::size_t header_bytes(const Envelope& envelope) noexcept;

/// What an envelope with so many bytes of payload says about itself.
[[nodiscard]] EnvelopeHeader header_of(const Envelope& envelope, std::uint64_t payload_bytes);

/// What the first kStartBytes of an envelope say, whatever stands behind them.
struct Start {
  std::array<std::byte, 4> ring_prefix{};
  Version version = 0;  ///< never 0
};
inline constexpr std::size_t kStartBytes = 18;

/// @returns nothing if they are not the beginning of an envelope.
[[nodiscard]] std::optional<Start> read_start(ByteView start);

[[nodiscard]] Bytes write(const Envelope& envelope);

/// The part of an envelope that says under what data key it was sealed: all up to the wrapped key's end.
[[nodiscard]] ByteView through_wrapped(ByteView sealed, const Envelope& envelope) noexcept;

/// write() in two steps: what envelopes under one data key have in common, up to the commitment's end, and the rest.
[[nodiscard]] Bytes write_start(const Envelope& envelope);
[[nodiscard]] Bytes write_rest(ByteView start, ByteView nonce, ByteView ciphertext, ByteView tag);

/// The flags byte of section 2.
[[nodiscard]] std::uint8_t flags_of(const Envelope& envelope) noexcept;

}  // namespace hsmseal::wire
