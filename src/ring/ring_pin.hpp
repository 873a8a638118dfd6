#pragma once

#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/error.hpp>
#include <hsmseal/ring_pin.hpp>

#include "ring/body.hpp"

namespace hsmseal::ring {

/// The content of a pin's file, src/FORMAT.md section 6.6: one text for each value.
[[nodiscard]] std::string to_text(const PinnedRing& pinned);

/// @throws InvalidArgumentError  not what to_text() makes of any pinned ring of generation 1 to 2^63 - 1.
[[nodiscard]] PinnedRing pin_from_text(std::string_view text);

/// Before any token is asked for the record's sake.
/// @throws WrongRingError  it is a record of another ring.
void check_same_ring(const PinnedRing& seen, const Body& body);

[[nodiscard]] RingForkedError forked(const PinnedRing& seen);

/// After the MAC has been verified with the ring key.
/// @throws RingRolledBackError  it is an older record.
/// @throws RingForkedError      it is of another history, or was made without the ring key that was seen.
void check_follows(const PinnedRing& seen, const Body& body, const Mac& mac, const SecretBytes& ring_key);

/// What RingPin remembers.
///
/// What is in the file and what this process has seen are one memory, of which the newer generation counts. If they are
/// of two rings, or two histories of one generation, all that asks for it throws WrongRingError or RingForkedError. A
/// file that is damaged, or that others may write, is never taken for a missing one: InvalidArgumentError.
///
/// Thread safety: all members may run concurrently.
/// Blocking: each call reads the file. One that writes it forces it to the disk, after waiting for its folder's lock for
/// at most two seconds.
class PinKeeper {
 public:
  /// What a ring is opened with if nothing is remembered of it.
  enum class Missing { Refuse, Trust };
  enum class Rollback { Refuse, Accept };

  /// Without a file.
  PinKeeper() = default;
  /// @throws InvalidArgumentError  no ring has such a generation.
  explicit PinKeeper(const PinnedRing& pinned);

  /// @param file  may be missing.
  /// @throws InvalidArgumentError  not a path of a file.
  PinKeeper(const std::filesystem::path& file, Missing missing, Rollback rollback = Rollback::Refuse);

  /// Ask before the store is read: what is read afterwards must follow it, whatever others see meanwhile.
  [[nodiscard]] std::optional<PinnedRing> last() const;

  /// The same for KeyRing::open().
  /// @throws InvalidArgumentError  nothing is remembered, and the first ring is not to be trusted.
  [[nodiscard]] std::optional<PinnedRing> last_for_open() const;

  /// Whether an older record than the last, or another history, is to be given to accept(). Until it was.
  [[nodiscard]] bool accepts_rollback() const;

  /// For KeyRing::create(), which must not store a ring and then be unable to remember it.
  /// @throws InvalidArgumentError  the file cannot be written, with the system's reason.
  void check_writable() const;

  /// Remembers a record whose MAC this ring key made. It is held against what is remembered at this moment, which other
  /// threads and processes may have moved on since last(); an older one than that changes nothing.
  /// @returns false if the file could not be written, see failure(): it is remembered by this process, and the next call
  ///          tries to write it again.
  /// @throws WrongRingError, RingForkedError  another thread or process has seen another ring or history meanwhile.
  [[nodiscard]] bool seen(const Body& body, const Mac& mac, const SecretBytes& ring_key);

  /// Remembers a record in the place of whatever generation or history of its ring was remembered. Afterwards this is
  /// a pin like any other.
  /// @throws WrongRingError        another ring is remembered.
  /// @throws InvalidArgumentError  the file could not be written: what was remembered still is.
  void accept(const Body& body, const Mac& mac, const SecretBytes& ring_key);

  /// What messages call it.
  [[nodiscard]] std::string name() const;

  /// Why the last seen() could not write the file; empty if it could.
  [[nodiscard]] std::string failure() const;

 private:
  [[nodiscard]] std::optional<PinnedRing> stored() const;
  void learn(const std::optional<PinnedRing>& stored) const;
  [[nodiscard]] bool write();

  const std::filesystem::path file_;  ///< absolute, or empty
  const Missing missing_ = Missing::Trust;
  mutable std::mutex mutex_;
  mutable std::optional<PinnedRing> last_;
  Rollback rollback_ = Rollback::Refuse;
  std::string failure_;
};

}  // namespace hsmseal::ring
