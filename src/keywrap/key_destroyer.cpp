#include "keywrap/key_destroyer.hpp"

#include <exception>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/key_wrapper.hpp>

#include "core/hex.hpp"
#include "keywrap/cbc_hmac.hpp"
#include "keywrap/described_key.hpp"
#include "keywrap/key_proof.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "pkcs11/add_to_error.hpp"
#include "pkcs11/driver.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using pkcs11::SessionAccess;

/// Keys in one session, for check_key_proof().
class KeysInSession final : public KeyWrapper {
 public:
  KeysInSession(Pkcs11Session& session, FoundKeys keys, const WrapProfile& profile)
      : session_(session), keys_(std::move(keys)), profile_(profile) {}

  [[nodiscard]] Bytes wrap(ByteView, ByteView) override { throw unwraps_only(); }
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    const bool mac_key_is_gone = profile_.algorithm == WrapAlgorithm::Aes256CbcHmac && keys_.mac.value == 0;
    if (!mac_key_is_gone) return unwrap_in(session_, keys_, profile_, wrapped, aad);
    // A destruction that did not come to its end. What the proof was is known by its digest.
    if (!can_be_wrapped(profile_, wrapped.size())) throw OpenError();
    return decrypt_unauthenticated(session_, keys_, wrapped);
  }

 private:
  Pkcs11Session& session_;
  const FoundKeys keys_;
  const WrapProfile& profile_;
};

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
void check_gone(Pkcs11Session& session, const KeyDescription& key, const Bytes& id) {
  if (!is_found(session, id)) return;
  throw TokenError(pkcs11::failure("C_DestroyObject", CKR_OK),
                   fmt::format("C_DestroyObject on token '{}' returned CKR_OK but a key with CKA_ID {} is still found; "
                               "if the token is one of a group, try again later",
                               key.token, core::to_hex(id)));
}

void destroy_and_check(Pkcs11Session& session, KeyHandle handle, const KeyDescription& key, const Bytes& id) {
  SessionAccess::destroy_key(session, handle, id);
  check_gone(session, key, id);
}

/// Without the first key the second is of no use; it is destroyed if it made the proof's MAC.
/// @throws KeyNotFoundError  always, if nothing worse happens: there is no first key.
[[noreturn]] void destroy_mac_key_alone(Pkcs11Session& session, const ShownKeys& shown, const TokenConnection& token,
                                        const KeyDescription& key) {
  // "Not found" lets the caller take the key for destroyed, so it must not mean "not visible".
  SessionAccess::check_private_keys_visible(session);
  if (shown.mac && can_be_wrapped(key.profile, key.proof.wrapped.size())) {
    const FoundKeys keys{.kek = {}, .mac = *shown.mac, .watch = shown.watch};
    if (mac_is_right(session, keys, key.proof.wrapped, proof_aad(key.kek_id))) {
      destroy_and_check(session, *shown.mac, key, key.mac_key_id);
    }
  }
  throw no_such_key(token, key, KeyPart::Encryption);
}

struct Refusal {
  FoundKeys keys;
  std::exception_ptr error;
};

/// @returns the token's refusal to open the proof, if it did: that may mean another key, or a token in trouble.
std::optional<Refusal> prove_and_destroy(SessionPool& pool, const TokenConnection& token, const KeyDescription& key) {
  auto session = pool.acquire();
  const auto alone = SessionAccess::one_destruction_at_a_time(*session);
  const ShownKeys shown = look_up(*session, key);
  if (!shown.kek) destroy_mac_key_alone(*session, shown, token, key);
  const FoundKeys keys{*shown.kek, shown.mac.value_or(KeyHandle{}), shown.watch};
  try {
    KeysInSession candidate{*session, keys, key.profile};
    check_key_proof(candidate, key.kek_id, key.proof);
  } catch (const TokenError&) {
    return Refusal{keys, std::current_exception()};
  }
  if (!shown.mac) {
    destroy_and_check(*session, *shown.kek, key, key.key_id);
    return std::nullopt;
  }
  // The first key last: as long as it is there, this can be done again.
  destroy_and_check(*session, *shown.mac, key, key.mac_key_id);
  try {
    destroy_and_check(*session, *shown.kek, key, key.key_id);
  } catch (const WrongKeyError& error) {
    throw TokenError(pkcs11::failure("C_DestroyObject", CKR_KEY_HANDLE_INVALID),
                     fmt::format("{}; its MAC key was destroyed; try again", error.what()));
  }
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
    if (key.profile.algorithm == WrapAlgorithm::Aes256Gcm) {
      Pkcs11Key candidate{pool, refusal->keys, key.profile};
      check_key_proof(candidate, key.kek_id, key.proof);
    }
    std::rethrow_exception(refusal->error);
  } catch (const WrongKeyError&) {
    pkcs11::throw_again_with("; nothing was destroyed");
  }
}

}  // namespace hsmseal::keywrap
