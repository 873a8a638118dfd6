#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include <hsmseal/error.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/observer.hpp>
#include <hsmseal/ring_options.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal::ring {

/// Counts the wraps under one key-encryption key, over all hosts.
///
/// Wraps are reserved in the store in blocks, small ones first, so that a process that ends early wastes few and a busy
/// one asks seldom. What is left of a block when a process ends only makes the count too high; what it owes then, because
/// the store did not answer, makes it too low.
///
/// Thread safety: all members may run concurrently.
class UsageMeter {
 public:
  UsageMeter(std::shared_ptr<RingStore> store, const KekId& kek_id, const RingSettings& settings);

  enum class Reading { Fine, NearLimit, NotCounted };

  /// Before a wrap of the application's. While the store does not answer, wraps are made on credit: a million at most, and
  /// no more than the hard limit leaves by the count that the store told last.
  /// @returns NearLimit each time that a block beyond the soft limit was reserved, NotCounted each time that one was
  ///          taken on credit.
  /// @throws UsageLimitError
  Reading take();

  /// Before a wrap of the ring's own, which must not fail for an archived key that is used up. It is counted at once: a
  /// process that looks after rings and seals nothing asks for no block.
  void note();
  /// Before the first wrap through a new connection: what a provider wraps then, unseen from here.
  void note_connection();

 private:
  [[nodiscard]] Reading reserve();
  void borrow(const StoreError& error);

  const std::shared_ptr<RingStore> store_;
  const KekId kek_id_;
  const std::uint64_t soft_limit_, hard_limit_;
  std::mutex mutex_;
  std::uint64_t left_ = 0;   ///< of the present block
  std::uint64_t debt_;       ///< wraps that are not in the store yet
  std::uint64_t total_ = 0;  ///< in the store, when it was asked last
  std::uint64_t block_;
};

/// The meters of a ring: one for each key, whichever sets use it.
///
/// Thread safety: all members may run concurrently.
class UsageMeters {
 public:
  /// @param observer  may be null.
  UsageMeters(std::shared_ptr<RingStore> store, std::shared_ptr<Observer> observer);

  [[nodiscard]] std::shared_ptr<UsageMeter> of(const KekId& kek_id, const RingSettings& settings);
  void tell(const Event& event) const;

 private:
  const std::shared_ptr<RingStore> store_;
  const std::shared_ptr<Observer> observer_;
  std::mutex mutex_;
  std::map<KekId, std::shared_ptr<UsageMeter>> meters_;
};

}  // namespace hsmseal::ring
