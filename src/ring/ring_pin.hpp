#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include <hsmseal/ring_pin.hpp>

#include "ring/body.hpp"

namespace hsmseal::ring {

void check_same_ring(const PinnedRing& seen, const Body& body);
void check_follows(const PinnedRing& seen, const Body& body, const Mac& mac);

class PinKeeper {
 public:
  [[nodiscard]] std::optional<PinnedRing> last() const;
  [[nodiscard]] std::optional<PinnedRing> last_for_open() const { return last(); }
  [[nodiscard]] bool accepts_rollback() const { return false; }
  [[nodiscard]] bool seen(const Body& body, const Mac& mac, const std::array<std::byte, 32>& key_check);
  void accept(const Body&, const Mac&, const std::array<std::byte, 32>&) {}

 private:
  mutable std::mutex mutex_;
  std::optional<PinnedRing> last_;
};

}  // namespace hsmseal::ring
