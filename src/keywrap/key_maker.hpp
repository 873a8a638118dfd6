#pragma once

#include <hsmseal/credential_set.hpp>

#include "keywrap/token_connection.hpp"

namespace hsmseal::keywrap {

/// KeyProvider::provision() for one token.
[[nodiscard]] KeyDescription make_or_adopt_key(TokenConnection& token, const SetSpec& spec, const RingId& ring,
                                               Version version);

}  // namespace hsmseal::keywrap
