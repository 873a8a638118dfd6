#include "ring/ring_pin.hpp"

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

namespace hsmseal {

RingPin RingPin::in_process() { return RingPin{std::make_shared<ring::PinKeeper>()}; }

namespace ring {

void PinKeeper::check(const RingId& id, std::uint64_t generation, const Mac& mac) const {
  const std::scoped_lock lock{mutex_};
  if (!last_) return;
  if (id != last_->id) {
    throw WrongRingError(fmt::format("the store holds ring {}, but this host is pinned to ring {}", id.to_string(),
                                     last_->id.to_string()));
  }
  if (generation < last_->generation) {
    throw RingRolledBackError(fmt::format("the store shows generation {} of the ring, but this host has seen {}; an old "
                                          "copy was restored, or somebody hides a change",
                                          generation, last_->generation));
  }
  if (generation == last_->generation && mac != last_->mac) {
    throw RingForkedError(
        fmt::format("the store shows another generation {} of the ring than this host has seen", generation));
  }
}

void PinKeeper::seen(const RingId& id, std::uint64_t generation, const Mac& mac) {
  const std::scoped_lock lock{mutex_};
  if (!last_ || generation >= last_->generation) last_ = {id, generation, mac};
}

}  // namespace ring
}  // namespace hsmseal
