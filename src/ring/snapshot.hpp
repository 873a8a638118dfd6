#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include <hsmseal/key_wrapper.hpp>

#include "ring/body.hpp"
#include "ring/usage_meter.hpp"

namespace hsmseal::ring {

/// A set's wrapper, with the count of its wraps.
///
/// Thread safety: members may run concurrently.
class CountedWrapper final : public KeyWrapper {
 public:
  /// @param meters  kept as long as this lives.
  CountedWrapper(std::shared_ptr<KeyWrapper> inner, const Body& ring, const CredentialSet& set,
                 std::shared_ptr<UsageMeters> meters);

  /// @throws UsageLimitError  the key is used up. Besides: what the inner wrapper throws.
  [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override;
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override { return inner_->unwrap(wrapped, aad); }
  [[nodiscard]] std::size_t concurrency() const override { return inner_->concurrency(); }

  /// wrap() for the ring's own key, which is counted but never refused.
  [[nodiscard]] Bytes wrap_for_ring(ByteView key, ByteView aad);

 private:
  /// Asked for when something is wrapped, not before: a record's limits count only once the record was verified.
  [[nodiscard]] std::shared_ptr<UsageMeter> meter();

  const std::shared_ptr<KeyWrapper> inner_;
  const std::shared_ptr<UsageMeters> meters_;
  const KekId kek_id_;
  const RingSettings settings_;
  std::once_flag connected_;
  const Event event_;  ///< UsageNearLimit
};

/// The wrappers of a ring's sets. Deleted sets have none, unless the ring is to be salvaged.
using Wrappers = std::unordered_map<Version, std::shared_ptr<CountedWrapper>>;

class Snapshot;

/// Connects every set that is not deleted; wrappers of `previous` (may be null) go on where the key is the same.
[[nodiscard]] Wrappers connect_all(const Body& body, KeyProvider& provider, const std::shared_ptr<UsageMeters>& meters,
                                   const Snapshot* previous);

/// A ring as this process last verified it, with a wrapper for each set. Never changes once it is shared.
class Snapshot {
 public:
  struct Entry {
    const CredentialSet* set;
    std::shared_ptr<CountedWrapper> wrapper;  ///< null if the set is deleted
  };

  /// @param ring_key  empty if the ring was opened for salvage.
  Snapshot(Body body, Mac mac, std::shared_ptr<const SecretBytes> ring_key, const Wrappers& wrappers);
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() = default;

  [[nodiscard]] const Body& body() const noexcept { return body_; }
  [[nodiscard]] const Mac& mac() const noexcept { return mac_; }
  [[nodiscard]] RingHead head() const noexcept { return {body_.generation, mac_}; }
  [[nodiscard]] const std::shared_ptr<const SecretBytes>& ring_key() const noexcept { return ring_key_; }
  /// @returns nullptr if the ring has no such set. Takes the same time for any number of sets.
  [[nodiscard]] const Entry* find(Version version) const noexcept;
  /// @throws InvalidArgumentError  a ring that was opened for salvage has no active set.
  [[nodiscard]] const Entry& active() const;

 private:
  const Body body_;
  const Mac mac_;
  const std::shared_ptr<const SecretBytes> ring_key_;
  std::unordered_map<Version, Entry> entries_;  ///< refers into body_
  const Entry* active_ = nullptr;
};

/// A set of a snapshot that stays valid while this is held.
struct ConnectedSet {
  std::shared_ptr<const Snapshot> snapshot;
  const Snapshot::Entry* entry;

  [[nodiscard]] const RingId& ring() const noexcept { return snapshot->body().id; }
  [[nodiscard]] const CredentialSet& set() const noexcept { return *entry->set; }
  [[nodiscard]] CountedWrapper& wrapper() const noexcept { return *entry->wrapper; }
};

}  // namespace hsmseal::ring
