#include "envelope/batch_mover.hpp"

#include <algorithm>
#include <utility>

#include <hsmseal/error.hpp>

namespace hsmseal::envelope {
namespace {

/// How often in a row others may be faster before a row is left to the next pass.
constexpr int kMostTries = 10;

constexpr const char* kNotKept =
    "the store did not keep the envelope that it was given; is the column wide enough, and its text left as it is?";

RowError error_of(const std::string& key, const Error& error) {
  return {.key = key, .code = error.code(), .message = error.what()};
}

void check_answers(std::size_t found, std::size_t asked) {
  if (found != asked) throw Unusable{"the source of rows did not answer for each row that it was asked for"};
}

}  // namespace

void BatchMover::move(RowBatch batch, RowTally& tally) const {
  std::vector<RowChange> changes;
  std::vector<Again> again;
  prepare(batch, changes, again, tally);
  if (options_.writes == RewrapWrites::Nothing) {
    tally.moved += changes.size();
  } else {
    replace(batch, changes, again, tally);
  }
  batch.hold.reset();
  for (Again& row : again) move_alone(row, tally);
  patience_.check();
}

/// After the first failure that may pass, all that follow are left for later, so that a source holds its rows for as long
/// as one failure takes, and not for all.
void BatchMover::prepare(RowBatch& batch, std::vector<RowChange>& changes, std::vector<Again>& again,
                         RowTally& tally) const {
  bool trouble = false;
  MovedKeys keys;
  for (Row& row : batch.rows) {
    if (patience_.stopping()) return;
    if (trouble) {
      again.push_back({row.key});
      continue;
    }
    try {
      if (auto value = mover_.new_value(row, keys))
        changes.push_back({row.key, std::move(row.value), *std::move(value)});
    } catch (const Error& error) {
      const Fault fault = fault_of(error);
      if (fault == Fault::Lasting) throw GivenUp{error.code(), error.what()};
      if (fault == Fault::Row) tally.failed.push_back(error_of(row.key, error));
      trouble = fault == Fault::Passing;
      if (trouble) again.push_back({row.key});
    }
  }
}

void BatchMover::replace(RowBatch& batch, std::vector<RowChange>& changes, std::vector<Again>& again,
                         RowTally& tally) const {
  if (changes.empty()) return;
  bool damaged = false;
  std::size_t settled = 0;
  try {
    const auto made = source_.replace(batch, changes);
    std::vector<std::string> keys;
    keys.reserve(changes.size());
    for (const RowChange& change : changes) keys.push_back(change.key);
    const auto found = source_.read(keys);
    check_answers(made.size(), changes.size());
    check_answers(found.size(), changes.size());
    for (; settled < changes.size(); ++settled) {
      const Kept kept = made[settled] ? read_back(changes[settled], found[settled], tally) : Kept::No;
      if (kept == Kept::No) again.push_back({changes[settled].key});
      damaged = damaged || kept == Kept::Damaged;
    }
  } catch (const Error& error) {
    if (fault_of(error) != Fault::Passing) throw GivenUp{error.code(), error.what()};
    for (; settled < changes.size(); ++settled) {
      again.push_back({changes[settled].key, std::move(changes[settled].new_value)});
    }
  }
  if (damaged) throw GivenUp{ErrorCode::Store, kNotKept};
}

/// Looks at what the store shows of a change that it says was made.
/// @returns No if the row has to be looked at again: the change was lost, or somebody changed the row since.
BatchMover::Kept BatchMover::read_back(const RowChange& change, const std::optional<Row>& found,
                                       RowTally& tally) const {
  if (!found) {
    ++tally.edited;
    return Kept::Yes;
  }
  if (found->value == change.new_value) {
    ++tally.moved;
    return Kept::Yes;
  }
  if (found->value == change.old_value || !is_altered(change, *found)) return Kept::No;
  put_back(change, *found, tally);
  return Kept::Damaged;
}

/// Whether a store cut or changed what it was given, which is told from another's edit by how much is still the same.
bool BatchMover::is_altered(const RowChange& change, const Row& found) const {
  const std::size_t common = std::min(found.value.size(), change.new_value.size());
  std::size_t same = 0;
  for (std::size_t i = 0; i < common; ++i) same += found.value[i] == change.new_value[i] ? 1 : 0;
  return common > 0 && same * 2 >= common && mover_.is_damaged(found);
}

void BatchMover::put_back(const RowChange& change, const Row& found, RowTally& tally) const {
  bool back = false;
  try {
    RowBatch none;
    static_cast<void>(source_.replace(none, {{change.key, found.value, change.old_value}}));
    const auto now = read(change.key);
    back = now && now->value == change.old_value;
  } catch (const Error&) {
    // Said by what the report holds.
  }
  tally.failed.push_back({.key = change.key,
                          .code = ErrorCode::Store,
                          .message = std::string{kNotKept} + (back ? " The old one was put back" : ""),
                          .old_value = back ? Bytes{} : change.old_value});
}

std::optional<Row> BatchMover::read(const std::string& key) const {
  auto found = source_.read({key});
  check_answers(found.size(), 1);
  return std::move(found.front());
}

void BatchMover::move_alone(Again& row, RowTally& tally) const {
  for (int tries = 0; tries < kMostTries; ++tries) {
    if (patience_.run([&] { return try_alone(row, tally); })) return;
  }
}

/// @returns false if somebody was faster.
bool BatchMover::try_alone(Again& row, RowTally& tally) const {
  const auto now = read(row.key);
  if (!now) {
    ++tally.edited;
    return true;
  }
  std::optional<Bytes> value;
  try {
    MovedKeys none;
    value = mover_.new_value(*now, none);
  } catch (const Error& error) {
    if (fault_of(error) != Fault::Row) throw;
    tally.failed.push_back(error_of(row.key, error));
    return true;
  }
  if (!value) {
    ++(!row.written.empty() && now->value == row.written ? tally.moved : tally.edited);
    return true;
  }
  if (options_.writes == RewrapWrites::Nothing) {
    ++tally.moved;
    return true;
  }
  const RowChange change{row.key, now->value, *std::move(value)};
  row.written = change.new_value;
  RowBatch none;
  const auto made = source_.replace(none, {change});
  check_answers(made.size(), 1);
  if (!made.front()) return false;
  const Kept kept = read_back(change, read(row.key), tally);
  if (kept == Kept::Damaged) throw GivenUp{ErrorCode::Store, kNotKept};
  return kept == Kept::Yes;
}

}  // namespace hsmseal::envelope
