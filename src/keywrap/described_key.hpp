#pragma once

#include <hsmseal/credential_set.hpp>
#include <hsmseal/error.hpp>

#include "keywrap/token_connection.hpp"

namespace hsmseal::keywrap {

/// What is thrown when the token does not show the key.
[[nodiscard]] KeyNotFoundError no_such_key(const TokenConnection& token, const KeyDescription& key);

}  // namespace hsmseal::keywrap
