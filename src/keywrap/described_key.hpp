#pragma once

#include <optional>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/error.hpp>

#include "keywrap/token_connection.hpp"
#include "keywrap/wrapping.hpp"

namespace hsmseal::keywrap {

/// What a session shows of the keys that a description names.
struct ShownKeys {
  std::optional<KeyHandle> kek;
  std::optional<KeyHandle> mac;  ///< absent also where the algorithm has none
  pkcs11::HandleWatch watch;     ///< taken before the search

  /// @returns nothing if one that the algorithm needs is not there.
  [[nodiscard]] std::optional<FoundKeys> all(WrapAlgorithm algorithm) const;
};

[[nodiscard]] ShownKeys look_up(Pkcs11Session& session, const KeyDescription& key);

/// What is thrown when the token does not show a key.
[[nodiscard]] KeyNotFoundError no_such_key(const TokenConnection& token, const KeyDescription& key, KeyPart missing);

}  // namespace hsmseal::keywrap
