#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>

namespace hsmseal {

/// A ring as it is stored: text that anybody may read and only the ring's keys can make. src/FORMAT.md section 6.
struct RingRecord {
  std::uint64_t generation = 0;     ///< 1 for a new ring, one more with each change
  std::string body;                 ///< canonical JSON, UTF-8, at most 64 MiB
  std::array<std::byte, 32> mac{};  ///< HMAC-SHA-256 of the body under the ring's MAC key
  bool operator==(const RingRecord&) const = default;
};

/// Where one ring's record lives. Knows records, not tokens, and is trusted with nothing but availability.
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

  /// Stores `record` if the newest generation is still `expected` (nothing: if the store is still empty).
  /// @returns whether it was stored. Never both false and stored.
  /// @throws StoreError  the store does not work, or record.generation does not follow `expected`.
  [[nodiscard]] virtual bool compare_and_swap(std::optional<std::uint64_t> expected, const RingRecord& record) = 0;

  /// The store's clock: one for all hosts that share it.
  [[nodiscard]] virtual Timestamp now() = 0;
};

/// A store in this process's memory: for tests, and for applications that keep the record themselves.
[[nodiscard]] HSMSEAL_API std::shared_ptr<RingStore> memory_ring_store();

}  // namespace hsmseal
