#pragma once

#include <array>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include <hsmseal/key_ring.hpp>

#include "ring/ring_pin.hpp"
#include "ring/snapshot.hpp"

namespace hsmseal::ring {

/// What all handles of one KeyRing share.
///
/// Thread safety: all members may run concurrently. No lock is held while the token is called, and while the store is
/// only the one that makes threads wait for each other's look into it.
class RingCore {
 public:
  struct Parts {
    std::shared_ptr<RingStore> store;
    std::shared_ptr<KeyProvider> provider;
    RingPin pin;
    RingOptions options;
  };

  /// KeyRing::create() and KeyRing::open().
  [[nodiscard]] static std::shared_ptr<RingCore> create(Parts parts, const SetSpec& first);
  [[nodiscard]] static std::shared_ptr<RingCore> open(Parts parts);

  RingCore(Parts parts, SecretBytes ring_key, std::shared_ptr<const Snapshot> snapshot);

  [[nodiscard]] std::shared_ptr<const Snapshot> snapshot() const;
  [[nodiscard]] ConnectedSet active() const;

  /// The set that an envelope names. Looks into the store if it is not known yet, at most once a second.
  /// @throws WrongRingError, RingOutOfDateError, UnknownVersionError, StoreError
  [[nodiscard]] ConnectedSet named_by_envelope(const std::array<std::byte, 4>& ring_prefix, Version version);

  Version add(const SetSpec& spec, Activation activation);
  void activate(Version version);
  void verify(Version version);
  void refresh();

  void tell(Event::Kind kind, const CredentialSet& set) const;

 private:
  using Edit = std::function<void(Body&, Timestamp now)>;

  [[nodiscard]] std::shared_ptr<const Snapshot> load_verified() const;
  /// Applies an edit to the newest ring in the store and stores it, again and again while other hosts are faster.
  std::shared_ptr<const Snapshot> change(const Edit& edit);
  void publish(std::shared_ptr<const Snapshot> snapshot);
  /// Looks into the store for a set, at most once a second. @returns false if it was too soon for a look.
  [[nodiscard]] bool look_for(Version version);
  [[nodiscard]] std::shared_ptr<const Snapshot> store_new_set(const CredentialSet& set, Activation activation);
  [[nodiscard]] CredentialSet prove_new_key(KeyDescription key, const SetSpec& spec, Version version) const;
  void recognise_adopted_key(KeyDescription& key, KeyWrapper& wrapper) const;

  const Parts parts_;
  const SecretBytes ring_key_;
  mutable std::mutex snapshot_mutex_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::mutex look_mutex_;
  std::optional<std::chrono::steady_clock::time_point> last_look_;
  std::exception_ptr look_failure_;  ///< of the last look
};

/// @throws WrongRingError  an envelope with this prefix belongs to another ring.
void check_ring_prefix(const RingId& ring, const std::array<std::byte, 4>& prefix);

}  // namespace hsmseal::ring
