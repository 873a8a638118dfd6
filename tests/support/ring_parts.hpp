#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/key_ring.hpp>

#include "support/software_provider.hpp"

namespace hsmseal::test {

/// A store that a test can look into and write to.
class OpenStore final : public RingStore {
 public:
  std::optional<RingRecord> load() override {
    ++loads;
    if (on_load) on_load();
    return record;
  }
  bool compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& next) override {
    if (on_swap) on_swap();
    if (conflicts > 0) {
      --conflicts;
      return false;
    }
    if ((record ? std::optional{record->head()} : std::nullopt) != expected) return false;
    record = next;
    records.push_back(next);
    return true;
  }
  std::optional<RingHead> head() override {
    ++looks;
    if (on_load) on_load();
    return record ? std::optional{record->head()} : std::nullopt;
  }
  std::vector<RingRecord> history(std::size_t most) override {
    std::vector<RingRecord> newest{records.rbegin(), records.rend()};
    newest.resize(std::min(most, newest.size()));
    return newest;
  }
  std::uint64_t reserve_usage(const KekId& kek_id, std::uint64_t block) override {
    if (on_reserve) on_reserve();
    return usage[kek_id] += block;
  }
  Timestamp now() override { return clock; }

  std::optional<RingRecord> record;
  std::vector<RingRecord> records;  ///< all that were stored, oldest first
  std::map<KekId, std::uint64_t> usage;
  std::function<void()> on_load, on_swap, on_reserve;  ///< may throw StoreError
  std::atomic<int> loads = 0;                          ///< of whole records
  std::atomic<int> looks = 0;                          ///< at the generation alone
  int conflicts = 0;
  Timestamp clock{std::chrono::milliseconds{1'700'000'000'000}};
};

/// Keeps events in their order.
struct Recorder final : Observer {
  void on_event(const Event& event) noexcept override {
    const std::scoped_lock lock{mutex};
    events.push_back(event);
  }
  std::vector<Event::Kind> kinds() {
    const std::scoped_lock lock{mutex};
    std::vector<Event::Kind> kinds;
    for (const auto& event : events) kinds.push_back(event.kind);
    return kinds;
  }
  std::mutex mutex;
  std::vector<Event> events;
};

/// What a ring is made of in tests without a token: a store, a provider and a pin that look inside.
struct RingParts {
  std::shared_ptr<OpenStore> store = std::make_shared<OpenStore>();
  std::shared_ptr<SoftwareProvider> provider = std::make_shared<SoftwareProvider>();
  RingPin pin = RingPin::in_process();

  KeyRing create(RingOptions options = {}, const RingSettings& settings = {}) {
    return KeyRing::create(store, provider, {.token = "t", .description = "first"}, pin, std::move(options), settings);
  }
  KeyRing open(RingOptions options = {}) { return KeyRing::open(store, provider, pin, std::move(options)); }
};

/// Replaces a part of the stored body, as somebody would who can write to the database.
inline void forge(OpenStore& store, const std::string& from, const std::string& to) {
  const auto at = store.record->body.find(from);
  if (at == std::string::npos) throw std::logic_error("the record does not hold " + from);
  store.record->body.replace(at, from.size(), to);
}

}  // namespace hsmseal::test
