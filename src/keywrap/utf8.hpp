#pragma once

#include <string_view>

namespace hsmseal::keywrap {

/// Whether a text is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

}  // namespace hsmseal::keywrap
