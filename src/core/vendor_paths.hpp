#pragma once

#include <span>
#include <string_view>

namespace hsmseal::core {

/// Where a vendor's PKCS#11 driver is installed unless the administrator chose another place.
struct VendorPaths {
  std::string_view alias;                           ///< as in Vendor::alias; unique
  std::span<const std::string_view> library_paths;  ///< absolute, never empty; the first that exists is meant
  std::string_view source;                          ///< who says so: a document, a package or a project's file
};

/// The places of one vendor's driver on the platform compiled for, or null.
///
/// Thread safety: any thread.
[[nodiscard]] const VendorPaths* vendor_paths(std::string_view alias) noexcept;

/// Every vendor with a known place on the platform compiled for. Refers to constants.
///
/// Thread safety: any thread.
[[nodiscard]] std::span<const VendorPaths> all_vendor_paths() noexcept;

}  // namespace hsmseal::core
