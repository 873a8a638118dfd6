#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

/// Texts between Windows, which has them in UTF-16, and hsmseal, which has them in UTF-8.
namespace hsmseal::platform {

[[nodiscard]] std::string utf8(std::wstring_view text);

/// @throws InvalidArgumentError  not UTF-8.
[[nodiscard]] std::wstring utf16(std::string_view text);

/// What the system says of an error of GetLastError().
[[nodiscard]] std::string reason(unsigned long error);

template <typename... Arguments>
InvalidArgumentError refusal(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  return InvalidArgumentError(fmt::format(text, std::forward<Arguments>(arguments)...));
}

}  // namespace hsmseal::platform
