#include "ring/snapshot.hpp"

#include <utility>

namespace hsmseal::ring {

Snapshot::Snapshot(Body body, Mac mac, KeyProvider& provider, const Snapshot* previous)
    : body_(std::move(body)), mac_(mac) {
  entries_.reserve(body_.sets.size());
  for (const CredentialSet& set : body_.sets) {
    const Entry* before = previous != nullptr ? previous->find(set.version) : nullptr;
    const bool same_key = before != nullptr && before->set->key == set.key;
    entries_.emplace(set.version, Entry{&set, same_key ? before->wrapper : provider.connect(set.key)});
  }
  active_ = find(body_.active().version);
}

const Snapshot::Entry* Snapshot::find(Version version) const noexcept {
  const auto found = entries_.find(version);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace hsmseal::ring
