#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>

namespace hsmseal {

namespace ring {
class RingCore;
class PinKeeper;
struct CoreOf;
}  // namespace ring

/// What a host remembers of the newest record of a ring that it has verified. Not secret.
struct HSMSEAL_API PinnedRing {
  RingId id;                              ///< no other ring is accepted
  std::uint64_t generation = 0;           ///< no older record is accepted
  std::array<std::byte, 32> mac{};        ///< the record's
  std::array<std::byte, 32> key_check{};  ///< tells the ring's key from another without showing it
  bool operator==(const PinnedRing&) const = default;

  /// The content of a pin's file, for the application's own configuration: src/FORMAT.md section 6.6.
  [[nodiscard]] std::string to_text() const;
  /// Reads what to_text() wrote.
  /// @throws InvalidArgumentError  anything else.
  [[nodiscard]] static PinnedRing from_text(std::string_view text);
};

/// What this host remembers of a ring, so that the store cannot show it an older one or another one.
///
/// Without it somebody who writes the store could swap the whole ring, and new secrets would go to that writer's key.
/// A pin's file is kept where the application's other trusted files are: on a local disk, not in the database, neither
/// it nor its folder writable by others; not a symbolic link. A folder that everybody may write is refused unless it is
/// sticky, since they could remove the pin; one that a group may write is not, since many users have a group of their
/// own. Processes of one user and host may share it; it is replaced atomically, never written in place, so in a
/// container the folder is mounted, not the file.
/// src/FORMAT.md section 6.6.
///
/// All makers throw InvalidArgumentError for what cannot be a file's path or a pinned ring.
///
/// Thread safety: copies share what they remember and may be used concurrently.
class HSMSEAL_API RingPin {
 public:
  /// Keeps what is remembered in a file. KeyRing::create() makes the file, KeyRing::open() needs it. The folder must stay
  /// writable: after the ring was changed elsewhere, open() fails if it cannot remember that.
  [[nodiscard]] static RingPin file(std::filesystem::path path);

  /// The same, but KeyRing::open() makes the file if it is missing: it trusts the ring that the store shows at that
  /// moment, provided that this host's tokens open it.
  [[nodiscard]] static RingPin trust_first_use(std::filesystem::path path);

  /// The same as file(), but KeyRing::open() also takes an older record of the pinned ring, or another history of it: for
  /// an operator who has restored a copy of the database and stopped the processes that know the lost history. The
  /// acceptance is stored in the ring as a change, and version numbers that may have been used in the lost history are
  /// skipped. Once accepted it is a file() like any other.
  [[nodiscard]] static RingPin accept_rollback(std::filesystem::path path);

  /// Starts from what the application's own configuration says, see KeyRing::pinned(), and keeps what comes later as
  /// long as a copy lives.
  [[nodiscard]] static RingPin fixed(const PinnedRing& pinned);

  /// Trusts the first ring it sees and remembers it as long as a copy lives: for rings in memory, and for tests.
  [[nodiscard]] static RingPin in_process();

 private:
  friend class ring::RingCore;
  explicit RingPin(std::shared_ptr<ring::PinKeeper> keeper);

  std::shared_ptr<ring::PinKeeper> keeper_;
};

}  // namespace hsmseal
