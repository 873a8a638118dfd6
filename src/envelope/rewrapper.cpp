#include <algorithm>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/rewrap.hpp>

#include "envelope/batch_mover.hpp"
#include "envelope/checkpoint.hpp"
#include "envelope/patience.hpp"
#include "envelope/row_walk.hpp"

namespace hsmseal {
namespace {

using envelope::BatchMover;
using envelope::Checkpoint;
using envelope::GivenUp;
using envelope::Patience;
using envelope::RowTally;
using envelope::RowWalk;
using envelope::Stopped;
using envelope::Unusable;

constexpr std::chrono::seconds kBetweenCheckpoints{1};

/// One call of Rewrapper::run().
class Run {
 public:
  Run(KeyRing ring, RowSource& source, const RewrapOptions& options, const std::stop_token& stop)
      : ring_(std::move(ring)), source_(source), options_(options), outer_(stop, [this] { ending_.request_stop(); }) {}

  RewrapReport report();

 private:
  [[nodiscard]] bool is_dry() const { return options_.writes == RewrapWrites::Nothing; }
  [[nodiscard]] std::uint64_t left() const { return report_.census->not_under(report_.active); }
  void begin();
  RewrapVerdict make_passes();
  void count();
  void pass();
  void work(RowWalk& walk);
  void add(RowTally tally);
  void tell(const RowWalk& walk);

  KeyRing ring_;
  RowSource& source_;
  const RewrapOptions& options_;
  std::stop_source ending_;
  std::stop_callback<std::function<void()>> outer_;
  const Patience patience_{options_, ending_.get_token()};
  const BatchMover mover_{ring_, source_, options_, patience_};
  const Checkpoint checkpoint_{is_dry() ? std::filesystem::path{} : options_.checkpoint, ring_.id()};

  std::mutex mutex_;  ///< of what workers share
  RewrapReport report_;
  std::uint64_t to_move_ = 0;
  std::exception_ptr failure_;  ///< the first of a worker
  std::optional<RowWalk::Time> saved_;
};

RewrapReport Run::report() {
  try {
    begin();
    report_.verdict = make_passes();
    checkpoint_.remove();
  } catch (const Stopped&) {
    report_.verdict = RewrapVerdict::Cancelled;
    report_.census.reset();
  } catch (const GivenUp& given_up) {
    report_.verdict = RewrapVerdict::Failing;
    report_.reason_code = given_up.code;
    report_.reason = given_up.message;
    report_.census.reset();
  }
  return std::move(report_);
}

void Run::begin() {
  report_.active = ring_.active().version;
  report_.after = options_.start_after;
  patience_.run([this] { ring_.refresh(); });
  count();
  to_move_ = left();
  if (!report_.after) report_.after = checkpoint_.load(report_.active);
}

void Run::count() {
  report_.active = ring_.active().version;
  report_.census = patience_.run([this] { return source_.census(ring_.id()); });
}

/// Passes over the rows until a census shows that all are moved, or that those left are those that failed. Other hosts
/// may hold rows back that they work on, or come upon again as they stop: for these it waits, as long as less are left
/// each time.
RewrapVerdict Run::make_passes() {
  std::uint64_t fewest = std::numeric_limits<std::uint64_t>::max();
  for (std::size_t idle = 0;;) {
    if (left() == 0 && report_.failed == 0) return RewrapVerdict::Done;
    const bool whole = !report_.after;
    const std::uint64_t moved_before = report_.moved;
    report_.failed = 0;
    report_.errors.clear();
    pass();
    count();
    if (is_dry() && (left() > 0 || report_.failed > 0)) return RewrapVerdict::RowsLeft;
    if (!whole) continue;
    if (report_.failed > 0 && left() <= report_.failed) return RewrapVerdict::RowsLeft;
    idle = report_.moved == moved_before && left() >= fewest ? idle + 1 : 0;
    fewest = std::min(fewest, left());
    if (idle >= options_.retry.attempts) return RewrapVerdict::RowsLeft;
    if (idle > 0) patience_.pause(patience_.pause_after(idle));
  }
}

void Run::pass() {
  RowWalk walk{source_,
               options_,
               patience_,
               {.after = report_.after,
                .most = options_.batch,
                .ring = ring_.id(),
                .active = report_.active,
                .access = is_dry() ? RowAccess::Read : RowAccess::Replace}};
  {
    std::vector<std::jthread> threads;
    try {
      while (threads.size() + 1 < options_.workers) threads.emplace_back([&] { work(walk); });
      work(walk);
    } catch (...) {
      ending_.request_stop();  // no more threads are to be had
      throw;
    }
  }
  report_.after = walk.after();
  if (report_.after) checkpoint_.save(report_.active, *report_.after);
  if (failure_) std::rethrow_exception(failure_);
}

/// Takes and moves rows until there are no more, or until another worker failed.
void Run::work(RowWalk& walk) {
  try {
    while (auto portion = walk.take()) {
      RowTally tally;
      try {
        mover_.move(std::move(portion->batch), tally);
      } catch (...) {
        add(std::move(tally));
        throw;
      }
      walk.finished(portion->number);
      add(std::move(tally));
      tell(walk);
    }
  } catch (...) {
    const std::scoped_lock lock{mutex_};
    if (!failure_) failure_ = std::current_exception();
    ending_.request_stop();
  }
}

void Run::add(RowTally tally) {
  const std::scoped_lock lock{mutex_};
  report_.moved += tally.moved;
  report_.edited += tally.edited;
  report_.failed += tally.failed.size();
  for (RowError& error : tally.failed) {
    if (report_.errors.size() < options_.errors_kept || !error.old_value.empty()) {
      report_.errors.push_back(std::move(error));
    }
  }
}

void Run::tell(const RowWalk& walk) {
  const std::scoped_lock lock{mutex_};
  const auto after = walk.after();
  const auto now = options_.clock();
  if (after && (!saved_ || now - *saved_ >= kBetweenCheckpoints)) {
    checkpoint_.save(report_.active, *after);
    saved_ = now;
  }
  if (!options_.on_progress) return;
  options_.on_progress({.to_move = to_move_, .moved = report_.moved, .failed = report_.failed, .after = after});
}

void check(const RewrapOptions& options) {
  const auto refuse = [](const char* what) { throw InvalidArgumentError(fmt::format("a rewrapper needs {}", what)); };
  if (options.workers < 1 || options.workers > 256) refuse("1 to 256 workers");
  if (options.batch < 1 || options.batch > 10'000) refuse("batches of 1 to 10000 rows");
  if (options.retry.attempts < 1) refuse("at least one attempt");
  if (options.retry.first_pause.count() < 0 || options.retry.longest_pause.count() < 0) refuse("pauses not below 0");
  if (!options.clock) refuse("a clock");
}

}  // namespace

Rewrapper::Rewrapper(KeyRing ring, std::shared_ptr<RowSource> source, RewrapOptions options)
    : ring_(std::move(ring)), source_(std::move(source)), options_(std::move(options)) {
  if (!source_) throw InvalidArgumentError("a rewrapper needs a source of rows");
  check(options_);
}

RewrapReport Rewrapper::run(const std::stop_token& stop) {
  try {
    return Run{ring_, *source_, options_, stop}.report();
  } catch (const Unusable& unusable) {
    throw InvalidArgumentError(unusable.message);
  }
}

}  // namespace hsmseal
