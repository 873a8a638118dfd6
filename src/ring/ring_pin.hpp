#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include <hsmseal/credential_set.hpp>

#include "ring/body.hpp"

namespace hsmseal::ring {

/// The newest record that this host has read and verified.
struct SeenRecord {
  RingId id;
  std::uint64_t generation;
  Mac mac;
};

/// Before any token is asked for the record's sake.
/// @throws WrongRingError  it is a record of another ring.
void check_same_ring(const SeenRecord& seen, const Body& body);

/// After the MAC has been verified.
/// @throws RingRolledBackError, RingForkedError  the record is not one that may follow `seen`.
void check_follows(const SeenRecord& seen, const Body& body, const Mac& mac);

/// What RingPin remembers.
///
/// Thread safety: all members may run concurrently.
class PinKeeper {
 public:
  /// Ask before the store is read: what is read afterwards must follow it, whatever other threads see meanwhile.
  [[nodiscard]] std::optional<SeenRecord> last() const;

  /// Remembers a record that was checked and whose MAC was verified. An older one than the last changes nothing.
  /// @throws WrongRingError, RingForkedError  another thread has seen another ring or history meanwhile.
  void seen(const Body& body, const Mac& mac);

 private:
  mutable std::mutex mutex_;
  std::optional<SeenRecord> last_;
};

}  // namespace hsmseal::ring
