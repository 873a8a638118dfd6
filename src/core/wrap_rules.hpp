#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <hsmseal/credential_set.hpp>

#include "core/binding.hpp"

/// What each algorithm puts around the bytes that it wraps: src/FORMAT.md section 3.2.
namespace hsmseal::core {

inline constexpr std::size_t kGcmTagBytes = 16;
inline constexpr std::size_t kCbcIvBytes = 16;
inline constexpr std::size_t kCbcMacBytes = 32;
inline constexpr std::size_t kCbcBlockBytes = 16;
inline constexpr std::size_t kMostCbcBytes = 4096;

/// Whether an IV of the algorithm may have this size.
[[nodiscard]] constexpr bool is_iv_size(WrapAlgorithm algorithm, std::size_t size) noexcept {
  return size == kCbcIvBytes || (algorithm == WrapAlgorithm::Aes256Gcm && size == 12);
}

/// The size of what stands behind the ciphertext.
[[nodiscard]] constexpr std::size_t tag_bytes(WrapAlgorithm algorithm) noexcept {
  return algorithm == WrapAlgorithm::Aes256Gcm ? kGcmTagBytes : kCbcMacBytes;
}

[[nodiscard]] constexpr std::size_t iv_bytes(const WrapProfile& profile) noexcept {
  return profile.algorithm == WrapAlgorithm::Aes256Gcm ? profile.gcm.iv_bytes : kCbcIvBytes;
}

/// What wrapping adds: IV, and tag or MAC.
[[nodiscard]] constexpr std::size_t overhead(const WrapProfile& profile) noexcept {
  return iv_bytes(profile) + tag_bytes(profile.algorithm);
}

/// Whether some profile of the algorithm makes `wrapped` bytes of `plain`.
[[nodiscard]] constexpr bool is_wrapped_size(WrapAlgorithm algorithm, std::size_t wrapped, std::size_t plain) noexcept {
  const std::size_t without_iv = plain + tag_bytes(algorithm);
  return wrapped > without_iv && is_iv_size(algorithm, wrapped - without_iv);
}

/// Whether the profile wraps this many bytes: CBC has no padding, so it takes whole blocks, and at least one.
[[nodiscard]] constexpr bool can_wrap(const WrapProfile& profile, std::size_t plain) noexcept {
  if (plain > profile.max_plaintext) return false;
  if (profile.algorithm == WrapAlgorithm::Aes256Gcm) return true;
  return plain != 0 && plain <= kMostCbcBytes && plain % kCbcBlockBytes == 0;
}

/// @returns what is wrong with a profile that no token can have, if anything.
[[nodiscard]] constexpr std::optional<std::string_view> wrong_profile(const WrapProfile& profile) noexcept {
  if (profile.algorithm != WrapAlgorithm::Aes256Gcm) return std::nullopt;
  if (!is_iv_size(profile.algorithm, profile.gcm.iv_bytes)) return "iv_bytes is neither 12 nor 16";
  if (profile.gcm.iv_rule == IvRule::Caller && profile.gcm.iv_bytes != 12) return "the caller's IV has 12 bytes";
  return std::nullopt;
}

/// What the second key of WrapAlgorithm::Aes256CbcHmac signs.
/// @param sealed  IV and ciphertext.
[[nodiscard]] inline Bytes cbc_mac_input(ByteView aad, ByteView sealed) {
  return Binding{kCbcHmacLabel}
      .append(static_cast<std::uint8_t>(WrapAlgorithm::Aes256CbcHmac))
      .append(static_cast<std::uint32_t>(aad.size()))
      .append(aad)
      .append(sealed)
      .take();
}

}  // namespace hsmseal::core
