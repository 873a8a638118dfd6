#pragma once

#include <memory>
#include <vector>

#include <hsmseal/credential_set.hpp>

#include "keywrap/token_connection.hpp"

namespace hsmseal::keywrap {

/// KeyProvider::find_keys() for tokens that are sorted by their aliases. What two aliases of one token show is listed
/// under the first.
[[nodiscard]] std::vector<FoundKey> find_ring_keys(const std::vector<std::shared_ptr<TokenConnection>>& tokens,
                                                   const RingId& ring);

}  // namespace hsmseal::keywrap
