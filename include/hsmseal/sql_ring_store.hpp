#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <hsmseal/export.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal {

/// How a ring is kept in a database.
struct SqlOptions {
  /// The ring's name, so that several can share a database: 1 to 64 of A-Z a-z 0-9 . _ -
  std::string ring = "default";
  /// How long a connection, a statement or a lock may take where the database can limit it; also how long a call looks
  /// for the outcome of a commit that was not answered. 100 milliseconds to an hour.
  std::chrono::milliseconds timeout{10'000};
};

/// A store in a database: the CMake component `sql`, target hsmseal::sql.
///
/// @param url  says where. It may hold a password, and no message or exception ever repeats any of it, the path of an
///             SQLite file apart. One of:
/// ```
/// sqlite:/var/lib/vault/ring.db                    a file; relative to where the process is now
/// postgresql:host=db.example dbname=vault user=v   what libpq calls a connection string
/// postgresql://v@db.example/vault?sslmode=verify-full
/// odbc:Driver={PostgreSQL Unicode};Servername=db.example;Database=vault;Uid=v;Pwd={...}
/// odbc:Driver={ODBC Driver 18 for SQL Server};Server=db.example;Database=vault;Uid=v;Pwd={...};Encrypt=yes
/// odbc:Driver={FreeTDS};Server=db.example;Port=1433;TDS_Version=7.4;ClientCharset=UTF-8;Database=vault;Uid=v;Pwd=x
/// ```
///
/// ODBC loads the driver that the URL names, so whoever writes the URL chooses code. Over ODBC it works with PostgreSQL,
/// SQL Server and SQLite, and refuses others. SQL Server was not run: the statements are those of the others, its types
/// and functions (2016 or newer) were taken from its manual. What is not ASCII needs a UTF-8 collation there.
///
/// The database is not asked before the first call, which makes the tables hsmseal_schema, hsmseal_ring,
/// hsmseal_history and hsmseal_usage if they are missing, and the file of SQLite with mode 600. A connection that broke
/// is made anew by the next call. A pooler between host and database must keep sessions: those of PgBouncer, for one, with
/// pool_mode=session.
///
/// Rights: to create the tables once; then select, insert, update and delete on the four. A role with select alone can
/// open and seal, but neither change the ring nor count wraps.
///
/// A standby of PostgreSQL lags behind and is refused, also if the URL has its host alone; of several hosts the one that
/// is no standby is taken. A URL with a target_session_attrs of its own decides that itself.
///
/// @throws InvalidArgumentError  no such URL, or an option out of its bounds. A database that does not answer throws
///                               StoreError from the store's members, now() included.
///
/// Thread safety: members may run concurrently; one connection serves them in turn. A file of SQLite serves the
/// processes of one host; it must not lie on a network's file system.
/// Fork: a child makes a connection of its own at its first call. Its parent's it neither uses nor closes, so that both
/// go on, and keeps open what it inherited until it ends. With SQLite, and over ODBC, fork while no thread is in a member:
/// all members throw StoreError otherwise in a child that does not start a program.
/// Blocking: with PostgreSQL a call takes at most about four times SqlOptions::timeout, or eight if it stores a record and
/// cannot find out whether it did; more if connecting takes the two seconds that libpq grants at least, if the URL has a
/// connect_timeout of its own, or several hosts. A thread of the store's own cuts the connection off then, so that a
/// record has to get there in twice SqlOptions::timeout. Over ODBC the driver alone can limit it: PostgreSQL's waits
/// without end for a server that keeps the connection and says nothing; and the stores of a process connect one after
/// the other.
/// Conformance: trusts the database to keep what it committed.
[[nodiscard]] HSMSEAL_SQL_API std::shared_ptr<RingStore> sql_ring_store(std::string_view url, SqlOptions options = {});

}  // namespace hsmseal
