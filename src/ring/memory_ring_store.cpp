#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <mutex>

#include <hsmseal/error.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal {
namespace {

constexpr std::uint64_t kMostUsage = std::numeric_limits<std::int64_t>::max();

class MemoryRingStore final : public RingStore {
 public:
  [[nodiscard]] std::optional<RingRecord> load() override {
    const std::scoped_lock lock{mutex_};
    return records_.empty() ? std::nullopt : std::optional{records_.front()};
  }

  [[nodiscard]] std::optional<RingHead> head() override {
    const std::scoped_lock lock{mutex_};
    return newest();
  }

  [[nodiscard]] bool compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& record) override {
    if (record.generation == 0 || (expected && record.generation != expected->generation + 1)) {
      throw StoreError("a ring record must have the generation after the one it replaces");
    }
    const std::scoped_lock lock{mutex_};
    if (newest() != expected) return false;
    records_.push_front(record);
    if (records_.size() > kHistoryKept) records_.pop_back();
    return true;
  }

  [[nodiscard]] std::vector<RingRecord> history(std::size_t most) override {
    const std::scoped_lock lock{mutex_};
    const auto end = records_.begin() + static_cast<std::ptrdiff_t>(std::min(most, records_.size()));
    return {records_.begin(), end};
  }

  [[nodiscard]] std::uint64_t reserve_usage(const KekId& kek_id, std::uint64_t block) override {
    const std::scoped_lock lock{mutex_};
    std::uint64_t& total = usage_[kek_id];
    if (block > kMostUsage - total) throw StoreError("more wraps than can be counted");
    return total += block;
  }

  [[nodiscard]] Timestamp now() override {
    return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  }

 private:
  [[nodiscard]] std::optional<RingHead> newest() const {
    return records_.empty() ? std::nullopt : std::optional{records_.front().head()};
  }

  std::mutex mutex_;
  std::deque<RingRecord> records_;  ///< newest first
  std::map<KekId, std::uint64_t> usage_;
};

}  // namespace

std::shared_ptr<RingStore> memory_ring_store() { return std::make_shared<MemoryRingStore>(); }

}  // namespace hsmseal
