#include <mutex>
#include <vector>

#include <hsmseal/error.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal {
namespace {

class MemoryRingStore final : public RingStore {
 public:
  [[nodiscard]] std::optional<RingRecord> load() override {
    const std::scoped_lock lock{mutex_};
    return newest_;
  }

  [[nodiscard]] bool compare_and_swap(std::optional<std::uint64_t> expected, const RingRecord& record) override {
    if (record.generation != expected.value_or(0) + 1) {
      throw StoreError("a ring record must have the generation after the one it replaces");
    }
    const std::scoped_lock lock{mutex_};
    const auto present = newest_ ? std::optional{newest_->generation} : std::nullopt;
    if (present != expected) return false;
    newest_ = record;
    return true;
  }

  [[nodiscard]] Timestamp now() override {
    return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  }

 private:
  std::mutex mutex_;
  std::optional<RingRecord> newest_;
};

}  // namespace

std::shared_ptr<RingStore> memory_ring_store() { return std::make_shared<MemoryRingStore>(); }

}  // namespace hsmseal
