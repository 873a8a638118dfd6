#include "keywrap/key_maker.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <iterator>
#include <set>
#include <thread>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "keywrap/call_threads.hpp"
#include "keywrap/key_label.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "keywrap/utf8.hpp"
#include "pkcs11/add_to_error.hpp"
#include "pkcs11/driver.hpp"
#include "pkcs11/key_policy.hpp"
#include "pkcs11/reactions.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using pkcs11::SessionAccess;

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kMaxLabelBytes = 255;
constexpr std::chrono::seconds kReplicationTime{10};

struct Key {
  Bytes id;
  std::string label;
  KekId kek_id;
  KeyHandle handle;
  pkcs11::HandleWatch watch;
};

/// Nothing was sealed under it yet.
/// @throws the error that is being handled; if this fails too, with what stays behind.
[[noreturn]] void destroy_unused(SessionPool& pool, const Key& made) {
  std::string why;
  try {
    auto session = pool.acquire();
    // Where it was made it is known, though the members of a group that answer a search may not know it yet.
    const bool known = made.watch.still_names(made.handle);
    const auto handle = known ? std::optional{made.handle} : session->find_key({.id = made.id});
    if (handle) {
      SessionAccess::destroy_key(*session, *handle, made.id);
    } else {
      why = "the token does not show it";
    }
  } catch (const Error& error) {
    why = error.what();
  }
  if (why.empty()) throw;
  pkcs11::throw_again_with(pkcs11::left_behind(made.label, made.id, why));
}

Key make_key(Pkcs11Session& session, const SetSpec& spec, const RingId& ring, Version version) {
  const KekId kek_id{crypto::random_array<16>()};
  const Bytes id{kek_id.bytes.begin(), kek_id.bytes.end()};
  const std::string label = spec.key_label.empty() ? key_label(ring, version) : spec.key_label;
  const auto watch = SessionAccess::watch_handles(session);
  return {id, label, kek_id, SessionAccess::generate_unchecked_aes_key(session, {.id = id, .label = label}), watch};
}

/// @returns nothing if the token does not show the key.
/// @throws TokenError  nobody is logged in any more, so that keys are invisible: a loss, and no absence.
std::optional<KeyHandle> find_visible(Pkcs11Session& session, const Bytes& id) {
  const auto handle = session.find_key({.id = id});
  if (!handle) SessionAccess::check_private_keys_visible(session);
  return handle;
}

/// A key that was made, as any session finds it: in a group of HSMs, at a member that may not know it yet.
std::optional<Key> find_made(Pkcs11Session& session, const Key& made) {
  const auto watch = SessionAccess::watch_handles(session);
  const auto handle = find_visible(session, made.id);
  if (!handle) return std::nullopt;
  const SessionAccess::KeyUse use{session, watch, *handle};
  SessionAccess::check_made_as_asked(session, *handle, {.id = made.id, .label = made.label});
  return Key{made.id, made.label, made.kek_id, *handle, watch};
}

Key adopt_key(Pkcs11Session& session, const SetSpec& spec) {
  const auto watch = SessionAccess::watch_handles(session);
  const auto handle = find_visible(session, *spec.adopt_key_id);
  if (!handle) {
    throw KeyNotFoundError(
        fmt::format("no key with CKA_ID {} to adopt on token '{}'; list the token's keys with its vendor's tool",
                    core::to_hex(*spec.adopt_key_id), spec.token));
  }
  const SessionAccess::KeyUse use{session, watch, *handle};
  const KeyAttributes told = session.attributes(*handle);
  if (!pkcs11::serves(told, KeyUse::EncryptDecrypt, kKeyBytes)) {
    throw WrongKeyError(
        fmt::format("the key with CKA_ID {} on token '{}' is not an AES-256 key for encryption and "
                    "decryption",
                    core::to_hex(*spec.adopt_key_id), spec.token));
  }
  if (!told.token.value_or(false)) {
    throw WrongKeyError(
        fmt::format("the key with CKA_ID {} on token '{}' is a session object, which would vanish; make it "
                    "with CKA_TOKEN true",
                    core::to_hex(*spec.adopt_key_id), spec.token));
  }
  std::set<KeyWeakness> refused;
  std::ranges::set_difference(pkcs11::weaknesses(told, KeyUse::EncryptDecrypt, pkcs11::KeyOrigin::Existing),
                              spec.policy.accept, std::inserter(refused, refused.end()));
  if (!refused.empty()) {
    throw WrongKeyError(
        fmt::format("the key with CKA_ID {} on token '{}' is not adopted: {}; accept it by name in "
                    "AdoptionPolicy if that is meant",
                    core::to_hex(*spec.adopt_key_id), spec.token, pkcs11::describe(refused)));
  }
  return {.id = *spec.adopt_key_id,
          .label = told.label.value_or(""),
          .kek_id = {crypto::random_array<16>()},
          .handle = *handle,
          .watch = watch};
}

void expect_refusal(Pkcs11Key& key, Bytes wrapped, ByteView aad, std::size_t changed_byte, std::string_view what) {
  wrapped.at(changed_byte) ^= std::byte{1};
  try {
    const SecretBytes opened = key.unwrap(wrapped, aad);
  } catch (const OpenError&) {
    return;
  }
  throw WrongKeyError(fmt::format("the token opens AES-GCM with a changed {}; it cannot protect keys", what));
}

/// How many sessions in a row must find and use the key: members of a group may answer in turn.
constexpr unsigned kSessionsToAgree = 3;

/// Whether a session finds the key and unwraps with it: one opened after the key was made, unless other threads use the
/// token at this very moment.
bool works_in_later_session(const Pkcs11Key& key, const Key& found, SessionPool& pool, ByteView wrapped, ByteView aad,
                            const SecretBytes& expected) {
  pool.close_idle();
  auto session = pool.acquire();
  const auto watch = SessionAccess::watch_handles(*session);
  const auto handle = find_visible(*session, found.id);
  if (!handle) return false;
  if (crypto::equal(key.unwrap_in(*session, *handle, watch, wrapped, aad).view(), expected.view())) return true;
  throw WrongKeyError("the token does not decrypt what it encrypted; it cannot protect keys");
}

/// Real operations tell what capability lists do not: that two encryptions differ, that other sessions can use the key,
/// and that every kind of change is refused.
///
/// @returns whether the sessions that were asked all know the key.
bool probe(Pkcs11Key& key, const Key& found, SessionPool& pool) {
  const SecretBytes secret = crypto::random_secret(kKeyBytes);
  const auto aad = crypto::random_array<24>();
  const Bytes first = key.wrap(secret.view(), aad);
  const Bytes second = key.wrap(secret.view(), aad);
  if (std::equal(first.begin() + crypto::kNonceBytes, first.end(), second.begin() + crypto::kNonceBytes)) {
    throw WrongKeyError(
        "the token encrypts the same bytes to the same ciphertext under two IVs; it cannot protect keys");
  }
  for (unsigned agreed = 0; agreed < kSessionsToAgree; ++agreed) {
    if (!works_in_later_session(key, found, pool, first, aad, secret)) return false;
  }
  auto other_aad = aad;
  other_aad[0] ^= std::byte{1};
  expect_refusal(key, first, aad, 0, "IV");
  expect_refusal(key, first, aad, crypto::kNonceBytes, "ciphertext");
  expect_refusal(key, first, aad, first.size() - 1, "tag");
  try {
    const SecretBytes opened = key.unwrap(first, other_aad);
  } catch (const OpenError&) {
    return true;
  }
  throw WrongKeyError("the token opens AES-GCM under other associated data; it cannot protect keys");
}

void check_spec(const SetSpec& spec) {
  if (spec.key_label.size() > kMaxLabelBytes) {
    throw InvalidArgumentError(fmt::format("a key label has at most {} bytes", kMaxLabelBytes));
  }
  if (spec.adopt_key_id && (spec.adopt_key_id->empty() || spec.adopt_key_id->size() > 255)) {
    throw InvalidArgumentError("the id of a key to adopt has 1 to 255 bytes");
  }
}

/// The ring keeps its texts as JSON, which is UTF-8. Better seen before a key is made than when it is to be stored.
void check_storable(const TokenInfo& token, const std::string& alias) {
  if (is_utf8(token.label) && is_utf8(token.serial)) return;
  throw InvalidArgumentError(fmt::format(
      "the label or the serial number of token '{}' is not UTF-8, so that no set can name it; no key was made; give "
      "the token another label",
      alias));
}

/// Nobody waits for the key any more.
TokenUnavailableError left_behind_call(const std::string& token) {
  return {pkcs11::failure("", CKR_FUNCTION_CANCELED),
          fmt::format("token '{}' took longer to make a key than its caller waited", token)};
}

/// Shows what the key can do, and describes it.
/// @returns nothing if not all members of a group know it yet.
std::optional<KeyDescription> probed(const Life& life, const SetSpec& spec, const Key& found) {
  const WrapProfile profile;
  Pkcs11Key key{life.shared_pool(), found.handle, found.watch, profile};
  if (!probe(key, found, life.pool())) return std::nullopt;
  return KeyDescription{.token = spec.token,
                        .token_label = life.token().label,
                        .token_serial = life.token().serial,
                        .key_id = found.id,
                        .key_label = found.label,
                        .kek_id = found.kek_id,
                        .profile = profile,
                        .proof = make_key_proof(key, found.kek_id)};
}

/// Tries until it works, through trouble that passes and while the members of a group copy a new key.
///
/// @param attempt  returns nothing if not all of them know it.
template <typename Attempt>
KeyDescription once_copied(const Attempt& attempt) {
  const auto last = std::min(Deadline::current(), std::chrono::steady_clock::now() + kReplicationTime);
  auto pause = std::chrono::milliseconds{50};
  std::exception_ptr refusal;  // of any attempt: a key that is not found amid trouble is trouble
  for (;;) {
    try {
      if (auto description = attempt()) return *std::move(description);
    } catch (const TokenError& error) {
      if (!error.retryable() && !pkcs11::lost_sight(error)) throw;
      refusal = std::current_exception();
    }
    if (std::chrono::steady_clock::now() + pause >= last) {
      if (refusal) std::rethrow_exception(refusal);
      throw KeyNotFoundError("the key is not found from other sessions; if the token is one of a group, try again");
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, std::chrono::milliseconds{1000});
  }
}

}  // namespace

KeyDescription make_or_adopt_key(TokenConnection& token, const SetSpec& spec, const RingId& ring, Version version) try {
  check_spec(spec);
  auto life = token.connect_well(nullptr, version);
  check_storable(life->token(), spec.token);
  if (Call::left_by_caller()) throw left_behind_call(spec.token);
  if (spec.adopt_key_id) {
    return once_copied([&] {
      life = token.connect_well(nullptr, version);
      const Key found = adopt_key(*life->pool().acquire(), spec);
      return probed(*life, spec, found);
    });
  }
  const Key made = make_key(*life->pool().acquire(), spec, ring, version);
  try {
    auto description = once_copied([&] {
      life = token.connect_well(nullptr, version);
      const auto found = find_made(*life->pool().acquire(), made);
      return found ? probed(*life, spec, *found) : std::nullopt;
    });
    if (Call::left_by_caller()) throw left_behind_call(spec.token);
    return description;
  } catch (...) {
    destroy_unused(life->pool(), made);
  }
} catch (const TokenError& error) {
  if (!pkcs11::lost_sight(error)) throw;
  throw TokenUnavailableError({error.function(), error.rv(), error.rv_name(), true},
                              fmt::format("{}; the key was lost sight of; try again", error.what()));
}

}  // namespace hsmseal::keywrap
