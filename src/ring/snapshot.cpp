#include "ring/snapshot.hpp"

#include <utility>

#include <hsmseal/error.hpp>

namespace hsmseal::ring {

CountedWrapper::CountedWrapper(std::shared_ptr<KeyWrapper> inner, const Body& ring, const CredentialSet& set,
                               std::shared_ptr<UsageMeters> meters)
    : inner_(std::move(inner)),
      meters_(std::move(meters)),
      kek_id_(set.key.kek_id),
      settings_(ring.settings),
      event_{Event::Kind::UsageNearLimit, ring.id, set.version, set.key.token, {}} {}

std::shared_ptr<UsageMeter> CountedWrapper::meter() {
  auto meter = meters_->of(kek_id_, settings_);
  std::call_once(connected_, [&] { meter->note_connection(); });
  return meter;
}

Bytes CountedWrapper::wrap(ByteView key, ByteView aad) {
  const auto reading = meter()->take();
  if (reading != UsageMeter::Reading::Fine) {
    Event event = event_;
    if (reading == UsageMeter::Reading::NotCounted) event.kind = Event::Kind::UsageNotCounted;
    meters_->tell(event);
  }
  return inner_->wrap(key, aad);
}

Bytes CountedWrapper::wrap_for_ring(ByteView key, ByteView aad) {
  meter()->note();
  return inner_->wrap(key, aad);
}

Wrappers connect_all(const Body& body, KeyProvider& provider, const std::shared_ptr<UsageMeters>& meters,
                     const Snapshot* previous) {
  Wrappers wrappers;
  wrappers.reserve(body.sets.size());
  for (const CredentialSet& set : body.sets) {
    if (set.state == SetState::Deleted) continue;
    const auto* before = previous != nullptr ? previous->find(set.version) : nullptr;
    const bool goes_on = before != nullptr && before->wrapper && before->set->key == set.key;
    wrappers.emplace(set.version, goes_on ? before->wrapper
                                          : std::make_shared<CountedWrapper>(provider.connect(set.key, set.version),
                                                                             body, set, meters));
  }
  return wrappers;
}

Snapshot::Snapshot(Body body, Mac mac, std::shared_ptr<const SecretBytes> ring_key, const Wrappers& wrappers)
    : body_(std::move(body)), mac_(mac), ring_key_(std::move(ring_key)) {
  entries_.reserve(body_.sets.size());
  for (const CredentialSet& set : body_.sets) {
    const auto wrapper = wrappers.find(set.version);
    const auto entry =
        entries_.emplace(set.version, Entry{&set, wrapper == wrappers.end() ? nullptr : wrapper->second});
    if (set.state == SetState::Active) active_ = &entry.first->second;
  }
}

const Snapshot::Entry* Snapshot::find(Version version) const noexcept {
  const auto found = entries_.find(version);
  return found == entries_.end() ? nullptr : &found->second;
}

const Snapshot::Entry& Snapshot::active() const {
  if (active_ != nullptr && ring_key_) return *active_;
  throw InvalidArgumentError("this ring was opened for salvage: it opens envelopes, and seals and changes nothing");
}

}  // namespace hsmseal::ring
