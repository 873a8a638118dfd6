#include "ring/ring_pin.hpp"

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/ring_pin.hpp>
#include <utility>

namespace hsmseal {

RingPin::RingPin(std::shared_ptr<ring::PinKeeper> keeper) : keeper_(std::move(keeper)) {}

RingPin RingPin::in_process() { return RingPin{std::make_shared<ring::PinKeeper>()}; }

namespace ring {

void check_same_ring(const PinnedRing& seen, const Body& body) {
  if (body.id != seen.id) {
    throw WrongRingError(fmt::format(
        "the store holds ring {}, but this host is pinned to ring {}; give each ring a store and a pin of its own",
        body.id.to_string(), seen.id.to_string()));
  }
}

void check_follows(const PinnedRing& seen, const Body& body, const Mac& mac) {
  if (body.generation < seen.generation) {
    throw RingRolledBackError(fmt::format(
        "the store shows generation {} of the ring, but this host has seen {}; an old copy was restored, or "
        "somebody hides a change",
        body.generation, seen.generation));
  }
  const bool same = body.generation == seen.generation && mac == seen.mac;
  const bool next = body.generation == seen.generation + 1 && body.prev_mac == seen.mac;
  // What lies between this host's generation and a much later one is not kept; the MAC vouches for that.
  const bool later = body.generation > seen.generation + 1;
  if (same || next || later) return;
  throw RingForkedError(fmt::format(
      "the store shows another history of the ring's generation {} than this host has seen", seen.generation));
}

std::optional<PinnedRing> PinKeeper::last() const {
  const std::scoped_lock lock{mutex_};
  return last_;
}

bool PinKeeper::seen(const Body& body, const Mac& mac, const std::array<std::byte, 32>& key_check) {
  const std::scoped_lock lock{mutex_};
  if (last_) {
    // Another thread may have seen more meanwhile: an older record is then no news, another history still a fork.
    check_same_ring(*last_, body);
    if (body.generation < last_->generation) return true;
    check_follows(*last_, body, mac);
  }
  last_ = PinnedRing{body.id, body.generation, mac, key_check};
  return true;
}

}  // namespace ring
}  // namespace hsmseal
