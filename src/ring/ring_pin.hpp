#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include <hsmseal/credential_set.hpp>

#include "ring/body.hpp"

namespace hsmseal::ring {

/// What RingPin remembers.
///
/// Thread safety: all members may run concurrently.
class PinKeeper {
 public:
  /// @throws WrongRingError, RingRolledBackError, RingForkedError  the record is not one that may follow what was seen.
  void check(const RingId& id, std::uint64_t generation, const Mac& mac) const;

  /// Remembers a record that was checked and whose MAC was verified. An older one than the last changes nothing.
  void seen(const RingId& id, std::uint64_t generation, const Mac& mac);

 private:
  struct Seen {
    RingId id;
    std::uint64_t generation;
    Mac mac;
  };
  mutable std::mutex mutex_;
  std::optional<Seen> last_;
};

}  // namespace hsmseal::ring
