#include "keywrap/described_key.hpp"

#include <fmt/format.h>

#include "core/hex.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {

std::optional<FoundKeys> ShownKeys::all(WrapAlgorithm algorithm) const {
  if (!kek || (algorithm == WrapAlgorithm::Aes256CbcHmac && !mac)) return std::nullopt;
  return FoundKeys{*kek, mac.value_or(KeyHandle{}), watch};
}

ShownKeys look_up(Pkcs11Session& session, const KeyDescription& key) {
  ShownKeys shown{{}, {}, pkcs11::SessionAccess::watch_handles(session)};
  shown.kek = session.find_key({.id = key.key_id});
  if (key.profile.algorithm == WrapAlgorithm::Aes256CbcHmac) shown.mac = session.find_key({.id = key.mac_key_id});
  return shown;
}

KeyNotFoundError no_such_key(const TokenConnection& token, const KeyDescription& key, KeyPart missing) {
  const bool mac = missing == KeyPart::Mac;
  return KeyNotFoundError(
      fmt::format("no {} with CKA_ID {} ({} '{}') on token '{}'; {}", mac ? "MAC key" : "key",
                  core::to_hex(mac ? key.mac_key_id : key.key_id), mac ? "beside" : "made as", key.key_label, key.token,
                  token.logs_in() ? "if the token is one of a group, the key may not have reached it yet"
                                  : "its binding has no PIN, and keys may be invisible without a login"));
}

}  // namespace hsmseal::keywrap
