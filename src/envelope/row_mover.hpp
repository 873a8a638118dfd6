#pragma once

#include <optional>
#include <string>

#include <hsmseal/envelope.hpp>
#include <hsmseal/rewrap.hpp>

#include "envelope/moved_keys.hpp"

namespace hsmseal::envelope {

/// Thrown where a source and the options of a run do not fit together.
struct Unusable {
  std::string message;
};

/// What becomes of one row's value.
///
/// Thread safety: members may run concurrently.
class RowMover {
 public:
  RowMover(const KeyRing& ring, const RewrapOptions& options) : vault_(ring, options.envelopes), options_(options) {}

  /// The value that takes the place of the row's, and opens; in a dry run an empty one.
  /// @param keys  of the rows that were moved before this one in its batch.
  /// @returns nothing if the row needs none: it is plain, or under the active set.
  /// @throws Error     see fault_of().
  /// @throws Unusable
  [[nodiscard]] std::optional<Bytes> new_value(const Row& row, MovedKeys& keys) const;

  /// Whether a value does not open, or is no whole envelope.
  /// @throws Error  that cannot be found out.
  [[nodiscard]] bool is_damaged(const Row& row) const;

 private:
  [[nodiscard]] Bytes moved(ByteView sealed, const Row& row, MovedKeys& keys) const;
  [[nodiscard]] std::optional<Bytes> moved_with_others(ByteView sealed, const Row& row, const MovedKeys& keys) const;
  void try_out(ByteView sealed, const Row& row) const;

  const EnvelopeEncryptor vault_;
  const RewrapOptions& options_;
};

}  // namespace hsmseal::envelope
