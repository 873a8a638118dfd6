#include "ring/ring_core.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "core/hex.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::ring {
namespace {

constexpr std::size_t kMaxDescriptionBytes = 1024;
constexpr int kMostConflicts = 64;
constexpr std::chrono::seconds kBetweenLooks{1};

Bytes ring_key_aad(const RingId& ring, const CredentialSet& set) {
  return core::Binding{core::kRingKeyLabel}.append(ring).append(set.version).append(set.key.kek_id).take();
}

Mac mac_of(std::string_view body, const SecretBytes& ring_key) {
  const SecretBytes mac_key =
      crypto::hkdf_expand_sha256(ring_key.view(), bytes_of(core::kRingMacLabel), crypto::kKeyBytes);
  return crypto::hmac_sha256(mac_key.view(), bytes_of(body));
}

std::array<std::byte, 32> key_check_of(const SecretBytes& ring_key) {
  const SecretBytes check = crypto::hkdf_expand_sha256(ring_key.view(), bytes_of("hsmseal/1/ring-key-check"), 32);
  std::array<std::byte, 32> copy;
  std::ranges::copy(check.view(), copy.begin());
  return copy;
}

/// For what must not go on without its pin.
void remember(PinKeeper& pin, const Snapshot& snapshot, const SecretBytes& ring_key) {
  if (pin.seen(snapshot.body(), snapshot.mac(), key_check_of(ring_key))) return;
  throw InvalidArgumentError(fmt::format("the ring is in its store, but its pin cannot be kept: {}", pin.failure()));
}

/// The record of a body, held to the rules that its readers will hold it to.
RingRecord record_of(const Body& body, const SecretBytes& ring_key) {
  RingRecord record{body.generation, to_text(body), {}};
  try {
    if (from_text(record.body) != body) throw RingTamperedError("it reads otherwise than it was written");
  } catch (const RingTamperedError& error) {
    throw InvalidArgumentError(
        fmt::format("the ring is not stored, since no host could read it again: {}", error.what()));
  }
  record.mac = mac_of(record.body, ring_key);
  return record;
}

/// A record of the right ring, parsed; not verified yet.
struct LoadedRecord {
  RingRecord record;
  Body body;
  std::optional<PinnedRing> seen;  ///< what this host had seen before the record was read
};

LoadedRecord load(RingStore& store, std::optional<PinnedRing> seen) {
  auto record = store.load();
  if (!record) throw StoreError("the store holds no ring; make one with KeyRing::create()");
  Body body = from_text(record->body);
  if (body.generation != record->generation) {
    throw RingTamperedError("the ring's record is stored under another generation than its own");
  }
  if (seen) check_same_ring(*seen, body);
  return {*std::move(record), std::move(body), std::move(seen)};
}

void verify_record(const LoadedRecord& loaded, const SecretBytes& ring_key) {
  if (!crypto::equal(loaded.record.mac, mac_of(loaded.record.body, ring_key))) {
    throw RingTamperedError("the ring's record was changed by somebody without its keys; restore a good copy of it");
  }
  if (loaded.seen) check_follows(*loaded.seen, loaded.body, loaded.record.mac);
}

SecretBytes unwrap_ring_key(const ConnectedSet& set) {
  SecretBytes key = set.wrapper().unwrap(set.set().wrapped_ring_key, ring_key_aad(set.ring(), set.set()));
  if (key.size() != crypto::kKeyBytes) throw OpenError();
  return key;
}

/// Any set's key gives the ring key; the active one is asked first, then the newer before the older.
SecretBytes find_ring_key(const std::shared_ptr<const Snapshot>& snapshot) {
  std::exception_ptr first_failure;
  std::vector<const Snapshot::Entry*> order;
  for (const CredentialSet& set : snapshot->body().sets) {
    if (set.state != SetState::Active) order.push_back(snapshot->find(set.version));
  }
  order.push_back(&snapshot->active());
  std::ranges::reverse(order);
  for (const Snapshot::Entry* entry : order) {
    try {
      return unwrap_ring_key({snapshot, entry});
    } catch (const OpenError&) {
      // The record's copy of the ring key is not one that this key wrapped; another may be whole.
    } catch (const Error&) {
      if (!first_failure) first_failure = std::current_exception();
    }
  }
  if (first_failure) std::rethrow_exception(first_failure);
  throw RingTamperedError("no set's copy of the ring key opens; restore a good copy of the ring's record");
}

void check_spec(const SetSpec& spec) {
  if (spec.description.size() > kMaxDescriptionBytes) {
    throw InvalidArgumentError(fmt::format("a description has at most {} bytes", kMaxDescriptionBytes));
  }
  check_utf8(spec.token, "a token's alias");
  check_utf8(spec.description, "a description");
  check_utf8(spec.key_label, "a key label");
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

CredentialSet first_state(CredentialSet set, Activation activation, Timestamp now) {
  set.created_at = now;
  set.state = SetState::Staged;
  if (activation == Activation::Now) {
    set.state = SetState::Active;
    set.activated_at = now;
  }
  return set;
}

/// Whether an envelope that names this set shows that the store has news: nobody seals under a staged set.
bool unexpected(const Snapshot::Entry* entry) { return entry == nullptr || entry->set->state == SetState::Staged; }

void check_parts(const RingCore::Parts& parts) {
  if (!parts.store || !parts.provider) throw InvalidArgumentError("a ring needs a store and a key provider");
  if (!parts.options.clock) throw InvalidArgumentError("a ring needs a clock");
}

/// A set's own copy of the ring key, unwrapped again before anybody depends on it.
Bytes wrap_ring_key(KeyWrapper& wrapper, const SecretBytes& ring_key, const RingId& ring, const CredentialSet& set) {
  const Bytes aad = ring_key_aad(ring, set);
  Bytes wrapped = wrapper.wrap(ring_key.view(), aad);
  try {
    if (crypto::equal(wrapper.unwrap(wrapped, aad).view(), ring_key.view())) return wrapped;
  } catch (const OpenError&) {
    // Said below: it was wrapped a moment ago.
  }
  throw WrongKeyError("the key does not give back what it wrapped a moment ago; do not seal under its set");
}

CredentialSet new_set(KeyDescription key, const SetSpec& spec, Version version) {
  CredentialSet set;
  set.version = version;
  set.key = std::move(key);
  set.description = spec.description;
  return set;
}

}  // namespace

void check_ring_prefix(const RingId& ring, const std::array<std::byte, 4>& prefix) {
  if (std::ranges::equal(prefix, ByteView{ring.bytes}.first(prefix.size()))) return;
  throw WrongRingError(fmt::format("the envelope was sealed under a ring whose id starts with {}, this ring is {}",
                                   core::to_hex(prefix), ring.to_string()));
}

RingCore::RingCore(Parts parts, SecretBytes ring_key, std::shared_ptr<const Snapshot> snapshot)
    : parts_(std::move(parts)), ring_key_(std::move(ring_key)), snapshot_(std::move(snapshot)) {}

std::shared_ptr<RingCore> RingCore::create(Parts parts, const SetSpec& first) {
  check_parts(parts);
  check_spec(first);
  if (parts.pin.keeper_->last()) {
    throw InvalidArgumentError("this pin remembers a ring already; a new ring needs a new pin");
  }
  parts.pin.keeper_->check_writable();
  const auto taken = [] { return StoreConflictError("the store holds a ring already; open it with KeyRing::open()"); };
  if (parts.store->load()) throw taken();
  Body body;
  body.id = {crypto::random_array<16>()};
  body.generation = 1;
  body.next_version = 2;
  SecretBytes ring_key = crypto::random_secret(crypto::kKeyBytes);
  CredentialSet set = new_set(parts.provider->provision(first, body.id, 1), first, 1);
  set.wrapped_ring_key = wrap_ring_key(*parts.provider->connect(set.key), ring_key, body.id, set);
  body.sets.push_back(first_state(std::move(set), Activation::Now, parts.store->now()));
  const RingRecord record = record_of(body, ring_key);
  auto snapshot = std::make_shared<const Snapshot>(std::move(body), record.mac, *parts.provider, nullptr);
  if (!parts.store->compare_and_swap(std::nullopt, record)) throw taken();
  remember(*parts.pin.keeper_, *snapshot, ring_key);
  auto core = std::make_shared<RingCore>(std::move(parts), std::move(ring_key), std::move(snapshot));
  core->tell(Event::Kind::SetAdded, core->active().set());
  core->tell(Event::Kind::SetActivated, core->active().set());
  return core;
}

std::shared_ptr<RingCore> RingCore::open(Parts parts) {
  check_parts(parts);
  LoadedRecord loaded = load(*parts.store, parts.pin.keeper_->last_for_open());
  auto snapshot = std::make_shared<const Snapshot>(loaded.body, loaded.record.mac, *parts.provider, nullptr);
  SecretBytes ring_key = find_ring_key(snapshot);
  verify_record(loaded, ring_key);
  remember(*parts.pin.keeper_, *snapshot, ring_key);
  return std::make_shared<RingCore>(std::move(parts), std::move(ring_key), std::move(snapshot));
}

std::shared_ptr<const Snapshot> RingCore::snapshot() const {
  const std::scoped_lock lock{snapshot_mutex_};
  return snapshot_;
}

ConnectedSet RingCore::active() const {
  auto now = snapshot();
  const auto* entry = &now->active();
  return {std::move(now), entry};
}

void RingCore::publish(std::shared_ptr<const Snapshot> snapshot) {
  {
    const std::scoped_lock lock{snapshot_mutex_};
    if (snapshot->body().generation <= snapshot_->body().generation) return;
    snapshot_ = snapshot;
  }
  if (parts_.options.observer) {
    parts_.options.observer->on_event(
        {Event::Kind::RingChanged, snapshot->body().id, snapshot->active().set->version, {}});
  }
}

std::shared_ptr<const Snapshot> RingCore::load_verified() const {
  auto known = snapshot();
  LoadedRecord loaded = load(*parts_.store, parts_.pin.keeper_->last());
  verify_record(loaded, ring_key_);
  static_cast<void>(parts_.pin.keeper_->seen(loaded.body, loaded.record.mac, key_check_of(ring_key_)));
  if (loaded.body.generation == known->body().generation) return known;
  return std::make_shared<const Snapshot>(std::move(loaded.body), loaded.record.mac, *parts_.provider, known.get());
}

void RingCore::refresh() { publish(load_verified()); }

/// Threads that come during a look wait for it and see what it found; those that come in the second after it share its
/// failure, if it failed.
bool RingCore::look_for(Version version) {
  const std::scoped_lock one_look{look_mutex_};
  if (!unexpected(snapshot()->find(version))) return true;
  const auto now = parts_.options.clock();
  if (last_look_ && now - *last_look_ < kBetweenLooks) {
    if (look_failure_) std::rethrow_exception(look_failure_);
    return false;
  }
  last_look_ = now;
  look_failure_ = nullptr;
  try {
    refresh();
  } catch (...) {
    look_failure_ = std::current_exception();
    throw;
  }
  return true;
}

ConnectedSet RingCore::named_by_envelope(const std::array<std::byte, 4>& ring_prefix, Version version) {
  auto now = snapshot();
  check_ring_prefix(now->body().id, ring_prefix);
  const auto* entry = now->find(version);
  bool looked = false;
  if (unexpected(entry)) {
    try {
      looked = look_for(version);
    } catch (const StoreError&) {
      if (entry == nullptr) throw;  // a staged set opens without news
    }
    now = snapshot();
    entry = now->find(version);
  }
  if (entry != nullptr) return {std::move(now), entry};
  const Version newest = now->body().next_version - 1;
  // Not above the newest, it may still be one that was only reserved when the store was read less than a second ago.
  if (version > newest || !looked) {
    throw RingOutOfDateError(fmt::format(
        "the envelope names credential set {}, but the newest this host can see is {}; if another host added "
        "it, try again in a second",
        version, now->body().sets.back().version));
  }
  throw UnknownVersionError(fmt::format("ring {} has no credential set {}", now->body().id.to_string(), version));
}

std::shared_ptr<const Snapshot> RingCore::change(const Edit& edit) {
  for (int conflicts = 0; conflicts < kMostConflicts; ++conflicts) {
    const auto base = load_verified();
    publish(base);
    Body body = base->body();
    edit(body, parts_.store->now());
    body.generation = base->body().generation + 1;
    body.prev_mac = base->mac();
    const RingRecord record = record_of(body, ring_key_);
    // Made before the store changes: what may fail here must not leave a change that is not in force in this process.
    auto changed = std::make_shared<const Snapshot>(std::move(body), record.mac, *parts_.provider, base.get());
    if (!parts_.store->compare_and_swap(base->body().generation, record)) continue;
    static_cast<void>(parts_.pin.keeper_->seen(changed->body(), record.mac, key_check_of(ring_key_)));
    publish(changed);
    return changed;
  }
  throw StoreConflictError("other hosts keep changing the ring; nothing was changed, try again");
}

void RingCore::recognise_adopted_key(KeyDescription& key, KeyWrapper& wrapper) const {
  for (const auto& set : snapshot()->body().sets) {
    try {
      check_key_proof(wrapper, set.key.kek_id, set.key.proof);
    } catch (const WrongKeyError&) {
      continue;
    }
    key.kek_id = set.key.kek_id;
    key.proof = set.key.proof;
    return;
  }
}

CredentialSet RingCore::prove_new_key(KeyDescription key, const SetSpec& spec, Version version) const {
  if (spec.adopt_key_id) recognise_adopted_key(key, *parts_.provider->connect(key));
  CredentialSet set = new_set(std::move(key), spec, version);
  set.wrapped_ring_key = wrap_ring_key(*parts_.provider->connect(set.key), ring_key_, snapshot()->body().id, set);
  return set;
}

std::shared_ptr<const Snapshot> RingCore::store_new_set(const CredentialSet& set, Activation activation) {
  try {
    return change([&](Body& body, Timestamp now) {
      const auto place = std::ranges::upper_bound(body.sets, set.version, {}, &CredentialSet::version);
      const auto stored = body.sets.insert(place, first_state(set, Activation::Later, now));
      if (activation == Activation::Later) return;
      if (body.active().version < set.version) {
        make_active(body, *stored, now);
      } else {
        archive(*stored, now);  // a newer set became active meanwhile
      }
    });
  } catch (const StoreConflictError&) {
    throw StoreConflictError(fmt::format(
        "other hosts keep changing the ring, so set {} was not stored; its key '{}' stays in token '{}', unused",
        set.version, set.key.key_label, set.key.token));
  }
}

Version RingCore::add(const SetSpec& spec, Activation activation) {
  check_spec(spec);
  // The version is taken before the key is made: its label and all that is wrapped for the set name the version, and
  // hosts that add at the same time must not make keys for the same one.
  Version version = 0;
  const auto reserved = change([&](Body& body, Timestamp) {
    if (body.next_version == std::numeric_limits<Version>::max()) {
      throw InvalidArgumentError("the ring has no versions left; make a new ring and reseal");
    }
    version = body.next_version++;
  });
  const CredentialSet set =
      prove_new_key(parts_.provider->provision(spec, reserved->body().id, version), spec, version);
  const auto changed = store_new_set(set, activation);
  const CredentialSet& stored = *changed->find(version)->set;
  tell(Event::Kind::SetAdded, stored);
  if (stored.state == SetState::Active) tell(Event::Kind::SetActivated, stored);
  return version;
}

void RingCore::activate(Version version) {
  const auto changed = change([&](Body& body, Timestamp now) {
    CredentialSet* const set = body.find(version);
    if (set == nullptr) throw UnknownVersionError(fmt::format("the ring has no credential set {}", version));
    if (set->state != SetState::Staged || version < body.active().version) {
      throw InvalidArgumentError(fmt::format(
          "credential set {} is not staged above the active set {}; to go back to an older key, add it anew", version,
          body.active().version));
    }
    make_active(body, *set, now);
  });
  tell(Event::Kind::SetActivated, *changed->find(version)->set);
}

void RingCore::verify(Version version) {
  if (unexpected(snapshot()->find(version))) refresh();
  const auto now = snapshot();
  const auto* entry = now->find(version);
  if (entry == nullptr) throw UnknownVersionError(fmt::format("the ring has no credential set {}", version));
  const ConnectedSet set{now, entry};
  const KekId& kek_id = set.set().key.kek_id;
  check_key_proof(set.wrapper(), kek_id, set.set().key.proof);
  // A set that seals, or will, must also wrap what it can unwrap; an archived key may be past that.
  if (set.set().state != SetState::Archived) {
    static_cast<void>(wrap_ring_key(set.wrapper(), ring_key_, set.ring(), set.set()));
  }
  try {
    if (crypto::equal(unwrap_ring_key(set).view(), ring_key_.view())) return;
  } catch (const OpenError&) {
    // Said below: the ring's copy is not what this key wrapped.
  }
  throw RingTamperedError(fmt::format("credential set {} does not hold this ring's key", version));
}

void RingCore::tell(Event::Kind kind, const CredentialSet& set) const {
  if (!parts_.options.observer) return;
  parts_.options.observer->on_event({kind, snapshot()->body().id, set.version, set.key.token});
}

}  // namespace hsmseal::ring
