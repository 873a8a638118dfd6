#pragma once

#include <string>
#include <vector>

#include <hsmseal/pkcs11_session.hpp>

#include "keywrap/session_pool.hpp"
#include "pkcs11/handle_watch.hpp"

namespace hsmseal::keywrap {

/// A key that hsmseal made a moment ago, under a random CKA_ID of its own. Nothing was sealed under it yet.
struct MadeKey {
  KeyTemplate as;
  KeyHandle handle;
  pkcs11::HandleWatch watch;
};

/// What became of it is still to be checked: SessionAccess::check_made_as_asked().
[[nodiscard]] MadeKey make_key(Pkcs11Session& session, std::string label, KeyUse use,
                               KeyLifetime lifetime = KeyLifetime::Token);

/// Destroys them all.
/// @returns what is to be said of those that stay behind; empty if none does.
[[nodiscard]] std::string destroy_unused(SessionPool& pool, const std::vector<MadeKey>& made);

}  // namespace hsmseal::keywrap
