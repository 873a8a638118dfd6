#include "ring/snapshot.hpp"

#include <utility>

namespace hsmseal::ring {

Snapshot::Entries Snapshot::connect_all(const Body& body, KeyProvider& provider, const Snapshot* previous) {
  Entries entries;
  entries.reserve(body.sets.size());
  for (const CredentialSet& set : body.sets) {
    const Entry* before = previous != nullptr ? previous->find(set.version) : nullptr;
    const bool same_key = before != nullptr && before->set->key == set.key;
    entries.emplace(set.version, Entry{&set, same_key ? before->wrapper : provider.connect(set.key)});
  }
  return entries;
}

Snapshot::Snapshot(Body body, Mac mac, KeyProvider& provider, const Snapshot* previous)
    : body_(std::move(body)),
      mac_(mac),
      entries_(connect_all(body_, provider, previous)),
      active_(&entries_.at(body_.active().version)) {}

const Snapshot::Entry* Snapshot::find(Version version) const noexcept {
  const auto found = entries_.find(version);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace hsmseal::ring
