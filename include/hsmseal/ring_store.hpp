#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>

namespace hsmseal {

/// What tells one record of a ring from all others.
struct RingHead {
  std::uint64_t generation = 0;     ///< 1 for a new ring, one more with each change; at most 2^63 - 1
  std::array<std::byte, 32> mac{};  ///< the record's
  bool operator==(const RingHead&) const = default;
};

/// A ring as it is stored: text that anybody may read and only the ring's keys can make. src/FORMAT.md section 6.
struct RingRecord {
  std::uint64_t generation = 0;     ///< 1 for a new ring, one more with each change; at most 2^63 - 1
  std::string body;                 ///< canonical JSON, UTF-8, at most 64 MiB
  std::array<std::byte, 32> mac{};  ///< HMAC-SHA-256 of the body under the ring's MAC key
  /// What compare_and_swap() expects when this is the newest record.
  [[nodiscard]] RingHead head() const { return {generation, mac}; }
  bool operator==(const RingRecord&) const = default;
};

/// How many past records a store keeps at least.
inline constexpr std::size_t kHistoryKept = 32;

/// Where one ring's record lives. Knows records, not tokens. It is trusted with availability, with the
/// count of wraps, and with the clock by which graces and quarantines end; not with the ring itself.
///
/// Thread safety: members may run concurrently.
struct HSMSEAL_API RingStore {
  RingStore() = default;
  RingStore(const RingStore&) = delete;
  RingStore& operator=(const RingStore&) = delete;
  virtual ~RingStore();

  /// The newest record; nothing if the store holds no ring yet.
  /// @throws StoreError  the store does not work.
  [[nodiscard]] virtual std::optional<RingRecord> load() = 0;

  /// Which record is the newest, without its body: a few bytes, asked for often.
  /// @throws StoreError  the store does not work.
  [[nodiscard]] virtual std::optional<RingHead> head() = 0;

  /// Stores `record` if the newest one is still `expected` (nothing: if the store is still empty).
  ///
  /// @param record  its generation is the one after `expected`; any if the store is empty, as an imported ring has.
  /// @returns whether it was stored. Never both false and stored.
  /// @throws StoreInDoubtError  the connection broke while it was being stored, and it cannot be found out whether it was.
  /// @throws StoreError         the store does not work, or record.generation does not follow `expected`; not stored.
  [[nodiscard]] virtual bool compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& record) = 0;

  /// The newest records, newest first: at least the last kHistoryKept of them, as far as there are so many.
  /// @param most  how many are wanted at most.
  /// @throws StoreError  the store does not work.
  [[nodiscard]] virtual std::vector<RingRecord> history(std::size_t most) = 0;

  /// Adds to the number of wraps made under a key-encryption key, beside the record.
  ///
  /// @param block  how many wraps a host is about to make.
  /// @returns the new total of all hosts. It never goes down; a failed call may have counted.
  /// @throws StoreError  the store does not work, or the total would pass 2^63 - 1.
  [[nodiscard]] virtual std::uint64_t reserve_usage(const KekId& kek_id, std::uint64_t block) = 0;

  /// The store's clock: one for all hosts that share it.
  /// @throws StoreError  the store does not work.
  [[nodiscard]] virtual Timestamp now() = 0;
};

/// A store in this process's memory: for tests, and for applications that keep the record themselves.
[[nodiscard]] HSMSEAL_API std::shared_ptr<RingStore> memory_ring_store();

}  // namespace hsmseal
