#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/rewrap.hpp>

#include "envelope/patience.hpp"
#include "envelope/row_mover.hpp"

namespace hsmseal::envelope {

/// What became of rows.
struct RowTally {
  std::uint64_t moved = 0, edited = 0;
  std::vector<RowError> failed;
};

/// Moves the rows of a batch: all at once, and those one by one that others changed meanwhile, or that trouble came
/// over.
///
/// Thread safety: members may run concurrently, with a tally each.
class BatchMover {
 public:
  BatchMover(const KeyRing& ring, RowSource& source, const RewrapOptions& options, const Patience& patience)
      : mover_(ring, options), source_(source), options_(options), patience_(patience) {}

  /// @param tally  also right if this throws.
  /// @throws GivenUp, Stopped, Unusable, and what is no Error.
  void move(RowBatch batch, RowTally& tally) const;

 private:
  /// A row that is to be looked at again.
  struct Again {
    std::string key;
    Bytes written = {};  ///< what it was given, if the answer was lost
  };
  enum class Kept : std::uint8_t { Yes, No, Damaged };

  void prepare(RowBatch& batch, std::vector<RowChange>& changes, std::vector<Again>& again, RowTally& tally) const;
  void replace(RowBatch& batch, std::vector<RowChange>& changes, std::vector<Again>& again, RowTally& tally) const;
  [[nodiscard]] Kept read_back(const RowChange& change, const std::optional<Row>& found, RowTally& tally) const;
  [[nodiscard]] bool is_altered(const RowChange& change, const Row& found) const;
  void put_back(const RowChange& change, const Row& found, RowTally& tally) const;
  [[nodiscard]] std::optional<Row> read(const std::string& key) const;
  void move_alone(Again& row, RowTally& tally) const;
  [[nodiscard]] bool try_alone(Again& row, RowTally& tally) const;

  const RowMover mover_;
  RowSource& source_;
  const RewrapOptions& options_;
  const Patience& patience_;
};

}  // namespace hsmseal::envelope
