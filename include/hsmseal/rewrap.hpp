#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error_code.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/row_source.hpp>

namespace hsmseal {

/// How rows come to the active set.
enum class RewrapMode : std::uint8_t {
  Rewrap,  ///< as EnvelopeEncryptor::rewrap(); what was sealed in the token is resealed
  Reseal,  ///< as EnvelopeEncryptor::reseal(): for a key that somebody else may have used
};

/// What a row has to show before it is replaced.
enum class RowCheck : std::uint8_t {
  /// That it opens in its context, and its new envelope too: six token calls a row; two if a row before it in the
  /// batch has the same data key. The source must know the contexts.
  Open,
  /// That its data key is the one it was sealed under: four token calls, none if a row before it in the batch has the
  /// same data key. A payload that was altered, or belongs to another row, is moved as it is.
  Commitment,
};

/// Whether rows are replaced.
enum class RewrapWrites : std::uint8_t {
  Rows,     ///< they are
  Nothing,  ///< a dry run: rows are checked and counted, nothing is replaced and no checkpoint is kept
};

/// How long failures of tokens and stores are borne that may pass by themselves.
struct RetryPolicy {
  std::size_t attempts = 8;                         ///< in a row, the first one included; at least 1
  std::chrono::milliseconds first_pause{100};       ///< twice as long after each failure
  std::chrono::milliseconds longest_pause{10'000};  ///< but never longer
};

/// How far a run has come.
struct RewrapProgress {
  std::uint64_t to_move = 0;              ///< rows not under the active set when the run began
  std::uint64_t moved = 0;                ///< rows replaced; in a dry run, that would be
  std::uint64_t failed = 0;               ///< rows that cannot be moved, in this pass over the rows
  std::optional<std::string> after = {};  ///< the rows up to this cursor are done, but for those that failed
};

/// A row that could not be moved. It holds what it held.
struct RowError {
  std::string key;       ///< Row::key
  ErrorCode code;        ///< Error::code()
  std::string message;   ///< Error::what()
  Bytes old_value = {};  ///< if the store did not keep what it was given, and did not take this back: what the row held
                         ///< before. Keep it
};

/// What a run came to.
enum class RewrapVerdict : std::uint8_t {
  Done,       ///< a census over all rows found none but those of the active set, and plain ones
  RowsLeft,   ///< all were tried, and some cannot be moved: see the errors, or a source keeps some back
  Failing,    ///< the token or a store does not work: run it again later, see RewrapReport::reason
  Cancelled,  ///< as was asked for: run it again
};

/// The outcome of Rewrapper::run().
struct RewrapReport {
  RewrapVerdict verdict = RewrapVerdict::RowsLeft;  ///< Done, and nothing else, means that old sets may go
  Version active = 0;                               ///< the set that the rows were moved to
  std::uint64_t moved = 0;                          ///< rows replaced; in a dry run, that would be
  std::uint64_t edited = 0;                         ///< rows that the application changed or removed first
  std::uint64_t failed = 0;                         ///< rows that could not be moved
  std::vector<RowError> errors = {};                ///< the first of them: RewrapOptions::errors_kept
  std::optional<RowCensus> census = {};             ///< the last one: the rows now, with Done and RowsLeft
  std::optional<std::string> after = {};            ///< RewrapOptions::start_after of a run that goes on from here
  std::optional<ErrorCode> reason_code = {};        ///< with Failing
  std::string reason = {};                          ///< with Failing: the error's message
};

/// How rows are moved.
struct RewrapOptions {
  RewrapMode mode = RewrapMode::Rewrap;      ///< how
  RowCheck check = RowCheck::Open;           ///< what is checked
  RewrapWrites writes = RewrapWrites::Rows;  ///< whether it is a dry run
  std::size_t workers = 1;                   ///< threads, 1 to 256; more than the pool has sessions wait for them
  std::size_t batch = 50;                    ///< rows in one go, 1 to 10'000: as long may an application have to wait
  std::uint32_t rows_per_second = 0;         ///< of all workers together; 0: as fast as it goes
  RetryPolicy retry = {};                    ///< of tokens, the ring's store and the source
  std::size_t errors_kept = 1'000;           ///< all are counted
  EnvelopeOptions envelopes = {};            ///< deadlines, and how rows are sealed anew
  std::optional<std::string> start_after = {};  ///< a cursor from an earlier run; rows before it come last
  /// A file that remembers the cursor for the next run, written at most once a second and removed when all rows were
  /// tried; empty: none. One of another ring or active set, or a damaged one, is not used. It must be private.
  std::filesystem::path checkpoint = {};
  /// Told after each batch, one call at a time. It must not throw, and should be quick.
  std::function<void(const RewrapProgress&)> on_progress = {};
  std::function<std::chrono::steady_clock::time_point()> clock = time_since_boot;  ///< replaced in tests
  /// Waits, and no longer than until a stop is requested; empty: the usual way. Replaced in tests.
  std::function<void(std::chrono::nanoseconds, const std::stop_token&)> sleep = {};
};

/// Moves all of an application's envelopes to the active set, and proves it.
///
/// A row is replaced only if it still holds what was read, and read back afterwards, so that an application may add, edit
/// and delete rows meanwhile: its changes win. A run may be killed at any moment and started anew; what it has not moved
/// is as it was. Several hosts may run at once.
///
/// Passes over the rows are made until none is left but those that fail, or nothing moves any more. Rows that do not
/// open are reported and left as they are; plain ones are left alone. Under a set that this host does not see as archived
/// yet others may still seal, for RingSettings::max_staleness: run it later than that, and let the census of
/// KeyRing::remove() have the last word.
///
/// Thread safety: run() may run once at a time.
class HSMSEAL_API Rewrapper {
 public:
  /// @param ring    shared with the caller.
  /// @throws InvalidArgumentError  no source, or an option out of its bounds.
  Rewrapper(KeyRing ring, std::shared_ptr<RowSource> source, RewrapOptions options = {});

  /// Moves the rows.
  ///
  /// @param stop  ends it between two rows; what was moved stays moved.
  /// @returns what came of it. Failures of tokens and stores do not throw, but are a verdict.
  /// @throws InvalidArgumentError  RowCheck::Open or RewrapMode::Reseal, and the source does not know a row's context; or
  ///         the checkpoint cannot be used as a file.
  /// @throws what the source throws that is no Error.
  /// Blocking: for as long as it takes.
  [[nodiscard]] RewrapReport run(const std::stop_token& stop = {});

 private:
  KeyRing ring_;
  std::shared_ptr<RowSource> source_;
  RewrapOptions options_;
};

}  // namespace hsmseal
