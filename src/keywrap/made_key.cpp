#include "keywrap/made_key.hpp"

#include <optional>
#include <utility>

#include <hsmseal/error.hpp>

#include "crypto/crypto.hpp"
#include "pkcs11/add_to_error.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using pkcs11::SessionAccess;

/// @returns why the key was not destroyed; empty if it was.
std::string destroy_one(SessionPool& pool, const MadeKey& made) {
  try {
    auto session = pool.acquire();
    // Where it was made it is known, though the members of a group that answer a search may not know it yet.
    const bool known = made.watch.still_names(made.handle);
    const auto handle = known ? std::optional{made.handle} : session->find_key({.id = made.as.id});
    if (!handle) return "the token does not show it";
    SessionAccess::destroy_key(*session, *handle, made.as.id);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

MadeKey make_key(Pkcs11Session& session, std::string label, KeyUse use, KeyLifetime lifetime) {
  const auto id = crypto::random_array<16>();
  KeyTemplate as{.id = {id.begin(), id.end()}, .label = std::move(label), .use = use, .lifetime = lifetime};
  const auto watch = SessionAccess::watch_handles(session);
  const KeyHandle handle = SessionAccess::generate_unchecked_key(session, as);
  return {std::move(as), handle, watch};
}

std::string destroy_unused(SessionPool& pool, const std::vector<MadeKey>& made) {
  std::string left;
  for (const MadeKey& key : made) {
    const std::string why = destroy_one(pool, key);
    if (!why.empty()) left += pkcs11::left_behind(key.as.label, key.as.id, why);
  }
  return left;
}

}  // namespace hsmseal::keywrap
