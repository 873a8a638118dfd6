#include "ring/usage_meter.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

namespace hsmseal::ring {
namespace {

constexpr std::uint64_t kFirstBlock = 64;
constexpr std::uint64_t kLargestBlock = 65'536;
constexpr std::uint64_t kMostCredit = 1'000'000;
/// What a provider wraps besides, unseen from here, when it makes a key, and each time it connects to one.
constexpr std::uint64_t kToMakeKey = 8, kToConnect = 2;

}  // namespace

UsageMeter::UsageMeter(std::shared_ptr<RingStore> store, const KekId& kek_id, const RingSettings& settings)
    : store_(std::move(store)),
      kek_id_(kek_id),
      soft_limit_(settings.usage_soft_limit),
      hard_limit_(settings.usage_hard_limit),
      debt_(kToMakeKey),
      block_(kFirstBlock) {}

UsageMeter::Reading UsageMeter::take() {
  const std::scoped_lock lock{mutex_};
  Reading reading = Reading::Fine;
  if (left_ == 0) {
    try {
      reading = reserve();
    } catch (const StoreError& error) {
      borrow(error);
      reading = Reading::NotCounted;
    }
  }
  --left_;
  return reading;
}

void UsageMeter::note() {
  const std::scoped_lock lock{mutex_};
  if (left_ > 0) {
    --left_;
    return;
  }
  ++debt_;
  try {
    total_ = store_->reserve_usage(kek_id_, debt_);
    debt_ = 0;
  } catch (const StoreError&) {
    // It is settled with what is counted next.
  }
}

void UsageMeter::note_connection() {
  const std::scoped_lock lock{mutex_};
  debt_ += kToConnect;
}

UsageMeter::Reading UsageMeter::reserve() {
  if (total_ < hard_limit_) {
    const std::uint64_t asked = block_ + debt_;
    total_ = store_->reserve_usage(kek_id_, asked);
    debt_ = 0;
    const std::uint64_t beyond = total_ - std::min(total_, hard_limit_);
    left_ = block_ - std::min(block_, beyond);
    block_ = std::min(2 * block_, kLargestBlock);
  }
  if (left_ == 0) {
    throw UsageLimitError(
        fmt::format("{} wraps were made under key {}, and the ring allows {}; add a set with a new key", total_,
                    kek_id_.to_string(), hard_limit_));
  }
  return total_ > soft_limit_ ? Reading::NearLimit : Reading::Fine;
}

/// In blocks that grow, so that a store that is slow to fail does not hold up the wraps again and again.
void UsageMeter::borrow(const StoreError& error) {
  const std::uint64_t most = std::min(kMostCredit, hard_limit_ - total_);
  left_ = std::min(block_, most - std::min(most, debt_));
  block_ = std::min(2 * block_, kLargestBlock);
  if (left_ == 0) {
    throw UsageLimitError(
        fmt::format("{} wraps under key {} could not be counted in the ring's store, and no more are made: {}", debt_,
                    kek_id_.to_string(), error.what()));
  }
  debt_ += left_;
}

UsageMeters::UsageMeters(std::shared_ptr<RingStore> store, std::shared_ptr<Observer> observer)
    : store_(std::move(store)), observer_(std::move(observer)) {}

void UsageMeters::tell(const Event& event) const {
  if (observer_) observer_->on_event(event);
}

std::shared_ptr<UsageMeter> UsageMeters::of(const KekId& kek_id, const RingSettings& settings) {
  const std::scoped_lock lock{mutex_};
  auto& meter = meters_[kek_id];
  if (!meter) meter = std::make_shared<UsageMeter>(store_, kek_id, settings);
  return meter;
}

}  // namespace hsmseal::ring
