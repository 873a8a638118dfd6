#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <hsmseal/export.hpp>
#include <hsmseal/row_source.hpp>

namespace hsmseal {

/// What a column holds.
enum class RowForm : std::uint8_t {
  Text,    ///< text forms of envelopes: EnvelopeEncryptor::seal_text()
  Binary,  ///< bytes: bytea in PostgreSQL, BLOB in SQLite, varbinary in SQL Server
};

/// Where an application's envelopes are in a database.
///
/// Names are 1 to 63 characters of A-Z a-z 0-9 _, the first no digit, and are quoted: they are written as the database
/// shows them, in PostgreSQL usually in lower case.
struct SqlRowOptions {
  std::string table;             ///< or `schema.table`
  std::string key_column;        ///< unique, not null, and comparable: numbers, text, UUIDs; best with an index
  std::string value_column;      ///< rows in which it is null are passed over
  RowForm form = RowForm::Text;  ///< of the value
  /// The canonical bytes of what a row's envelope is bound to, by its key as text: Context::encoded(), nothing for
  /// kNoContext. Empty: not known. May be called by several threads at once.
  std::function<Bytes(std::string_view key)> context = {};
  /// As SqlOptions::timeout; a census reads through the whole table in it. 100 milliseconds to an hour.
  std::chrono::milliseconds timeout{60'000};
};

/// One column of a table as a source of rows, for Rewrapper and census_of(): the CMake component `sql`.
///
/// Several hosts may work on one table at once. On PostgreSQL each has rows of its own (FOR UPDATE SKIP LOCKED), in a
/// transaction as long as the batch takes: who wants to edit one of them waits for that. Elsewhere rows are not locked
/// but when they are written, in transactions of one batch, and hosts may try the same ones; one of them wins.
///
/// @param url  as of sql_ring_store(), but SQLite not over ODBC, whose driver cuts long values off. Nothing but rows of this column is written, and no file of SQLite is made.
/// @throws InvalidArgumentError  no such URL, or an option out of its bounds. A database that does not answer, or has no
///                               such column, throws StoreError from the source's members.
///
/// Rights: to select and to update.
/// Thread safety: members may run concurrently, on a connection each; those are kept, and made anew after a failure.
/// Fork: as sql_ring_store(); rows that a parent holds are the parent's.
/// Blocking: as sql_ring_store().
/// Conformance: trusts the database to compare keys always alike, and to keep what it committed; the Rewrapper reads that
/// back.
[[nodiscard]] HSMSEAL_SQL_API std::shared_ptr<RowSource> sql_row_source(std::string_view url, SqlRowOptions options);

}  // namespace hsmseal
