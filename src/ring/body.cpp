#include "ring/body.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "core/names.hpp"
#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::ring {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr std::size_t kMaxBodyBytes = std::size_t{64} << 20;
constexpr std::uint64_t kMostWraps = std::uint64_t{1} << 32;  // NIST SP 800-38D section 8.3, random IVs
constexpr std::chrono::hours kLongestQuarantine{24 * 36'525};
constexpr std::size_t kFormerKeyBytes = crypto::kNonceBytes + crypto::kKeyBytes + crypto::kTagBytes;

[[noreturn]] void malformed(const std::string& what) {
  throw RingTamperedError("the ring's record is not valid: " + what + "; restore a good copy of it");
}

std::string dump(const json& value, std::string_view what) {
  try {
    return value.dump();
  } catch (const json::exception&) {
    throw InvalidArgumentError(std::string{what} + " is not UTF-8");
  }
}

std::int64_t to_number(Timestamp time) { return time.time_since_epoch().count(); }

json to_json(const std::optional<Timestamp>& time) { return time ? json(to_number(*time)) : json(nullptr); }

json to_json(const WrapProfile& profile) {
  json wrap = {{"algorithm", static_cast<int>(profile.algorithm)}, {"max_plaintext", profile.max_plaintext}};
  if (profile.algorithm != WrapAlgorithm::Aes256Gcm) return wrap;
  wrap["iv"] = to_string(profile.gcm.iv_rule);
  wrap["iv_bytes"] = profile.gcm.iv_bytes;
  wrap["mechanism"] = profile.gcm.mechanism;
  wrap["parameters"] = to_string(profile.gcm.parameters);
  return wrap;
}

/// Bytes of which a set may have none.
json hex_or_null(const Bytes& bytes) { return bytes.empty() ? json(nullptr) : json(core::to_hex(bytes)); }

json to_json(const CredentialSet& set) {
  return {
      {"activated_at", to_json(set.activated_at)},
      {"archived_at", to_json(set.archived_at)},
      {"created_at", to_number(set.created_at)},
      {"deleted_at", to_json(set.deleted_at)},
      {"description", set.description},
      {"kek_id", set.key.kek_id.to_string()},
      {"key_destroyed_at", to_json(set.key_destroyed_at)},
      {"key_id", core::to_hex(set.key.key_id)},
      {"key_label", set.key.key_label},
      {"mac_key_id", hex_or_null(set.key.mac_key_id)},
      {"proof", {{"digest", core::to_hex(set.key.proof.digest)}, {"wrapped", core::to_hex(set.key.proof.wrapped)}}},
      {"state", to_string(set.state)},
      {"token", {{"alias", set.key.token}, {"label", set.key.token_label}, {"serial", set.key.token_serial}}},
      {"version", set.version},
      {"wrap", to_json(set.key.profile)},
      {"wrapped_ring_key", hex_or_null(set.wrapped_ring_key)},
  };
}

json to_json(const RingSettings& settings) {
  return {
      {"max_staleness", settings.max_staleness.count()}, {"quarantine", settings.quarantine.count()},
      {"removal_grace", settings.removal_grace.count()}, {"usage_hard_limit", settings.usage_hard_limit},
      {"usage_soft_limit", settings.usage_soft_limit},
  };
}

Bytes from_hex(const json& text, const char* name) {
  auto bytes = crypto::from_hex(text.get_ref<const std::string&>());
  if (!bytes) malformed(std::string{name} + " is not hexadecimal");
  return *std::move(bytes);
}

Bytes hex_field(const json& object, const char* name) { return from_hex(object.at(name), name); }

template <std::size_t N>
std::array<std::byte, N> hex_array(const json& object, const char* name) {
  const Bytes bytes = hex_field(object, name);
  std::array<std::byte, N> array;
  if (bytes.size() != N) malformed(std::string{name} + " has another size");
  std::ranges::copy(bytes, array.begin());
  return array;
}

template <typename Number>
Number number_field(const json& value, const char* name) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<Number>::max()) {
    malformed(std::string{name} + " is no number, or out of range");
  }
  return value.get<Number>();
}

Timestamp time_field(const json& value) {
  return Timestamp{std::chrono::milliseconds{number_field<std::int64_t>(value, "a time")}};
}

std::optional<Timestamp> optional_time(const json& value) {
  return value.is_null() ? std::nullopt : std::optional{time_field(value)};
}

/// @param what  names the value in the message.
template <typename Value, std::size_t N>
Value named_field(const json& text, const core::Names<Value, N>& names, const char* what) {
  const std::string_view name = text.get_ref<const std::string&>();
  const auto found = std::ranges::find(names, name, &core::Names<Value, N>::value_type::second);
  if (found == names.end()) malformed(std::string{what} + " is unknown to this version");
  return found->first;
}

/// Bytes, or null for none; an empty text is neither.
Bytes optional_hex(const json& object, const char* name) {
  if (object.at(name).is_null()) return {};
  Bytes bytes = hex_field(object, name);
  if (bytes.empty()) malformed(std::string{name} + " has another size");
  return bytes;
}

WrapProfile profile_from(const json& object) {
  WrapProfile profile;
  profile.max_plaintext = number_field<std::uint32_t>(object.at("max_plaintext"), "max_plaintext");
  const auto algorithm = number_field<std::uint32_t>(object.at("algorithm"), "a wrap algorithm");
  if (algorithm == static_cast<std::uint32_t>(WrapAlgorithm::Aes256CbcHmac)) {
    profile.algorithm = WrapAlgorithm::Aes256CbcHmac;
    return profile;
  }
  if (algorithm != static_cast<std::uint32_t>(WrapAlgorithm::Aes256Gcm)) {
    malformed("a set's way to wrap is unknown to this version");
  }
  profile.gcm.iv_rule = named_field(object.at("iv"), core::kIvRules, "who makes a set's IVs");
  profile.gcm.iv_bytes = number_field<std::uint32_t>(object.at("iv_bytes"), "iv_bytes");
  profile.gcm.mechanism = number_field<std::uint32_t>(object.at("mechanism"), "a mechanism");
  profile.gcm.parameters =
      named_field(object.at("parameters"), core::kGcmParameters, "the form of a mechanism's parameters");
  return profile;
}

CredentialSet set_from(const json& object) {
  CredentialSet set;
  set.version = number_field<Version>(object.at("version"), "a version");
  set.state = named_field(object.at("state"), core::kSetStates, "a set's state");
  set.description = object.at("description").get<std::string>();
  set.created_at = time_field(object.at("created_at"));
  set.activated_at = optional_time(object.at("activated_at"));
  set.archived_at = optional_time(object.at("archived_at"));
  set.deleted_at = optional_time(object.at("deleted_at"));
  set.key_destroyed_at = optional_time(object.at("key_destroyed_at"));
  set.wrapped_ring_key = optional_hex(object, "wrapped_ring_key");
  KeyDescription& key = set.key;
  key.token = object.at("token").at("alias").get<std::string>();
  key.token_label = object.at("token").at("label").get<std::string>();
  key.token_serial = object.at("token").at("serial").get<std::string>();
  key.key_id = hex_field(object, "key_id");
  key.key_label = object.at("key_label").get<std::string>();
  key.mac_key_id = optional_hex(object, "mac_key_id");
  key.kek_id = {hex_array<16>(object, "kek_id")};
  key.proof = {hex_field(object.at("proof"), "wrapped"), hex_array<32>(object.at("proof"), "digest")};
  key.profile = profile_from(object.at("wrap"));
  return set;
}

std::chrono::milliseconds duration_field(const json& object, const char* name) {
  return std::chrono::milliseconds{number_field<std::int64_t>(object.at(name), name)};
}

RingSettings settings_from(const json& object) {
  return {
      .max_staleness = duration_field(object, "max_staleness"),
      .removal_grace = duration_field(object, "removal_grace"),
      .quarantine = duration_field(object, "quarantine"),
      .usage_soft_limit = number_field<std::uint64_t>(object.at("usage_soft_limit"), "usage_soft_limit"),
      .usage_hard_limit = number_field<std::uint64_t>(object.at("usage_hard_limit"), "usage_hard_limit"),
  };
}

bool times_fit_state(const CredentialSet& set) {
  const bool deleted = set.state == SetState::Deleted;
  if (set.deleted_at.has_value() != deleted || (set.key_destroyed_at && !deleted)) return false;
  switch (set.state) {
    case SetState::Staged:
      return !set.activated_at && !set.archived_at;
    case SetState::Active:
      return set.activated_at && !set.archived_at;
    case SetState::Archived:
      return set.archived_at.has_value();  // one that was overtaken was never active
    case SetState::Deleted:
      return set.archived_at.has_value() || !set.activated_at;  // one that was staged has neither
  }
  return false;
}

void check_key(const KeyDescription& key) {
  constexpr std::size_t kMostIdBytes = 255;
  if (key.key_id.empty() || key.key_id.size() > kMostIdBytes || key.mac_key_id.size() > kMostIdBytes) {
    malformed("a CKA_ID has no or too many bytes");
  }
  if (const auto wrong = core::wrong_profile(key.profile)) malformed(std::string{*wrong});
  const bool has_mac_key = key.profile.algorithm == WrapAlgorithm::Aes256CbcHmac;
  if (key.mac_key_id.empty() == has_mac_key) malformed("a set's MAC key does not fit its way to wrap");
}

void check_set(const CredentialSet& set) {
  check_key(set.key);
  const std::size_t wrapped_bytes = crypto::kKeyBytes + core::overhead(set.key.profile);
  if (set.key.proof.wrapped.size() != wrapped_bytes) malformed("a proof has another size");
  if (set.state == SetState::Deleted) {
    if (!set.wrapped_ring_key.empty()) malformed("a deleted set holds the ring key");
  } else if (set.wrapped_ring_key.size() != wrapped_bytes) {
    malformed("a wrapped ring key has another size");
  }
  if (!times_fit_state(set)) malformed("a set's times do not fit its state");
}

void check_rules(const Body& body) {
  if (const auto wrong = wrong_setting(body.settings)) malformed(*wrong);
  for (const Bytes& former : body.former_ring_keys) {
    if (former.size() != kFormerKeyBytes) malformed("a former ring key has another size");
  }
  if (body.generation == 0) malformed("its generation is out of range");
  if (body.generation == 1 && body.prev_mac != Mac{}) malformed("its first generation has a predecessor");
  Version last = 0;
  for (const auto& set : body.sets) {
    if (set.version <= last || set.version >= body.next_version) malformed("its versions are out of order");
    last = set.version;
    check_set(set);
  }
  const auto active = std::ranges::count(body.sets, SetState::Active, &CredentialSet::state);
  if (active != 1) malformed("not exactly one set is active");
}

}  // namespace

std::optional<std::string> wrong_setting(const RingSettings& settings) {
  if (settings.max_staleness < std::chrono::milliseconds{1} || settings.max_staleness > std::chrono::hours{1}) {
    return "max_staleness is not between 1 ms and 1 h";
  }
  if (settings.removal_grace <= settings.max_staleness) return "removal_grace is not longer than max_staleness";
  if (settings.quarantine < settings.removal_grace) return "quarantine is shorter than removal_grace";
  if (settings.quarantine > kLongestQuarantine) return "quarantine is longer than 100 years";
  if (settings.usage_hard_limit == 0 || settings.usage_hard_limit > kMostWraps) {
    return "usage_hard_limit is not between 1 and 2^32";
  }
  if (settings.usage_soft_limit > settings.usage_hard_limit) return "usage_soft_limit is above usage_hard_limit";
  return std::nullopt;
}

const CredentialSet* Body::find(Version version) const noexcept {
  const auto found = std::ranges::lower_bound(sets, version, {}, &CredentialSet::version);
  return found != sets.end() && found->version == version ? &*found : nullptr;
}

CredentialSet* Body::find(Version version) noexcept {
  return const_cast<CredentialSet*>(std::as_const(*this).find(version));
}

const CredentialSet& Body::active() const { return *std::ranges::find(sets, SetState::Active, &CredentialSet::state); }

CredentialSet& Body::active() { return *std::ranges::find(sets, SetState::Active, &CredentialSet::state); }

std::string to_text(const Body& body) {
  json sets = json::array();
  for (const auto& set : body.sets) sets.push_back(to_json(set));
  json former_ring_keys = json::array();
  for (const Bytes& former : body.former_ring_keys) former_ring_keys.push_back(core::to_hex(former));
  const json text = {
      {"format", kFormat},
      {"former_ring_keys", std::move(former_ring_keys)},
      {"generation", body.generation},
      {"next_version", body.next_version},
      {"prev_mac", core::to_hex(body.prev_mac)},
      {"ring_id", body.id.to_string()},
      {"sets", std::move(sets)},
      {"settings", to_json(body.settings)},
  };
  return dump(text, "a text of the ring");
}

void check_utf8(const std::string& text, std::string_view what) { dump(text, what); }

namespace {

/// A ring's record is a few levels deep; somebody's millions of brackets end here, before they fill the memory.
bool refuse_depth(int depth, json::parse_event_t, json&) {
  constexpr int kDeepest = 4;
  if (depth > kDeepest) malformed("it is nested too deep");
  return true;
}

}  // namespace

Body from_text(std::string_view text) {
  if (text.size() > kMaxBodyBytes) malformed("it is longer than 64 MiB");
  try {
    const json object = json::parse(text, refuse_depth);
    if (object.at("format") != kFormat) {
      throw StoreError("the ring's record is of a format that this version does not know; use a newer hsmseal");
    }
    Body body;
    body.id = {hex_array<16>(object, "ring_id")};
    body.generation = static_cast<std::uint64_t>(number_field<std::int64_t>(object.at("generation"), "generation"));
    body.next_version = number_field<Version>(object.at("next_version"), "next_version");
    body.prev_mac = hex_array<32>(object, "prev_mac");
    body.settings = settings_from(object.at("settings"));
    for (const json& former : object.at("former_ring_keys")) {
      body.former_ring_keys.push_back(from_hex(former, "a former ring key"));
    }
    for (const json& set : object.at("sets")) body.sets.push_back(set_from(set));
    check_rules(body);
    // Whatever a parser tolerates (white space, repeated or unknown names, other notations) does not survive this.
    if (to_text(body) != text) malformed("it is not in canonical form");
    return body;
  } catch (const json::exception&) {
    malformed("it is not the JSON of a ring");
  }
}

std::optional<CredentialSet> set_from_text(std::string_view text) {
  try {
    CredentialSet set = set_from(json::parse(text, refuse_depth));
    check_set(set);
    return set;
  } catch (const json::exception&) {
    return std::nullopt;
  } catch (const RingTamperedError&) {
    return std::nullopt;
  }
}

}  // namespace hsmseal::ring
