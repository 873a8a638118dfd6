#pragma once

#include <string>

#include <fmt/format.h>

#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::core {

/// Lower-case hexadecimal digits; for identifiers, never for secrets.
inline std::string to_hex(ByteView bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes)
    fmt::format_to(std::back_inserter(text), "{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

}  // namespace hsmseal::core
