#include "keywrap/key_adoption.hpp"

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "pkcs11/key_policy.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using pkcs11::SessionAccess;

constexpr std::size_t kKeyBytes = 32;

std::string_view described(KeyUse use) {
  return use == KeyUse::Mac ? "a generic secret of 32 bytes or more that signs"
                            : "an AES-256 key for encryption and decryption";
}

}  // namespace

std::optional<KeyHandle> find_visible(Pkcs11Session& session, const Bytes& id) {
  const auto handle = session.find_key({.id = id});
  if (!handle) SessionAccess::check_private_keys_visible(session);
  return handle;
}

AdoptedKey adopt_key(Pkcs11Session& session, const SetSpec& spec, const Bytes& id, KeyUse use) {
  const auto watch = SessionAccess::watch_handles(session);
  const auto handle = find_visible(session, id);
  if (!handle) {
    throw KeyNotFoundError(
        fmt::format("no key with CKA_ID {} to adopt on token '{}'; list the token's keys with its vendor's tool",
                    core::to_hex(id), spec.token));
  }
  const SessionAccess::KeyUse fenced{session, watch, *handle};
  const KeyAttributes told = session.attributes(*handle);
  if (!pkcs11::serves(told, use, kKeyBytes)) {
    throw WrongKeyError(
        fmt::format("the key with CKA_ID {} on token '{}' is not {}", core::to_hex(id), spec.token, described(use)));
  }
  if (!told.token.value_or(false)) {
    throw WrongKeyError(
        fmt::format("the key with CKA_ID {} on token '{}' is a session object, which would vanish; make it "
                    "with CKA_TOKEN true",
                    core::to_hex(id), spec.token));
  }
  std::set<KeyWeakness> refused;
  std::ranges::set_difference(pkcs11::weaknesses(told, use, pkcs11::KeyOrigin::Existing), spec.policy.accept,
                              std::inserter(refused, refused.end()));
  if (!refused.empty()) {
    throw WrongKeyError(
        fmt::format("the key with CKA_ID {} on token '{}' is not adopted: {}; accept it by name in "
                    "AdoptionPolicy if that is meant",
                    core::to_hex(id), spec.token, pkcs11::describe(refused)));
  }
  return {*handle, told.label.value_or("")};
}

}  // namespace hsmseal::keywrap
