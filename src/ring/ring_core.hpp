#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/key_ring.hpp>

#include "ring/present_key.hpp"
#include "ring/record.hpp"
#include "ring/ring_pin.hpp"
#include "ring/snapshot.hpp"

namespace hsmseal::ring {

/// Keeps something that depends on the snapshot.
struct Follower {
  Follower() = default;
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;
  virtual ~Follower() = default;
  /// Another snapshot has taken the place of the one that was there. Called from any thread, without a lock.
  virtual void ring_changed() noexcept = 0;
};

/// What all handles of one KeyRing share: this process's view of the ring, and how it follows the store.
///
/// Thread safety: all members may run concurrently. No lock is held while the token is called for an envelope; while
/// the store is read, only the one that makes threads wait for each other's look into it.
class RingCore {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Parts {
    std::shared_ptr<RingStore> store;  ///< null: the ring was opened for salvage
    std::shared_ptr<KeyProvider> provider;
    RingPin pin;
    RingOptions options;
  };

  /// KeyRing::create(), open() and import_from().
  [[nodiscard]] static std::shared_ptr<RingCore> create(Parts parts, const SetSpec& first,
                                                        const RingSettings& settings);
  [[nodiscard]] static std::shared_ptr<RingCore> open(Parts parts);
  [[nodiscard]] static std::shared_ptr<RingCore> import(Parts parts, const RingRecord& record);
  /// A ring without store, MAC and key, whose sets open only.
  [[nodiscard]] static std::shared_ptr<RingCore> salvage(std::shared_ptr<KeyProvider> provider, Body body);

  explicit RingCore(Parts parts);

  [[nodiscard]] KeyProvider& provider() const noexcept { return *parts_.provider; }
  /// The wrapper of a set that is not in the snapshot as it is here.
  [[nodiscard]] std::shared_ptr<CountedWrapper> connect(const Body& body, const CredentialSet& set) const;
  /// The time by the store's clock.
  [[nodiscard]] Timestamp now() const { return store().now(); }
  [[nodiscard]] std::shared_ptr<const Snapshot> snapshot() const;
  [[nodiscard]] ConnectedSet active() const;
  /// Counts the snapshots. What was found out under one number holds as long as that does not change.
  [[nodiscard]] std::uint64_t views() const noexcept { return views_.load(std::memory_order_acquire); }
  /// The time by the clock that the view's age is measured with.
  [[nodiscard]] Time steady_now() const { return parts_.options.clock(); }
  /// Whether the view is young enough to go by it without a look into the store. Takes no lock.
  [[nodiscard]] bool is_fresh(Time now) const noexcept;
  /// @param follower  is told of each later snapshot, as long as it lives.
  void add_follower(const std::weak_ptr<Follower>& follower);
  /// Follows the snapshot.
  [[nodiscard]] std::shared_ptr<const PresentKey> present_key() const { return present_key_; }

  /// The active set, by a view that is not older than the ring allows.
  /// @throws RingStaleError  the store could not be read for too long. Besides: as refresh().
  [[nodiscard]] ConnectedSet active_for_sealing();

  /// The set that an envelope names. Looks into the store if the view is old, and at most once a second if the set is
  /// one that the envelope should not name.
  /// @throws WrongRingError, RingOutOfDateError, UnknownVersionError, DeletedVersionError, StoreError
  [[nodiscard]] ConnectedSet named_by_envelope(const std::array<std::byte, 4>& ring_prefix, Version version);

  /// Reads and verifies the whole record.
  void refresh();
  /// Reads it only if the store has another one than this view.
  void look();

  /// A change of the ring that is being made.
  struct Draft {
    std::shared_ptr<const Snapshot> base;
    Body body;
    std::shared_ptr<const SecretBytes> ring_key;
    Timestamp now;  ///< by the store's clock
  };
  using Edit = std::function<void(Draft&)>;

  /// Applies an edit to the newest ring in the store and stores it, again and again while other hosts are faster.
  /// @returns the ring with the change, which is in force in this process.
  std::shared_ptr<const Snapshot> change(const Edit& edit);

  /// Whether anybody listens.
  [[nodiscard]] bool observed() const noexcept { return parts_.options.observer != nullptr; }
  void tell(Event::Kind kind, const CredentialSet& set) const;
  void tell(Event::Kind kind, const RingId& ring, Version version, const std::string& token) const;
  void tell(Event::Kind kind, const std::string& reason) const;

 private:
  using Duration = std::chrono::steady_clock::duration;
  enum class Waiting { ForOthers, No };

  struct Admitted;
  [[nodiscard]] Admitted admit(RingRecord record, const std::optional<PinnedRing>& seen);
  void start(std::shared_ptr<const Snapshot> snapshot, Time read_at);
  void accept(const Admitted& admitted, Time read_at);
  void check_history(const PinnedRing& seen, const Body& body) const;
  [[nodiscard]] RingStore& store() const;
  [[nodiscard]] SecretBytes key_of(const ParsedRecord& parsed, const Snapshot& known, const Wrappers& wrappers) const;
  [[nodiscard]] std::shared_ptr<const Snapshot> load_verified();
  void remember(const Snapshot& snapshot);
  struct Finished {
    RingRecord record;
    std::shared_ptr<const Snapshot> snapshot;
  };
  [[nodiscard]] Draft draft_on(std::shared_ptr<const Snapshot> base) const;
  [[nodiscard]] Finished finish(Draft draft) const;
  void publish(std::shared_ptr<const Snapshot> snapshot);
  void tell_followers();
  void set_snapshot(std::shared_ptr<const Snapshot> snapshot);
  void was_read_at(Time time);
  [[nodiscard]] Duration age(Time now) const noexcept;
  [[nodiscard]] Duration max_staleness() const noexcept { return max_staleness_.load(std::memory_order_relaxed); }
  void keep_fresh(Waiting waiting);
  /// Looks into the store for a set, at most once a second. @returns false if it was too soon for a look.
  [[nodiscard]] bool look_for(Version version);
  void look_and_note();

  const Parts parts_;
  const std::shared_ptr<UsageMeters> meters_;
  const std::shared_ptr<PresentKey> present_key_ = std::make_shared<PresentKey>();
  mutable std::mutex snapshot_mutex_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::atomic<std::uint64_t> views_ = 0;
  std::atomic<Time> read_at_;  ///< when the read began that last showed the snapshot to be the newest
  std::atomic<Duration> max_staleness_;
  std::mutex followers_mutex_;
  std::vector<std::weak_ptr<Follower>> followers_;
  std::mutex look_mutex_;
  std::optional<Time> last_look_;    ///< when it ended
  std::exception_ptr look_failure_;  ///< of the last look
  Duration between_looks_{};         ///< how long after the last look the next one may be
};

/// What a handle stands for, for parts of the library that are not the handle's own.
struct CoreOf {
  [[nodiscard]] static RingCore& handle(const KeyRing& ring) noexcept { return *ring.core_; }
  [[nodiscard]] static const std::shared_ptr<RingCore>& shared(const KeyRing& ring) noexcept { return ring.core_; }
};

/// @throws WrongRingError  an envelope with this prefix belongs to another ring.
void check_ring_prefix(const RingId& ring, const std::array<std::byte, 4>& prefix);

}  // namespace hsmseal::ring
