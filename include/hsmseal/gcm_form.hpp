#pragma once

#include <compare>
#include <cstdint>
#include <string_view>

#include <hsmseal/export.hpp>

namespace hsmseal {

/// Who makes the IV of an AES-GCM encryption in the token, and where it is found.
enum class IvRule : std::uint8_t {
  Caller,         ///< hsmseal makes 12 random bytes, the token uses them unchanged
  TokenWrites,    ///< the token wants a buffer of zeros and writes its IV there (AWS CloudHSM, Google kmsp11)
  TokenAppends,   ///< the token wants no buffer and puts its IV behind the tag (Luna in FIPS mode)
  TokenPrepends,  ///< the token wants a buffer of zeros and puts its IV before the ciphertext
};

/// "caller", "token-writes", "token-appends" or "token-prepends", as src/FORMAT.md has it; "unknown" for any other value.
[[nodiscard]] HSMSEAL_API std::string_view to_string(IvRule rule) noexcept;

/// Which CK_GCM_PARAMS a driver reads.
enum class GcmParameters : std::uint8_t {
  WithIvBits,     ///< six fields, with ulIvBits (PKCS#11 2.40, section 2.12.2, as its header has it)
  WithoutIvBits,  ///< five fields, as that section's text has it
};

/// "with-iv-bits" or "without-iv-bits", as src/FORMAT.md has it; "unknown" for any other value.
[[nodiscard]] HSMSEAL_API std::string_view to_string(GcmParameters parameters) noexcept;

/// How a token does AES-GCM.
struct GcmForm {
  IvRule iv_rule = IvRule::Caller;                       ///< who makes the IV
  std::uint32_t iv_bytes = 12;                           ///< the IV's size: 12 or 16
  std::uint64_t mechanism = 0x1087;                      ///< CKM_AES_GCM, or a vendor's number
  GcmParameters parameters = GcmParameters::WithIvBits;  ///< the layout
  auto operator<=>(const GcmForm&) const = default;
};

}  // namespace hsmseal
