#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/observer.hpp>

namespace hsmseal {

namespace ring {
class AuditWriter;
}  // namespace ring

/// Which events a log takes.
enum class AuditScope {
  WithoutUses,  ///< all but Sealed, Opened and Rewrapped
  Everything,   ///< each seal, open and rewrap waits for the disk, too
};

/// How an audit log is written.
struct AuditOptions {
  AuditScope scope = AuditScope::WithoutUses;  ///< which events are written
  std::size_t most_kept = 1024;                ///< how many events are kept until attach()
  std::function<Timestamp()> clock = {};       ///< empty: the host's wall clock; replaced in tests
};

/// What an audit log could not write.
struct AuditFailures {
  std::uint64_t events = 0;     ///< since the process began; those that are kept until attach() do not count
  std::string last_error = {};  ///< why the last of them was not written, or is not known to be on the disk
};

/// Writes events into a file that shows when it was changed: JSON lines, each with a MAC over itself and the MAC of the
/// line before, under a key that comes from the ring's. src/FORMAT.md section 6.7.
///
/// Give it to the ring and to the provider of keys (RingOptions::observer, Pkcs11Options::observer), then attach() it to
/// the ring. One log is of one ring. Processes of one host may share its file; on a network's file system it is not safe.
///
/// When an operation returns, its line is on the disk. A crash loses the line of what was being done at that moment, and
/// all events that wait for attach(); what it leaves of a line is passed over, and a line says so. Nothing that
/// goes wrong stops the ring's work: see failures(). The next line that can be written says how many were not.
///
/// Against whom: who changes the file without having a key of the ring is found out by verify_audit_log(), but for lines
/// removed at the end: keep AuditVerdict::end somewhere else and give it to the next verification. Every host that
/// opens the ring, and who has the KEK of a removed set, could write lines under a key of the ring that they know.
///
/// Thread safety: all members may run concurrently. A child that was forked by a process of one thread goes on with the
/// log, under its own process number; what waited for attach() remains the parent's.
/// Blocking: on_event() forces the file to the disk, after waiting for other processes for at most two seconds. Threads
/// that come meanwhile share the next write.
class HSMSEAL_API AuditLog final : public Observer {
 public:
  /// @param file  made with mode 600 by attach() if it is missing. It is not moved or cut while a process writes it.
  /// @throws InvalidArgumentError  not a path of a file, or an option is out of range.
  explicit AuditLog(const std::filesystem::path& file, AuditOptions options = {});
  ~AuditLog() override;

  /// Gives it the ring's key, which it follows from now on, and writes what happened before.
  ///
  /// @param ring  not retained; the log may outlive it.
  /// @throws WrongRingError        the log, or its file, belongs to another ring.
  /// @throws InvalidArgumentError  the file is a link, others may write it or put another in its place, or it cannot be
  ///         written; or the ring was opened for salvage and has no key. What happened before is still kept.
  void attach(const KeyRing& ring);

  /// Writes one line. Events that scope leaves out are ignored; those of another ring count as failures.
  void on_event(const Event& event) noexcept override;

  /// What was not written.
  [[nodiscard]] AuditFailures failures() const;

 private:
  const std::unique_ptr<ring::AuditWriter> writer_;
};

/// Where a log ended: what has to be kept elsewhere to find out that lines were removed at its end. Not secret.
struct HSMSEAL_API AuditEnd {
  std::uint64_t sequence = 0;       ///< of the last line; 0: there was none
  std::array<std::byte, 32> mac{};  ///< of the last line
  bool operator==(const AuditEnd&) const = default;
  /// "12:" and 64 lower-case hexadecimal digits.
  [[nodiscard]] std::string to_text() const;
  /// Reads what to_text() wrote.
  /// @throws InvalidArgumentError  anything else.
  [[nodiscard]] static AuditEnd from_text(std::string_view text);
};

/// What one line of a log says.
struct AuditEntry {
  std::uint64_t sequence = 0;             ///< 1, 2, 3 and so on
  Timestamp time;                         ///< by the wall clock of the host that wrote it, which may be wrong
  std::uint64_t process = 0;              ///< the number of the process that wrote it
  std::string event;                      ///< to_string(Event::Kind), or what the log says of itself: "events-lost",
                                          ///< "line-torn", "line-damaged", "log-cut"
  RingId ring;                            ///< the log's ring
  Version version = 0;                    ///< see Event
  std::string token;                      ///< see Event
  std::string reason;                     ///< see Event; at most 4096 bytes of it
  std::uint64_t rv = 0;                   ///< see Event
  std::chrono::milliseconds duration{0};  ///< see Event
  std::uint64_t lost = 0;                 ///< of "events-lost" and "log-cut": how many are missing here
  std::uint64_t key = 0;                  ///< under which of the ring's keys: how many it had before
  std::array<std::byte, 32> mac{};        ///< over this line and the MAC of the line before
};

/// A line of a log as it is read.
struct AuditLine {
  std::uint64_t number = 0;         ///< in the file, from 1
  std::string_view text;            ///< without its line feed; not valid any longer than the call that got it
  std::optional<AuditEntry> entry;  ///< nothing if it is no line that a log has
};

/// Gets the lines of a log one after the other. What it throws is passed on.
using AuditReader = std::function<void(const AuditLine&)>;

/// What was done to a line, as far as that shows.
enum class AuditFault {
  Altered,     ///< it is no line of a log, or its MAC is wrong
  OtherRing,   ///< it is a line of another ring's log
  UnknownKey,  ///< it is under a key that the ring has not had yet: refresh() the ring, or it is forged
  Inserted,    ///< it was copied from another place, or from another log of the ring
  Reordered,   ///< it is a line of this log that belongs further down
  Removed,     ///< lines before it are missing
  Cut,         ///< behind it lines are missing that were there at the end that the caller expects, or they are others
};

/// What verify_audit_log() found.
struct AuditVerdict {
  /// The first line that is wrong.
  struct Bad {
    std::uint64_t line = 0;                  ///< its number in the file, from 1; of AuditFault::Cut that of the last
    AuditFault fault = AuditFault::Altered;  ///< in what way it is wrong
    std::string why;                         ///< for people
  };
  std::optional<Bad> bad;         ///< nothing: all lines are as they were written
  std::uint64_t lines = 0;        ///< how many are good, in front of the bad one
  AuditEnd end;                   ///< the last of these: to be kept for the next verification
  std::uint64_t torn = 0;         ///< remains of lines that a crash or a full disk left; no tampering
  std::uint64_t events_lost = 0;  ///< that could not be written, as the log itself says
  std::uint64_t under_former =
      0;  ///< lines under an older key than a line before them: by a host that had not seen yet
          ///< that a set was removed, or by somebody who has the KEK of that set
  [[nodiscard]] bool good() const noexcept { return !bad; }  ///< Whether nothing is wrong.
};

/// Checks a log from its first line to its last. Lines that are written meanwhile may be left out.
///
/// @param ring      as it is known here: refresh() it first if another host may have removed a set.
/// @param expected  an AuditVerdict::end of before: its line must be there still.
/// @param each      called for each line, also those behind a bad one. Not retained.
/// @throws InvalidArgumentError  the file cannot be read, or the ring was opened for salvage and has no key.
[[nodiscard]] HSMSEAL_API AuditVerdict verify_audit_log(const KeyRing& ring, const std::filesystem::path& file,
                                                        const std::optional<AuditEnd>& expected = {},
                                                        const AuditReader& each = {});

/// Reads a log without a ring: nothing is checked but the form of its lines.
///
/// @param each  called for each line. Not retained.
/// @throws InvalidArgumentError  the file cannot be read.
HSMSEAL_API void read_audit_log(const std::filesystem::path& file, const AuditReader& each);

}  // namespace hsmseal
