#pragma once

#include <array>
#include <string_view>

namespace soci {
class session;
}

namespace hsmseal::sql {

/// What really differs between databases; every other statement is the same text for all.
struct Dialect {
  std::string_view name;  ///< for people
  /// Column types: short ASCII that is compared byte for byte, and text of any length.
  std::string_view key_type, text_type;
  std::string_view count_schema_table;  ///< selects 1 if hsmseal_schema is there and 0 if not
  /// Selects the milliseconds since 1970 in UTC: of the statement, not of its transaction.
  std::string_view clock;
  /// Whether a transaction may be in flight on a server when the connection it came from is gone.
  bool has_server = true;
  /// How a query of rows ends: after so many, and without those that other transactions have locked, while it locks the
  /// others; empty where there is no such way.
  std::string_view first_rows = "limit {}", skip_locked;
  /// Texts and bytes of what columns hold, whatever that is.
  std::string_view as_text = "cast({} as text)", as_bytes = "{}";
  /// Bytes to hexadecimal digits, and back; the latter is empty where only literals can be.
  std::string_view to_hex, from_hex, bytes_literal;
  /// For each new connection, up to an empty one. {timeout} and {half} stand for milliseconds.
  std::array<std::string_view, 5> on_connect;
};

/// @throws StoreError  a database that hsmseal does not know.
[[nodiscard]] const Dialect& dialect_of(soci::session& session);

}  // namespace hsmseal::sql
