#pragma once

#include <string>
#include <string_view>

#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::envelope {

/// "hse1." and base64url, src/FORMAT.md section 5.
[[nodiscard]] std::string to_text(ByteView sealed);

/// @throws FormatError
[[nodiscard]] Bytes from_text(std::string_view text);

}  // namespace hsmseal::envelope
