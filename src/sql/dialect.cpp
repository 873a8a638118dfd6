#include "sql/dialect.hpp"

#include <soci/odbc/soci-odbc.h>
#include <soci/soci.h>

#include <hsmseal/error.hpp>

namespace hsmseal::sql {
namespace {

constexpr Dialect kSqlite{
    .name = "SQLite",
    .key_type = "varchar(64)",
    .text_type = "text",
    .count_schema_table = "select count(*) from sqlite_master where type = 'table' and name = 'hsmseal_schema'",
    .clock = "select cast(strftime('%s', 'now') as integer) * 1000 + cast(substr(strftime('%f', 'now'), 4) as integer)",
    .has_server = false,
    .skip_locked = {},
    .as_bytes = "cast({} as blob)",
    .to_hex = "hex({})",
    .from_hex = {},
    .bytes_literal = "x'{}'",
    .on_connect = {"pragma busy_timeout = {timeout}", "pragma synchronous = full"},
};

constexpr Dialect kPostgresql{
    .name = "PostgreSQL",
    .key_type = "varchar(64) collate \"C\"",
    .text_type = "text",
    .count_schema_table = "select count(to_regclass('hsmseal_schema'))",
    .clock = "select cast(floor(extract(epoch from clock_timestamp()) * 1000) as bigint)",
    .has_server = true,
    .skip_locked = " for update skip locked",
    .to_hex = "encode({}, 'hex')",
    .from_hex = "decode({}, 'hex')",
    .bytes_literal = "decode('{}', 'hex')",
    // Whatever the server's defaults are: losing a race must show as no row updated, what was committed must be on
    // disk, and a host that froze in a transaction must let go of its lock before others stop waiting for it.
    .on_connect = {"set statement_timeout = {timeout}", "set lock_timeout = {timeout}",
                   "set idle_in_transaction_session_timeout = {half}",
                   "set default_transaction_isolation = 'read committed'", "set synchronous_commit = on"},
};

constexpr Dialect kSqlServer{
    .name = "SQL Server",
    .key_type = "varchar(64) collate Latin1_General_BIN2",
    .text_type = "nvarchar(max)",
    .count_schema_table = "select count(object_id('hsmseal_schema', 'U'))",
    .clock = "select datediff_big(millisecond, '1970-01-01', sysutcdatetime())",
    .has_server = true,
    .first_rows = "offset 0 rows fetch next {} rows only",
    .skip_locked = {},
    .as_text = "cast({} as nvarchar(max))",
    .to_hex = "convert(varchar(max), {}, 2)",
    .from_hex = "convert(varbinary(max), {}, 2)",
    .bytes_literal = "0x{}",
    .on_connect = {"set lock_timeout {timeout}", "set xact_abort on", "set transaction isolation level read committed"},
};

}  // namespace

const Dialect& dialect_of(soci::session& session) {
  const std::string backend = session.get_backend_name();
  if (backend == "sqlite3") return kSqlite;
  if (backend == "postgresql") return kPostgresql;
  using Odbc = soci::odbc_session_backend;
  switch (static_cast<const Odbc&>(*session.get_backend()).get_database_product()) {
    case Odbc::prod_sqlite:
      return kSqlite;
    case Odbc::prod_postgresql:
      return kPostgresql;
    case Odbc::prod_mssql:
      return kSqlServer;
    default:
      throw StoreError("hsmseal does not know this database; over ODBC it knows PostgreSQL, SQL Server and SQLite");
  }
}

}  // namespace hsmseal::sql
