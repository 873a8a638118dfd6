#pragma once

#include <hsmseal/credential_set.hpp>
#include <hsmseal/error.hpp>

#include "keywrap/token_connection.hpp"

namespace hsmseal::keywrap {

/// The pool of the token that a description names.
/// @throws as TokenConnection::connect().
[[nodiscard]] std::shared_ptr<SessionPool> connect_described(TokenConnection& token, const KeyDescription& key);

/// What is thrown when the token does not show the key.
[[nodiscard]] KeyNotFoundError no_such_key(const TokenConnection& token, const KeyDescription& key);

}  // namespace hsmseal::keywrap
