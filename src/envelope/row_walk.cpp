#include "envelope/row_walk.hpp"

#include <algorithm>
#include <utility>

#include "envelope/row_mover.hpp"

namespace hsmseal::envelope {

RowWalk::RowWalk(RowSource& source, const RewrapOptions& options, const Patience& patience, RowQuery first)
    : source_(source), options_(options), patience_(patience), query_(std::move(first)), cursor_(query_.after) {}

std::optional<RowWalk::Portion> RowWalk::take() {
  const std::scoped_lock taking{taking_};
  patience_.check();
  {
    const std::scoped_lock lock{mutex_};
    if (ended_) return std::nullopt;
    query_.after = cursor_;
  }
  wait_for_turn();
  Portion portion;
  portion.batch = patience_.run([this] { return source_.next(query_); });
  if (portion.batch.next && portion.batch.next == query_.after) {
    throw Unusable{"the source of rows comes back to the cursor that it was given"};
  }
  if (options_.rows_per_second > 0) {
    const auto rows = static_cast<double>(portion.batch.rows.size());
    const std::chrono::duration<double> time{rows / options_.rows_per_second};
    turn_ = std::max(options_.clock(), turn_.value_or(Time::min())) +
            std::chrono::duration_cast<std::chrono::nanoseconds>(time);
  }
  const std::scoped_lock lock{mutex_};
  portion.number = ++numbers_;
  at_work_.emplace(portion.number, query_.after);
  cursor_ = portion.batch.next;
  ended_ = !cursor_;
  return portion;
}

/// Before rows are taken, since a source may hold them for whoever took them.
void RowWalk::wait_for_turn() {
  if (!turn_) return;
  for (Time now = options_.clock(); now < *turn_; now = options_.clock()) patience_.pause(*turn_ - now);
}

void RowWalk::finished(std::uint64_t number) {
  const std::scoped_lock lock{mutex_};
  at_work_.erase(number);
}

std::optional<std::string> RowWalk::after() const {
  const std::scoped_lock lock{mutex_};
  return at_work_.empty() ? cursor_ : at_work_.begin()->second;
}

}  // namespace hsmseal::envelope
