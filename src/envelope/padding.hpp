#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::envelope {

/// The size of a secret with its padding; bucket 0 adds nothing.
[[nodiscard]] constexpr std::size_t padded_size(std::size_t size, std::size_t bucket) noexcept {
  return bucket == 0 ? size : (size / bucket + 1) * bucket;
}

/// ISO/IEC 7816-4: the byte 0x80, then zeros up to a multiple of `bucket`; bucket 0 adds nothing.
[[nodiscard]] SecretBytes padded(ByteView secret, std::size_t bucket);

/// Copies a secret to where it is to be encrypted, and fills what is left there with padding.
void copy_padded(ByteView secret, std::span<std::byte> to) noexcept;

/// @returns the size without the padding; nothing if there is no valid padding.
[[nodiscard]] std::optional<std::size_t> size_without_padding(ByteView padded) noexcept;

/// @throws OpenError  there is no valid padding.
[[nodiscard]] SecretBytes without_padding(SecretBytes padded);

}  // namespace hsmseal::envelope
