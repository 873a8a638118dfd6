#include "keywrap/described_key.hpp"

#include <fmt/format.h>

#include "core/hex.hpp"

namespace hsmseal::keywrap {

KeyNotFoundError no_such_key(const TokenConnection& token, const KeyDescription& key) {
  return KeyNotFoundError(fmt::format(
      "no key with CKA_ID {} (made as '{}') on token '{}'; {}", core::to_hex(key.key_id), key.key_label, key.token,
      token.logs_in() ? "if the token is one of a group, the key may not have reached it yet"
                      : "its binding has no PIN, and keys may be invisible without a login"));
}

}  // namespace hsmseal::keywrap
