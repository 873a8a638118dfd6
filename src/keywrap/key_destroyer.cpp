#include "keywrap/key_destroyer.hpp"

#include <exception>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/key_wrapper.hpp>

#include "core/hex.hpp"
#include "keywrap/described_key.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "pkcs11/add_to_error.hpp"
#include "pkcs11/driver.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using pkcs11::SessionAccess;

/// A key in one session, for check_key_proof().
class KeyInSession final : public KeyWrapper {
 public:
  KeyInSession(Pkcs11Session& session, KeyHandle handle, const pkcs11::HandleWatch& watch)
      : session_(session), handle_(handle), watch_(watch) {}

  [[nodiscard]] Bytes wrap(ByteView, ByteView) override { throw unwraps_only(); }
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    return Pkcs11Key::unwrap_in(session_, handle_, watch_, wrapped, aad);
  }

 private:
  Pkcs11Session& session_;
  const KeyHandle handle_;
  const pkcs11::HandleWatch& watch_;
};

KeyHandle find(Pkcs11Session& session, const TokenConnection& token, const KeyDescription& key) {
  const auto handle = session.find_key({.id = key.key_id});
  if (handle) return *handle;
  // "Not found" lets the caller take the key for destroyed, so it must not mean "not visible".
  SessionAccess::check_private_keys_visible(session);
  throw no_such_key(token, key);
}

bool is_found(Pkcs11Session& session, const Bytes& id) {
  try {
    return session.find_key({.id = id}).has_value();
  } catch (const WrongKeyError&) {
    return true;  // more than one
  } catch (const TokenError&) {
    pkcs11::throw_again_with("; C_DestroyObject had succeeded, but whether the key is gone was not seen; try again");
  }
}

/// A token's error and no WrongKeyError, which would mean that nothing was destroyed.
void check_gone(Pkcs11Session& session, const KeyDescription& key) {
  if (!is_found(session, key.key_id)) return;
  throw TokenError(pkcs11::failure("C_DestroyObject", CKR_OK),
                   fmt::format("C_DestroyObject on token '{}' returned CKR_OK but a key with CKA_ID {} is still found; "
                               "if the token is one of a group, try again later",
                               key.token, core::to_hex(key.key_id)));
}

struct Refusal {
  KeyHandle handle;
  pkcs11::HandleWatch watch;
  std::exception_ptr error;
};

/// @returns the token's refusal to open the proof, if it did: that may mean another key, or a token in trouble.
std::optional<Refusal> prove_and_destroy(SessionPool& pool, const TokenConnection& token, const KeyDescription& key) {
  auto session = pool.acquire();
  const auto alone = SessionAccess::one_destruction_at_a_time(*session);
  const auto watch = SessionAccess::watch_handles(*session);
  const KeyHandle handle = find(*session, token, key);
  try {
    KeyInSession candidate{*session, handle, watch};
    check_key_proof(candidate, key.kek_id, key.proof);
  } catch (const TokenError&) {
    return Refusal{handle, watch, std::current_exception()};
  }
  SessionAccess::destroy_key(*session, handle, key.key_id);
  check_gone(*session, key);
  return std::nullopt;
}

}  // namespace

void destroy_described_key(TokenConnection& token, const KeyDescription& key) {
  if (key.proof.wrapped.empty()) {
    throw InvalidArgumentError(fmt::format(
        "the key with CKA_ID {} is described without a proof, so nobody knows whether it is the one that is "
        "meant; nothing was destroyed",
        core::to_hex(key.key_id)));
  }
  const TokenConnection::Identity expected{key.token_label, key.token_serial};
  const auto pool = token.connect_well(&expected, 0)->shared_pool();
  try {
    const auto refusal = prove_and_destroy(*pool, token, key);
    if (!refusal) return;
    // Sessions of the pool, which tell another key from a token in trouble.
    Pkcs11Key candidate{pool, refusal->handle, refusal->watch, key.profile};
    check_key_proof(candidate, key.kek_id, key.proof);
    std::rethrow_exception(refusal->error);
  } catch (const WrongKeyError&) {
    pkcs11::throw_again_with("; nothing was destroyed");
  }
}

}  // namespace hsmseal::keywrap
