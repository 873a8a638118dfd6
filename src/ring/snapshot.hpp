#pragma once

#include <memory>
#include <unordered_map>

#include <hsmseal/key_wrapper.hpp>

#include "ring/body.hpp"

namespace hsmseal::ring {

/// A ring as this process last verified it, with a wrapper for each set. Never changes once it is shared.
class Snapshot {
 public:
  struct Entry {
    const CredentialSet* set;
    std::shared_ptr<KeyWrapper> wrapper;
  };

  /// Connects every set; wrappers of `previous` (may be null) go on where the key is the same.
  Snapshot(Body body, Mac mac, KeyProvider& provider, const Snapshot* previous);
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() = default;

  [[nodiscard]] const Body& body() const noexcept { return body_; }
  [[nodiscard]] const Mac& mac() const noexcept { return mac_; }
  /// @returns nullptr if the ring has no such set. Takes the same time for any number of sets.
  [[nodiscard]] const Entry* find(Version version) const noexcept;
  [[nodiscard]] const Entry& active() const noexcept { return *active_; }

 private:
  using Entries = std::unordered_map<Version, Entry>;
  [[nodiscard]] static Entries connect_all(const Body& body, KeyProvider& provider, const Snapshot* previous);

  const Body body_;
  const Mac mac_;
  const Entries entries_;  ///< refers into body_
  const Entry* const active_;
};

/// A set of a snapshot that stays valid while this is held.
struct ConnectedSet {
  std::shared_ptr<const Snapshot> snapshot;
  const Snapshot::Entry* entry;

  [[nodiscard]] const RingId& ring() const noexcept { return snapshot->body().id; }
  [[nodiscard]] const CredentialSet& set() const noexcept { return *entry->set; }
  [[nodiscard]] KeyWrapper& wrapper() const noexcept { return *entry->wrapper; }
};

}  // namespace hsmseal::ring
