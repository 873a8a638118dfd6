#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <hsmseal/sql_row_source.hpp>

#include "sql/dialect.hpp"

namespace hsmseal::sql {

/// What is said to a database about the rows of one column.
///
/// Values come and go as text: of the text form as they are, of the binary form in hexadecimal digits.
class RowStatements {
 public:
  /// @throws InvalidArgumentError  the names are none.
  explicit RowStatements(const SqlRowOptions& options);

  /// Selects keys and values of the rows to be moved, in the order of their keys; those behind `:after` if there is a
  /// cursor.
  [[nodiscard]] std::string next(const Dialect& dialect, const RowQuery& query) const;
  /// Selects the value of `:key`.
  [[nodiscard]] std::string read(const Dialect& dialect) const;
  /// Replaces the value of `:key`, if it still is the old one. The values are `:new_value` and `:old_value`, unless the
  /// dialect has no way to bind them.
  [[nodiscard]] std::string replace(const Dialect& dialect, const RowChange& change) const;
  [[nodiscard]] bool binds_values(const Dialect& dialect) const;
  /// Selects the beginnings of values and how often they come; of plain ones an empty text.
  [[nodiscard]] std::string census(const Dialect& dialect) const;

  [[nodiscard]] std::string to_text(ByteView value) const;
  /// @throws StoreError  no text of ours.
  [[nodiscard]] Bytes from_text(std::string_view text) const;

 private:
  [[nodiscard]] std::string value(const Dialect& dialect) const;
  [[nodiscard]] std::string shown(const Dialect& dialect, const std::string& value) const;
  [[nodiscard]] std::string literal(const Dialect& dialect, ByteView bytes) const;
  [[nodiscard]] std::string starts_with(const Dialect& dialect, std::string_view start) const;
  [[nodiscard]] std::string needs_move(const Dialect& dialect, const RowQuery& query) const;

  const RowForm form_;
  const std::string table_, key_, value_, column_;  ///< quoted; the column alone for its assignment
};

}  // namespace hsmseal::sql
