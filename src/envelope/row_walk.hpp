#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include <hsmseal/rewrap.hpp>

#include "envelope/patience.hpp"

namespace hsmseal::envelope {

/// One pass over the rows: hands them out to workers, at the rate that is allowed, and knows how far all of them are.
///
/// Thread safety: members may run concurrently.
class RowWalk {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// @param first  from where on, and for which ring and active set.
  RowWalk(RowSource& source, const RewrapOptions& options, const Patience& patience, RowQuery first);

  /// Some rows for one worker.
  struct Portion {
    std::uint64_t number = 0;
    RowBatch batch;
  };

  /// @returns nothing if there are no more.
  /// @throws GivenUp, Stopped, Unusable, and what the source throws that is no Error.
  [[nodiscard]] std::optional<Portion> take();

  void finished(std::uint64_t number);

  /// The cursor up to which all rows are done; nothing: none, or all of them.
  [[nodiscard]] std::optional<std::string> after() const;

 private:
  void wait_for_turn();

  RowSource& source_;
  const RewrapOptions& options_;
  const Patience& patience_;

  std::mutex taking_;  ///< held while the source looks for rows
  RowQuery query_;
  std::optional<Time> turn_;  ///< when the next rows may be taken

  mutable std::mutex mutex_;
  std::optional<std::string> cursor_;
  bool ended_ = false;
  std::uint64_t numbers_ = 0;
  std::map<std::uint64_t, std::optional<std::string>> at_work_;  ///< the cursors before portions not finished
};

}  // namespace hsmseal::envelope
