#pragma once

// The one place that includes the PKCS#11 header. p11-kit's is 2.40 on Debian 12 and 3.0 later; what hsmseal needs
// beyond 2.40 it defines as plain constants where it is used.
#include <p11-kit/pkcs11.h>

#include <algorithm>
#include <span>
#include <string>

#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::pkcs11 {

/// PKCS#11 takes pointers to mutable bytes for what it only reads.
inline CK_BYTE_PTR in(ByteView bytes) noexcept {
  // Drivers refuse a null pointer even when the length is zero.
  static std::byte nothing{};
  const std::byte* data = bytes.empty() ? &nothing : bytes.data();
  return const_cast<CK_BYTE_PTR>(reinterpret_cast<const CK_BYTE*>(data));
}

inline CK_BYTE_PTR out(std::span<std::byte> bytes) noexcept { return reinterpret_cast<CK_BYTE_PTR>(bytes.data()); }

/// A fixed field of PKCS#11, padded with blanks by the standard and with zeros by some drivers.
template <std::size_t N>
[[nodiscard]] std::string unpadded(const CK_UTF8CHAR (&field)[N]) {
  std::string text(reinterpret_cast<const char*>(field), N);
  text.resize(std::min(text.find('\0'), text.size()));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

}  // namespace hsmseal::pkcs11
