#include "ring/ring_core.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "ring/ring_key.hpp"
#include "ring/set_state.hpp"
#include "ring/timed_provider.hpp"

namespace hsmseal::ring {
namespace {

constexpr int kMostConflicts = 64;
constexpr std::chrono::seconds kBetweenLooks{1};
/// How many version numbers a lost history may have given out, at least: other hosts may have seen more of it.
constexpr std::uint64_t kVersionsLost = 65'536;

/// Whether an envelope that names this set shows that the store has news: nobody seals under a staged set, and a deleted
/// one may have been restored.
bool unexpected(const Snapshot::Entry* entry) {
  return entry == nullptr || entry->set->state == SetState::Staged || !entry->wrapper;
}

void check_parts(const RingCore::Parts& parts) {
  if (!parts.store || !parts.provider) throw InvalidArgumentError("a ring needs a store and a key provider");
  if (!parts.options.clock) throw InvalidArgumentError("a ring needs a clock");
  if (parts.options.deadline.count() <= 0) throw InvalidArgumentError("a ring's deadline must be above 0");
}

RingCore::Parts with_deadlines(RingCore::Parts parts) {
  parts.provider = std::make_shared<TimedProvider>(std::move(parts.provider), parts.options.deadline);
  return parts;
}

void check_keep_sealing(const RingOptions& options, const RingSettings& settings) {
  if (options.keep_sealing < settings.quarantine && options.keep_sealing.count() >= 0) return;
  throw InvalidArgumentError(
      fmt::format("keep_sealing must be shorter than the ring's quarantine of {} ms", settings.quarantine.count()));
}

StoreConflictError store_taken() {
  return StoreConflictError("the store holds a ring already; open it with KeyRing::open()");
}

RingRecord require_record(std::optional<RingRecord> record, const std::optional<PinnedRing>& seen) {
  if (record) return *std::move(record);
  if (!seen) throw StoreError("the store holds no ring; make one with KeyRing::create()");
  throw StoreError(fmt::format(
      "the store holds no ring, but this host has seen generation {} of ring {}: check which store is meant, or restore "
      "it; KeyRing::import_from() takes an export",
      seen->generation, seen->id.to_string()));
}

}  // namespace

void check_ring_prefix(const RingId& ring, const std::array<std::byte, 4>& prefix) {
  if (std::ranges::equal(prefix, ByteView{ring.bytes}.first(prefix.size()))) return;
  throw WrongRingError(fmt::format("the envelope was sealed under a ring whose id starts with {}, this ring is {}",
                                   core::to_hex(prefix), ring.to_string()));
}

RingCore::RingCore(Parts parts)
    : parts_(with_deadlines(std::move(parts))),
      meters_(std::make_shared<UsageMeters>(parts_.store, parts_.options.observer)) {}

// ---- beginnings -----------------------------------------------------------------------------------------------------

std::shared_ptr<RingCore> RingCore::create(Parts parts, const SetSpec& first, const RingSettings& settings) {
  check_parts(parts);
  check_spec(first);
  if (const auto wrong = wrong_setting(settings)) throw InvalidArgumentError(*wrong);
  check_keep_sealing(parts.options, settings);
  if (parts.pin.keeper_->last()) {
    throw InvalidArgumentError(fmt::format(
        "{} remembers ring {} already: open that with KeyRing::open(), or give the new ring a pin of its own",
        parts.pin.keeper_->name(), parts.pin.keeper_->last()->id.to_string()));
  }
  parts.pin.keeper_->check_writable();
  if (parts.store->head()) throw store_taken();
  auto core = std::make_shared<RingCore>(std::move(parts));
  Body body;
  body.id = {crypto::random_array<16>()};
  body.generation = 1;
  body.next_version = 2;
  body.settings = settings;
  auto ring_key = std::make_shared<const SecretBytes>(crypto::random_secret(crypto::kKeyBytes));
  body.sets.push_back(new_set(core->provider().provision(first, body.id, 1), first, 1));
  const Wrappers wrappers = connect_all(body, core->provider(), core->meters_, nullptr);
  CredentialSet& set = body.sets.front();
  set.wrapped_ring_key = wrap_ring_key(*wrappers.at(1), *ring_key, body.id, set);
  stage(set, core->store().now());
  set.state = SetState::Active;
  set.activated_at = set.created_at;
  const RingRecord record = record_of(body, *ring_key);
  const Time read_at = core->parts_.options.clock();
  auto snapshot = std::make_shared<const Snapshot>(std::move(body), record.mac, std::move(ring_key), wrappers);
  if (!core->store().compare_and_swap(std::nullopt, record)) {
    const KeyDescription& key = snapshot->body().sets.front().key;
    throw StoreConflictError(fmt::format("{}; the key '{}' that was made for a new one stays in token '{}', unused",
                                         store_taken().what(), key.key_label, key.token));
  }
  core->start(std::move(snapshot), read_at);
  core->tell(Event::Kind::SetAdded, core->active().set());
  core->tell(Event::Kind::SetActivated, core->active().set());
  return core;
}

/// A record that was found good.
struct RingCore::Admitted {
  std::shared_ptr<const Snapshot> snapshot;
  bool follows = true;  ///< false: it does not follow what is remembered, and the operator accepts that
  std::uint64_t versions_lost = kVersionsLost;  ///< then: which the lost history may have given out, at most
};

RingCore::Admitted RingCore::admit(RingRecord record, const std::optional<PinnedRing>& seen) {
  ParsedRecord parsed = parse(std::move(record), seen);
  const Wrappers wrappers = connect_all(parsed.body, *parts_.provider, meters_, nullptr);
  auto ring_key = std::make_shared<const SecretBytes>(find_ring_key(parsed.body, wrappers));
  check_mac(parsed.record, *ring_key);
  check_keep_sealing(parts_.options, parsed.body.settings);
  Admitted admitted;
  try {
    if (seen) check_follows(*seen, parsed.body, parsed.record.mac, *ring_key);
    if (seen) check_history(*seen, parsed.body);
  } catch (const RingRolledBackError&) {
    if (!parts_.pin.keeper_->accepts_rollback()) throw;
    admitted.follows = false;
    // Each generation took one version at most.
    admitted.versions_lost = std::max(kVersionsLost, seen->generation - parsed.body.generation);
  } catch (const RingForkedError&) {
    if (!parts_.pin.keeper_->accepts_rollback()) throw;
    admitted.follows = false;
    admitted.versions_lost = std::max(kVersionsLost, seen->generation);
  }
  admitted.snapshot =
      std::make_shared<const Snapshot>(std::move(parsed.body), parsed.record.mac, std::move(ring_key), wrappers);
  return admitted;
}

void RingCore::start(std::shared_ptr<const Snapshot> snapshot, Time read_at) {
  set_snapshot(std::move(snapshot));
  read_at_ = read_at;
  if (parts_.pin.keeper_->seen(snapshot_->body(), snapshot_->mac(), *snapshot_->ring_key())) return;
  throw InvalidArgumentError(
      fmt::format("the ring is good, but this host cannot remember it ({}); correct that and open the ring again",
                  parts_.pin.keeper_->failure()));
}

std::shared_ptr<RingCore> RingCore::open(Parts parts) {
  check_parts(parts);
  auto core = std::make_shared<RingCore>(std::move(parts));
  const auto seen = core->parts_.pin.keeper_->last_for_open();
  const Time read_at = core->parts_.options.clock();
  const Admitted admitted = core->admit(require_record(core->store().load(), seen), seen);
  if (admitted.follows) {
    core->start(admitted.snapshot, read_at);
  } else {
    core->accept(admitted, read_at);
  }
  return core;
}

/// The operator takes a record that does not follow what this host has seen. A new record comes first, which skips the
/// versions that the lost history may have given out, then the pin: a crash in between only skips them twice.
void RingCore::accept(const Admitted& admitted, Time read_at) {
  Draft draft = draft_on(admitted.snapshot);
  constexpr Version kLast = std::numeric_limits<Version>::max();
  const std::uint64_t left = kLast - draft.body.next_version;
  draft.body.next_version += static_cast<Version>(std::min(admitted.versions_lost, left));
  const Finished finished = finish(std::move(draft));
  if (!store().compare_and_swap(admitted.snapshot->head(), finished.record)) {
    throw StoreConflictError(
        "another host changed the ring while it was being accepted; look at it and accept it again");
  }
  const Snapshot& now = *finished.snapshot;
  parts_.pin.keeper_->accept(now.body(), now.mac(), *now.ring_key());
  set_snapshot(finished.snapshot);
  read_at_ = read_at;
}

std::shared_ptr<RingCore> RingCore::import(Parts parts, const RingRecord& record) {
  check_parts(parts);
  if (parts.store->head()) throw store_taken();
  {
    // Verified before it is stored; open() then takes it as it takes any record.
    RingCore core{parts};
    static_cast<void>(core.admit(record, parts.pin.keeper_->last_for_open()));
  }
  if (!parts.store->compare_and_swap(std::nullopt, record)) throw store_taken();
  return open(std::move(parts));
}

std::shared_ptr<RingCore> RingCore::salvage(std::shared_ptr<KeyProvider> provider, Body body) {
  if (!provider) throw InvalidArgumentError("a ring needs a key provider");
  auto core = std::make_shared<RingCore>(Parts{nullptr, std::move(provider), RingPin::in_process(), {}});
  for (CredentialSet& set : body.sets) set.state = SetState::Archived;
  const Wrappers wrappers = connect_all(body, core->provider(), core->meters_, nullptr);
  core->snapshot_ = std::make_shared<const Snapshot>(std::move(body), Mac{}, nullptr, wrappers);
  return core;
}

// ---- the view and its age -------------------------------------------------------------------------------------------

RingStore& RingCore::store() const {
  if (!parts_.store) static_cast<void>(snapshot()->active());  // throws what a ring for salvage says
  return *parts_.store;
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

std::shared_ptr<CountedWrapper> RingCore::connect(const Body& body, const CredentialSet& set) const {
  return std::make_shared<CountedWrapper>(parts_.provider->connect(set.key, set.version), body, set, meters_);
}

RingCore::Duration RingCore::age(Time now) const noexcept { return now - read_at_.load(std::memory_order_acquire); }

bool RingCore::is_fresh(Time now) const noexcept { return !parts_.store || age(now) < max_staleness(); }

void RingCore::was_read_at(Time time) {
  const std::scoped_lock lock{snapshot_mutex_};
  read_at_ = std::max(read_at_.load(), time);
}

/// Under snapshot_mutex_, or before anybody else has this.
void RingCore::set_snapshot(std::shared_ptr<const Snapshot> snapshot) {
  present_key_->set({snapshot->body().id, snapshot->body().former_ring_keys.size(), snapshot->ring_key()});
  max_staleness_ = snapshot->body().settings.max_staleness;
  snapshot_ = std::move(snapshot);
  ++views_;  // last: who reads the new number finds the new snapshot
}

void RingCore::publish(std::shared_ptr<const Snapshot> snapshot) {
  {
    const std::scoped_lock lock{snapshot_mutex_};
    if (snapshot->body().generation <= snapshot_->body().generation) return;
    set_snapshot(snapshot);
  }
  tell_followers();
  if (parts_.options.observer) {
    parts_.options.observer->on_event(
        {Event::Kind::RingChanged, snapshot->body().id, snapshot->active().set->version, {}});
  }
}

void RingCore::add_follower(const std::weak_ptr<Follower>& follower) {
  const std::scoped_lock lock{followers_mutex_};
  std::erase_if(followers_, [](const std::weak_ptr<Follower>& one) { return one.expired(); });
  followers_.push_back(follower);
}

void RingCore::tell_followers() {
  std::vector<std::weak_ptr<Follower>> all;
  {
    const std::scoped_lock lock{followers_mutex_};
    all = followers_;
  }
  for (const auto& one : all) {
    if (const auto follower = one.lock()) follower->ring_changed();
  }
}

void RingCore::remember(const Snapshot& snapshot) {
  if (parts_.pin.keeper_->seen(snapshot.body(), snapshot.mac(), *snapshot.ring_key())) return;
  tell(Event::Kind::PinNotSaved, parts_.pin.keeper_->failure());
}

/// A record may be several generations on. As far as the store's history goes back, it must hold what this host has seen:
/// otherwise a copy was restored and changed since, and versions may mean other keys than they did.
void RingCore::check_history(const PinnedRing& seen, const Body& body) const {
  if (body.generation <= seen.generation + 1 || body.generation - seen.generation >= kHistoryKept) return;
  for (const RingRecord& past : store().history(body.generation - seen.generation + 1)) {
    if (past.generation == seen.generation && past.mac != seen.mac) throw forked(seen);
  }
}

/// The key of a record that another host may have given the ring meanwhile.
SecretBytes RingCore::key_of(const ParsedRecord& parsed, const Snapshot& known, const Wrappers& wrappers) const {
  const std::size_t theirs = parsed.body.former_ring_keys.size();
  const std::size_t ours = known.body().former_ring_keys.size();
  if (theirs > ours) return find_ring_key(parsed.body, wrappers);
  if (theirs == ours) return known.ring_key()->clone();
  // An older record, which this host can still recognise as the ring's own.
  auto former = former_ring_key(known.body(), *known.ring_key(), theirs);
  if (!former) throw RingTamperedError("the ring's record has another number of former keys than it had");
  return *std::move(former);
}

std::shared_ptr<const Snapshot> RingCore::load_verified() {
  const auto known = snapshot();
  const auto seen = parts_.pin.keeper_->last();
  ParsedRecord parsed = parse(require_record(store().load(), seen), seen);
  const Wrappers wrappers = connect_all(parsed.body, *parts_.provider, meters_, known.get());
  auto ring_key = std::make_shared<const SecretBytes>(key_of(parsed, *known, wrappers));
  check_mac(parsed.record, *ring_key);
  if (seen) check_follows(*seen, parsed.body, parsed.record.mac, *ring_key);
  if (seen) check_history(*seen, parsed.body);
  auto loaded =
      std::make_shared<const Snapshot>(std::move(parsed.body), parsed.record.mac, std::move(ring_key), wrappers);
  remember(*loaded);
  return loaded->body().generation == known->body().generation ? known : loaded;
}

void RingCore::refresh() {
  const Time read_at = parts_.options.clock();
  publish(load_verified());
  was_read_at(read_at);
}

void RingCore::look() {
  const Time read_at = parts_.options.clock();
  const auto known = snapshot();
  if (store().head() != known->head()) publish(load_verified());
  was_read_at(read_at);
}

/// Under look_mutex_.
void RingCore::look_and_note() {
  look_failure_ = nullptr;
  std::string reason;
  const Time begin = parts_.options.clock();
  try {
    look();
  } catch (const std::exception& error) {
    look_failure_ = std::current_exception();
    reason = error.what();
  }
  // Its end counts: threads that waited for a store that was slow to fail do not wait for it again, one by one. Nor does
  // one of them wait all the time.
  last_look_ = parts_.options.clock();
  between_looks_ = look_failure_ ? std::max<Duration>(kBetweenLooks, *last_look_ - begin) : kBetweenLooks;
  if (!look_failure_) return;
  if (!is_fresh(steady_now())) tell(Event::Kind::RingStale, reason);
  std::rethrow_exception(look_failure_);
}

/// One thread looks, and those that come meanwhile wait for it, or go on with what there is. A look that failed is
/// tried again after a second; until then its failure is everybody's.
void RingCore::keep_fresh(Waiting waiting) {
  if (is_fresh(steady_now())) return;
  std::unique_lock one_look{look_mutex_, std::defer_lock};
  if (waiting == Waiting::ForOthers) {
    one_look.lock();
  } else if (!one_look.try_lock()) {
    return;
  }
  if (is_fresh(steady_now())) return;
  if (look_failure_ && parts_.options.clock() - *last_look_ < between_looks_) std::rethrow_exception(look_failure_);
  look_and_note();
}

ConnectedSet RingCore::active_for_sealing() {
  try {
    keep_fresh(Waiting::ForOthers);
  } catch (const StoreError& error) {
    const auto unread = std::chrono::duration_cast<std::chrono::milliseconds>(age(steady_now()));
    if (unread >= std::max<Duration>(max_staleness(), parts_.options.keep_sealing)) {
      throw RingStaleError(fmt::format(
          "the ring's store was last read {} ms ago, so another host may have rotated the ring; nothing is sealed: {}",
          unread.count(), error.what()));
    }
  }
  return active();
}

/// Threads that come during a look wait for it and see what it found; those that come in the second after it share its
/// failure, if it failed.
bool RingCore::look_for(Version version) {
  const std::scoped_lock one_look{look_mutex_};
  if (!unexpected(snapshot()->find(version))) return true;
  if (last_look_ && parts_.options.clock() - *last_look_ < between_looks_) {
    if (look_failure_) std::rethrow_exception(look_failure_);
    return false;
  }
  look_and_note();
  return true;
}

ConnectedSet RingCore::named_by_envelope(const std::array<std::byte, 4>& ring_prefix, Version version) {
  const std::uint64_t view = views();
  auto now = snapshot();
  check_ring_prefix(now->body().id, ring_prefix);
  try {
    keep_fresh(Waiting::No);
  } catch (const Error&) {
    // Told by the look. What was verified before opens.
  }
  if (views() != view) now = snapshot();
  const auto* entry = now->find(version);
  bool looked = false;
  if (unexpected(entry) && parts_.store) {
    try {
      looked = look_for(version);
    } catch (const Error&) {
      if (entry == nullptr) throw;  // a staged set opens without news, and a deleted one stays deleted
    }
    now = snapshot();
    entry = now->find(version);
  }
  if (entry != nullptr && entry->wrapper) return {std::move(now), entry};
  if (entry != nullptr) throw deleted(*entry->set);
  const Version newest = now->body().next_version - 1;
  // Not above the newest, it may still be one that was only reserved when the store was read less than a second ago.
  if (parts_.store && (version > newest || !looked)) {
    throw RingOutOfDateError(fmt::format(
        "the envelope names credential set {}, but the newest this host can see is {}; if another host added "
        "it, try again in a second",
        version, now->body().sets.back().version));
  }
  throw unknown_version(now->body(), version);
}

// ---- changes --------------------------------------------------------------------------------------------------------

RingCore::Draft RingCore::draft_on(std::shared_ptr<const Snapshot> base) const {
  Body body = base->body();
  auto ring_key = base->ring_key();
  return {std::move(base), std::move(body), std::move(ring_key), store().now()};
}

/// Made before the store changes: what may fail here must not leave a change that is not in force in this process.
RingCore::Finished RingCore::finish(Draft draft) const {
  draft.body.generation = draft.base->body().generation + 1;
  draft.body.prev_mac = draft.base->mac();
  RingRecord record = record_of(draft.body, *draft.ring_key);
  const Wrappers wrappers = connect_all(draft.body, *parts_.provider, meters_, draft.base.get());
  auto snapshot =
      std::make_shared<const Snapshot>(std::move(draft.body), record.mac, std::move(draft.ring_key), wrappers);
  return {std::move(record), std::move(snapshot)};
}

std::shared_ptr<const Snapshot> RingCore::change(const Edit& edit) {
  for (int conflicts = 0; conflicts < kMostConflicts; ++conflicts) {
    static_cast<void>(parts_.pin.keeper_->last());  // a pin that cannot be read is no base for a change
    look();
    const auto base = snapshot();
    Draft draft = draft_on(base);
    edit(draft);
    const Finished finished = finish(std::move(draft));
    const Time read_at = parts_.options.clock();
    if (!store().compare_and_swap(base->head(), finished.record)) continue;
    publish(finished.snapshot);
    was_read_at(read_at);
    try {
      remember(*finished.snapshot);
    } catch (const Error& error) {
      tell(Event::Kind::PinNotSaved, error.what());  // the change is in force, whatever became of the pin meanwhile
    }
    return finished.snapshot;
  }
  throw StoreConflictError("other hosts keep changing the ring; nothing was changed, try again");
}

void RingCore::tell(Event::Kind kind, const CredentialSet& set) const {
  if (observed()) tell(kind, snapshot()->body().id, set.version, set.key.token);
}

void RingCore::tell(Event::Kind kind, const RingId& ring, Version version, const std::string& token) const {
  if (observed()) parts_.options.observer->on_event({kind, ring, version, token});
}

void RingCore::tell(Event::Kind kind, const std::string& reason) const {
  if (parts_.options.observer) parts_.options.observer->on_event({kind, snapshot()->body().id, 0, {}, reason});
}

}  // namespace hsmseal::ring
