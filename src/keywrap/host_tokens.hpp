#pragma once

#include <string>
#include <vector>

#include <hsmseal/token_binding.hpp>

namespace hsmseal::keywrap {

/// The aliases of all tokens bound on a host, sorted.
[[nodiscard]] std::vector<std::string> token_aliases(const Host& host);

}  // namespace hsmseal::keywrap
