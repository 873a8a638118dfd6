#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/observer.hpp>

namespace hsmseal {

/// Rules that every host of a ring keeps to. They are part of the ring, and fixed when it is made.
struct RingSettings {
  /// How old a host's view of the ring may be while it seals; 1 ms to 1 h. Once in this time the path of seal and open
  /// holds one small query to the store. A seal that starts later than this after a change was stored is under the new
  /// active set, on every host.
  std::chrono::milliseconds max_staleness{std::chrono::seconds{5}};
  /// How long a set must have been archived before it may be removed; longer than max_staleness, by more than a change
  /// takes to be stored (SqlOptions::timeout at worst).
  std::chrono::milliseconds removal_grace{std::chrono::seconds{60}};
  /// How long a set must have been deleted before its record may be purged or its key destroyed; at least
  /// removal_grace.
  std::chrono::milliseconds quarantine{std::chrono::hours{24 * 7}};
  /// From how many wraps under one key on the observer is told (Event::Kind::UsageNearLimit).
  std::uint64_t usage_soft_limit = std::uint64_t{1} << 31;
  /// How many wraps under one key are allowed, at most 2^32: NIST SP 800-38D section 8.3, for AES-GCM with random IVs.
  /// Exact over all hosts while the store counts; while it does not, each process goes on for a million wraps at most, and
  /// not beyond the limit by the count that it saw last (Event::Kind::UsageNotCounted). The counts are not in an export.
  std::uint64_t usage_hard_limit = std::uint64_t{1} << 32;
  bool operator==(const RingSettings&) const = default;
};

/// The default clock of a ring. It goes on while the machine sleeps, unlike std::chrono::steady_clock on most systems.
///
/// A virtual machine that was paused, or restored from a snapshot, may not notice: restart the process then.
///
/// Thread safety: any thread.
[[nodiscard]] HSMSEAL_API std::chrono::steady_clock::time_point time_since_boot();

/// How a ring behaves in this process.
struct RingOptions {
  std::shared_ptr<Observer> observer = {};  ///< null: nobody is told
  /// How long sealing goes on after the store was last read, if it cannot be read any more; less than
  /// RingSettings::quarantine. Zero: RingSettings::max_staleness. Meanwhile secrets may be sealed under a set that
  /// another host has archived or removed; KeyRing::restore() brings such a set back.
  std::chrono::milliseconds keep_sealing{0};
  /// The clock that tells how old this process's view is; replaced in tests. It must not jump.
  std::function<std::chrono::steady_clock::time_point()> clock = time_since_boot;
  /// How long each use of a token may take (a wrap, an unwrap, the making of a key), see Deadline; more than 0. An
  /// operation that uses several sets has it for each.
  std::chrono::milliseconds deadline{10'000};
};

/// When a new set starts to seal.
enum class Activation {
  Now,    ///< at once; the set that was active is archived in the same change
  Later,  ///< the set is staged, until activate()
};

/// Counts, over everything that the application has stored, the envelopes that still name a set (see inspect()). It may
/// take its time; what it throws is passed on.
using Census = std::function<std::uint64_t(Version)>;

/// What keeps a key from being destroyed by mistake: the version, once more, as a person typed it.
struct Confirmation {
  Version version_again = 0;  ///< must equal the version whose key is to be destroyed
};

}  // namespace hsmseal
