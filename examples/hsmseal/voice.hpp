#pragma once

#include <string>

namespace tool {

/// The library's messages name its functions where they say what to do; an operator has commands instead.
[[nodiscard]] std::string for_operators(std::string message);

}  // namespace tool
