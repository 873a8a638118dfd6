#pragma once

#include <span>
#include <string_view>

namespace hsmseal::core {

/// Where a vendor's PKCS#11 driver is installed unless the administrator chose another place.
struct Vendor {
  std::string_view alias;                           ///< as in Host::driver(); unique
  std::span<const std::string_view> library_paths;  ///< absolute, never empty; the first that exists is meant
  std::string_view source;                          ///< who says so: a document, a package or a project's file
};

/// The vendors with a known path on the platform compiled for. Refers to constants.
///
/// Thread safety: any thread.
[[nodiscard]] std::span<const Vendor> vendors() noexcept;

}  // namespace hsmseal::core
