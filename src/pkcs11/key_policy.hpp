#pragma once

#include <set>
#include <string>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/pkcs11_session.hpp>

namespace hsmseal::pkcs11 {

enum class KeyOrigin {
  MadeHere,  ///< just generated: it was never outside, unless the token says so
  Existing,  ///< what the token does not tell is held against it
};

/// In which ways a key falls short of one that hsmseal makes for this use. What decides over the key's safety counts as
/// bad when the token does not tell it.
[[nodiscard]] std::set<KeyWeakness> weaknesses(const KeyAttributes& key, KeyUse use, KeyOrigin origin);

/// The attributes behind some weaknesses, for messages.
[[nodiscard]] std::string describe(const std::set<KeyWeakness>& weaknesses);

/// Whether it is an AES key of this many bytes that may be used as said; for KeyUse::Mac a generic secret of as many or
/// more.
[[nodiscard]] bool serves(const KeyAttributes& key, KeyUse use, std::size_t bytes);

}  // namespace hsmseal::pkcs11
