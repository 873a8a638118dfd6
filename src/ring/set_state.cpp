#include "ring/set_state.hpp"

#include <chrono>
#include <ctime>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace hsmseal::ring {
namespace {

constexpr std::size_t kMaxDescriptionBytes = 1024;

void check_description(const std::string& description) {
  if (description.size() > kMaxDescriptionBytes) {
    throw InvalidArgumentError(fmt::format("a description has at most {} bytes", kMaxDescriptionBytes));
  }
  check_utf8(description, "a description");
}

/// The store's clock may show anything.
Timestamp later(Timestamp time, std::chrono::milliseconds wait) {
  return time > Timestamp::max() - wait ? Timestamp::max() : time + wait;
}

std::string to_text(Timestamp time) {
  // Not the time point itself: fmt makes nanoseconds of it, which end in 2262.
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

}  // namespace

void check_spec(const SetSpec& spec) {
  check_description(spec.description);
  check_utf8(spec.token, "a token's alias");
  check_utf8(spec.key_label, "a key label");
}

void check_change(const SetChange& change) {
  check_description(change.description.value_or(""));
  check_utf8(change.token.value_or(""), "a token's alias");
  check_utf8(change.token_label.value_or(""), "a token's label");
  check_utf8(change.token_serial.value_or(""), "a token's serial number");
}

CredentialSet new_set(KeyDescription key, const SetSpec& spec, Version version) {
  CredentialSet set;
  set.version = version;
  set.key = std::move(key);
  set.description = spec.description;
  return set;
}

void stage(CredentialSet& set, Timestamp now) {
  set.created_at = now;
  set.state = SetState::Staged;
}

void archive(CredentialSet& set, Timestamp now) {
  set.state = SetState::Archived;
  set.archived_at = now;
}

void make_active(Body& body, CredentialSet& set, Timestamp now) {
  archive(body.active(), now);
  set.state = SetState::Active;
  set.activated_at = now;
}

UnknownVersionError unknown_version(const Body& body, Version version) {
  return UnknownVersionError(fmt::format("ring {} has no credential set {}", body.id.to_string(), version));
}

DeletedVersionError deleted(const CredentialSet& set) {
  const std::string cure = set.key_destroyed_at
                               ? fmt::format("its key was destroyed on {}", to_text(*set.key_destroyed_at))
                               : "KeyRing::restore() brings it back";
  return DeletedVersionError(
      fmt::format("credential set {} was removed on {}; {}", set.version, to_text(*set.deleted_at), cure));
}

const CredentialSet& require_set(const Body& body, Version version) {
  if (const CredentialSet* set = body.find(version)) return *set;
  throw unknown_version(body, version);
}

CredentialSet& require_set(Body& body, Version version) {
  return const_cast<CredentialSet&>(require_set(std::as_const(body), version));
}

CredentialSet& require_activatable(Body& body, Version version) {
  CredentialSet& set = require_set(body, version);
  if (set.state == SetState::Staged && version > body.active().version) return set;
  throw InvalidArgumentError(
      fmt::format("credential set {} is not staged above the active set {}; to go back to an older key, add it anew",
                  version, body.active().version));
}

CredentialSet& require_removable(Body& body, Version version, Timestamp now) {
  CredentialSet& set = require_set(body, version);
  if (set.state == SetState::Deleted) throw deleted(set);
  if (set.state == SetState::Active) {
    throw InvalidArgumentError(
        fmt::format("credential set {} is the active one; add or activate a newer set first", version));
  }
  if (!set.archived_at) return set;
  const Timestamp removable = later(*set.archived_at, body.settings.removal_grace);
  if (now < removable) {
    throw SetInUseError(fmt::format(
        "credential set {} was archived on {}; hosts that have not seen it yet may seal under it, so it can be removed "
        "from {} on",
        version, to_text(*set.archived_at), to_text(removable)));
  }
  return set;
}

CredentialSet& require_deleted(Body& body, Version version) {
  CredentialSet& set = require_set(body, version);
  if (set.state == SetState::Deleted) return set;
  throw InvalidArgumentError(fmt::format("credential set {} is not deleted; remove it first", version));
}

CredentialSet& require_past_quarantine(Body& body, Version version, Timestamp now) {
  CredentialSet& set = require_deleted(body, version);
  const Timestamp free = later(*set.deleted_at, body.settings.quarantine);
  if (now >= free) return set;
  throw SetInUseError(fmt::format("credential set {} was removed on {} and stays in quarantine until {}", version,
                                  to_text(*set.deleted_at), to_text(free)));
}

CredentialSet& require_purgeable(Body& body, Version version, Timestamp now) {
  CredentialSet& set = require_past_quarantine(body, version, now);
  if (!set.key_destroyed_at) return set;
  const Timestamp free = later(*set.key_destroyed_at, body.settings.quarantine);
  if (now >= free) return set;
  throw SetInUseError(fmt::format("the key of credential set {} was destroyed on {}, and its record stays until {}",
                                  version, to_text(*set.key_destroyed_at), to_text(free)));
}

}  // namespace hsmseal::ring
