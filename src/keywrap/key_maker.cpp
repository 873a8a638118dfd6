#include "keywrap/key_maker.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/vendors.hpp>

#include "crypto/crypto.hpp"
#include "keywrap/call_threads.hpp"
#include "keywrap/described_key.hpp"
#include "keywrap/key_adoption.hpp"
#include "keywrap/key_label.hpp"
#include "keywrap/key_proof.hpp"
#include "keywrap/made_key.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "keywrap/profile_choice.hpp"
#include "keywrap/profile_trial.hpp"
#include "keywrap/utf8.hpp"
#include "pkcs11/add_to_error.hpp"
#include "pkcs11/driver.hpp"
#include "pkcs11/reactions.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using pkcs11::SessionAccess;

constexpr std::size_t kMaxLabelBytes = 255;
constexpr std::chrono::seconds kReplicationTime{10};

/// A set's keys as any session finds them, and all that a description says but for the proof.
struct FoundSet {
  KeyDescription description;
  FoundKeys keys;
};

/// What is to be made or adopted, and for which profile.
struct Order {
  const SetSpec& spec;
  const RingId& ring;
  Version version;
  const WrapProfile& profile;

  [[nodiscard]] bool needs_mac_key() const { return profile.algorithm == WrapAlgorithm::Aes256CbcHmac; }
};

/// What to call the second key. An adopted key's label is its owner's: the ring's own tells orphans() whose it is.
std::string label_beside(const Order& order) {
  const bool own = !order.spec.adopt_key_id && !order.spec.key_label.empty();
  return mac_key_label(own ? order.spec.key_label : key_label(order.ring, order.version));
}

/// Makes what is not adopted. `made` has what there is, also if this throws.
void make_keys(Pkcs11Session& session, const Order& order, std::vector<MadeKey>& made) {
  if (!order.spec.adopt_key_id) {
    const std::string& label = order.spec.key_label;
    made.push_back(
        make_key(session, label.empty() ? key_label(order.ring, order.version) : label, KeyUse::EncryptDecrypt));
  }
  if (!order.needs_mac_key() || order.spec.adopt_mac_key_id) return;
  made.push_back(make_key(session, label_beside(order), KeyUse::Mac));
}

const MadeKey* find(const std::vector<MadeKey>& made, KeyUse use) {
  const auto found = std::ranges::find_if(made, [&](const MadeKey& key) { return key.as.use == use; });
  return found == made.end() ? nullptr : &*found;
}

/// A key that was made, as any session finds it: in a group of HSMs, at a member that may not know it yet.
std::optional<KeyHandle> find_made(Pkcs11Session& session, const MadeKey& made) {
  const auto watch = SessionAccess::watch_handles(session);
  const auto handle = find_visible(session, made.as.id);
  if (!handle) return std::nullopt;
  const SessionAccess::KeyUse use{session, watch, *handle};
  SessionAccess::check_made_as_asked(session, *handle, made.as);
  return handle;
}

/// @returns nothing if the token does not show a key that was made.
std::optional<FoundSet> find_set(Pkcs11Session& session, const Order& order, const std::vector<MadeKey>& made) {
  FoundSet found{{}, {{}, {}, SessionAccess::watch_handles(session)}};
  KeyDescription& key = found.description;
  key.token = order.spec.token;
  key.profile = order.profile;
  if (const MadeKey* kek = find(made, KeyUse::EncryptDecrypt)) {
    const auto handle = find_made(session, *kek);
    if (!handle) return std::nullopt;
    found.keys.kek = *handle;
    key.key_id = kek->as.id;
    key.key_label = kek->as.label;
    std::ranges::copy(kek->as.id, key.kek_id.bytes.begin());
  } else {
    const AdoptedKey adopted = adopt_key(session, order.spec, *order.spec.adopt_key_id, KeyUse::EncryptDecrypt);
    found.keys.kek = adopted.handle;
    key.key_id = *order.spec.adopt_key_id;
    key.key_label = adopted.label;
    key.kek_id = {crypto::random_array<16>()};
  }
  if (!order.needs_mac_key()) return found;
  if (const MadeKey* mac = find(made, KeyUse::Mac)) {
    const auto handle = find_made(session, *mac);
    if (!handle) return std::nullopt;
    found.keys.mac = *handle;
    key.mac_key_id = mac->as.id;
  } else {
    found.keys.mac = adopt_key(session, order.spec, *order.spec.adopt_mac_key_id, KeyUse::Mac).handle;
    key.mac_key_id = *order.spec.adopt_mac_key_id;
  }
  return found;
}

/// How many sessions in a row must find and use the keys: members of a group may answer in turn.
constexpr unsigned kSessionsToAgree = 3;

/// Whether a session finds the keys and unwraps with them: one opened after they were made, unless other threads use
/// the token at this very moment.
bool works_in_later_session(SessionPool& pool, const KeyDescription& key) {
  pool.close_idle();
  auto session = pool.acquire();
  const auto keys = look_up(*session, key).all(key.profile.algorithm);
  if (!keys) {
    SessionAccess::check_private_keys_visible(*session);
    return false;
  }
  const SecretBytes opened = unwrap_in(*session, *keys, key.profile, key.proof.wrapped, proof_aad(key.kek_id));
  if (crypto::equal(crypto::sha256(opened.view()), key.proof.digest)) return true;
  throw WrongKeyError("the token does not decrypt what it encrypted; it cannot protect keys");
}

/// What came of one profile.
struct Outcome {
  std::optional<KeyDescription> key;  ///< with its proof, if the profile works
  Trial trial;
};

/// Shows what the keys can do, and describes them.
/// @returns nothing if not all members of a group know them yet.
std::optional<Outcome> probed(const Life& life, FoundSet found) {
  Outcome outcome;
  outcome.trial.shown.profile = found.description.profile;
  try_profile(outcome.trial, life.shared_pool(), found.keys);
  if (outcome.trial.finding != Trial::Finding::Works) return outcome;
  KeyDescription& key = found.description;
  key.token_label = life.token().label;
  key.token_serial = life.token().serial;
  key.profile = outcome.trial.shown.profile;
  Pkcs11Key wrapper{life.shared_pool(), found.keys, key.profile};
  key.proof = make_key_proof(wrapper, key.kek_id);
  for (unsigned agreed = 0; agreed < kSessionsToAgree; ++agreed) {
    if (!works_in_later_session(life.pool(), key)) return std::nullopt;
  }
  outcome.key = std::move(key);
  return outcome;
}

void check_spec(const SetSpec& spec) {
  if (spec.key_label.size() > kMaxLabelBytes) {
    throw InvalidArgumentError(fmt::format("a key label has at most {} bytes", kMaxLabelBytes));
  }
  for (const auto& id : {spec.adopt_key_id, spec.adopt_mac_key_id}) {
    if (id && (id->empty() || id->size() > 255)) {
      throw InvalidArgumentError("the id of a key to adopt has 1 to 255 bytes");
    }
  }
  if (spec.adopt_mac_key_id && !spec.adopt_key_id) {
    throw InvalidArgumentError("a MAC key is adopted beside an adopted key, not beside a new one");
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

/// Tries until it works, through trouble that passes and while the members of a group copy a new key.
///
/// @param attempt  returns nothing if not all of them know it.
template <typename Attempt>
Outcome once_copied(const Attempt& attempt) {
  const auto last = std::min(Deadline::current(), std::chrono::steady_clock::now() + kReplicationTime);
  auto pause = std::chrono::milliseconds{50};
  std::exception_ptr refusal;  // of any attempt: a key that is not found amid trouble is trouble
  for (;;) {
    try {
      if (auto outcome = attempt()) return *std::move(outcome);
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

/// The token makes no key of the second kind: it does not do what the profile needs.
Outcome without_mac_key(const WrapProfile& profile, const TokenError& refusal) {
  Outcome outcome;
  outcome.trial.shown.profile = profile;
  outcome.trial.shown.checks.push_back(
      {"mac-key-made", "a generic secret that signs is made", ProbeCheck::Outcome::Failed, refusal.what()});
  return outcome;
}

/// One profile, with keys of its own where they are not adopted. Those are gone again if it does not work.
Outcome try_to_add(TokenConnection& token, const Order& order) {
  auto life = token.connect_well(nullptr, order.version);
  std::vector<MadeKey> made;
  Outcome outcome;
  try {
    try {
      make_keys(*life->pool().acquire(), order, made);
    } catch (const TokenError& error) {
      const bool first_key_is_there = order.spec.adopt_key_id || !made.empty();
      if (!first_key_is_there || error.retryable()) throw;
      outcome = without_mac_key(order.profile, error);
    }
    if (outcome.trial.shown.checks.empty()) {
      outcome = once_copied([&] {
        life = token.connect_well(nullptr, order.version);
        auto found = find_set(*life->pool().acquire(), order, made);
        return found ? probed(*life, *std::move(found)) : std::nullopt;
      });
    }
    if (Call::left_by_caller()) throw left_behind_call(order.spec.token);
  } catch (...) {
    const std::string left = destroy_unused(life->pool(), made);
    if (left.empty()) throw;
    pkcs11::throw_again_with(left);
  }
  if (outcome.key) return outcome;
  const std::string left = destroy_unused(life->pool(), made);
  if (!left.empty()) throw WrongKeyError(describe_failure(outcome.trial.shown) + left);
  return outcome;
}

WrongKeyError no_profile(const std::string& token, const std::vector<ProfileTrial>& refused) {
  std::string tried;
  for (const ProfileTrial& trial : refused) tried += (tried.empty() ? "" : "; ") + describe_failure(trial);
  return WrongKeyError(fmt::format("token '{}' cannot protect keys: {}", token, tried));
}

}  // namespace

KeyDescription make_or_adopt_key(TokenConnection& token, const SetSpec& spec, const RingId& ring, Version version) try {
  check_spec(spec);
  const auto profiles = profiles_to_try(spec, find_vendor(token.binding().driver));
  check_storable(token.connect_well(nullptr, version)->token(), spec.token);
  std::vector<ProfileTrial> refused;
  for (const WrapProfile& profile : profiles) {
    if (Call::left_by_caller()) throw left_behind_call(spec.token);
    Outcome outcome = try_to_add(token, {spec, ring, version, profile});
    if (outcome.key) return *std::move(outcome.key);
    refused.push_back(std::move(outcome.trial.shown));
    if (outcome.trial.finding == Trial::Finding::Unsafe) break;
  }
  throw no_profile(spec.token, refused);
} catch (const TokenError& error) {
  if (!pkcs11::lost_sight(error)) throw;
  throw TokenUnavailableError({error.function(), error.rv(), error.rv_name(), true},
                              fmt::format("{}; the key was lost sight of; try again", error.what()));
}

}  // namespace hsmseal::keywrap
