#pragma once

#include <hsmseal/credential_set.hpp>

#include "keywrap/token_connection.hpp"

namespace hsmseal::keywrap {

/// KeyProvider::destroy() for one token: finds, proves and destroys the key, or both of them, in one session.
void destroy_described_key(TokenConnection& token, const KeyDescription& key);

}  // namespace hsmseal::keywrap
