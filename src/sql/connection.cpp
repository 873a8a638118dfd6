#include "sql/connection.hpp"

#include <cstdint>
#include <fstream>
#include <mutex>
#include <random>
#include <system_error>
#include <utility>

#include <fmt/format.h>
// The backends are linked and named as objects. SOCI can also load them by name at run time, from a search path that
// the environment sets: whoever sets that would have code in this process.
#include <soci/odbc/soci-odbc.h>
#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>

#include <hsmseal/error.hpp>

#include "sql/of_process.hpp"
#include "sql/schema.hpp"

namespace hsmseal::sql {
namespace {

namespace fs = std::filesystem;

std::string sqlite_connect_string(const fs::path& file) { return fmt::format("dbname=\"{}\"", file.string()); }

/// Puts an SQLite database with all tables at a path where there is nothing.
///
/// It is made under another name and linked when it is whole, so that an empty file is always a damaged one, and of
/// several processes one wins.
void make_sqlite_database(const Location& location) {
  std::random_device random;
  Location made = location;
  made.file += fmt::format(".new-{:08x}{:08x}", random(), random());
  std::error_code error;
  if (!std::ofstream{made.file}) {
    throw StoreError(fmt::format("no file can be made in the folder of '{}': is the folder there, and writable?",
                                 location.file.string()));
  }
  fs::permissions(made.file, fs::perms::owner_read | fs::perms::owner_write, error);
  try {
    if (error)
      throw StoreError(fmt::format("the file '{}' cannot be made private: {}", made.file.string(), error.message()));
    soci::session session{soci::sqlite3, sqlite_connect_string(made.file)};
    bring_up_to_date(session, dialect_of(session));
    session.close();
    fs::create_hard_link(made.file, location.file, error);
  } catch (...) {
    std::error_code ignored;
    fs::remove(made.file, ignored);
    fs::remove(fs::path{made.file} += "-journal", ignored);
    throw;
  }
  std::error_code ignored;
  fs::remove(made.file, ignored);
  if (error && error != std::errc::file_exists) {
    throw StoreError(fmt::format("the file '{}' cannot be made: {}", location.file.string(), error.message()));
  }
}

void prepare_sqlite_file(const Location& location, IfMissing if_missing) {
  std::error_code error;
  if (fs::symlink_status(location.file, error).type() == fs::file_type::not_found) {
    if (if_missing == IfMissing::Refuse) {
      throw StoreError(fmt::format("the file '{}' is gone; restore it", location.file.string()));
    }
    make_sqlite_database(location);
  }
  // SQLite would make what a dangling link points to, and take what is no file for a database of its own.
  if (!fs::is_regular_file(location.file, error)) {
    throw StoreError(fmt::format("'{}' is not a file{}", location.file.string(), error ? ": " + error.message() : ""));
  }
  if (fs::file_size(location.file, error) == 0) {
    throw StoreError(
        fmt::format("the file '{}' is empty: it was cut off, or never was a database; restore it, or remove "
                    "it to begin anew",
                    location.file.string()));
  }
}

/// How ODBC takes the number that an attribute is set to.
SQLPOINTER as_pointer(std::intptr_t number) {
  return reinterpret_cast<SQLPOINTER>(number);  // NOLINT(performance-no-int-to-ptr): ODBC wants it so
}

/// Tries the connection without SOCI, which loses some 14 KiB of memory with each attempt that fails: a process that
/// asks once a second while its database is down would lose a gigabyte in a day.
void try_odbc(const Location& location, std::chrono::milliseconds timeout) {
  SQLHENV environment = nullptr;
  SQLHDBC connection = nullptr;
  std::string reason = "out of memory";
  bool connected = false;
  if (SQL_SUCCEEDED(SQLAllocHandle(SQL_HANDLE_ENV, nullptr, &environment)) &&
      SQL_SUCCEEDED(SQLSetEnvAttr(environment, SQL_ATTR_ODBC_VERSION, as_pointer(SQL_OV_ODBC3), 0)) &&
      SQL_SUCCEEDED(SQLAllocHandle(SQL_HANDLE_DBC, environment, &connection))) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(timeout).count();
    SQLSetConnectAttr(connection, SQL_ATTR_LOGIN_TIMEOUT, as_pointer(seconds), SQL_IS_UINTEGER);
    std::string text = location.connect;
    connected = SQL_SUCCEEDED(SQLDriverConnect(connection, nullptr, reinterpret_cast<SQLCHAR*>(text.data()),
                                               static_cast<SQLSMALLINT>(text.size()), nullptr, 0, nullptr,
                                               SQL_DRIVER_NOPROMPT));
    if (connected) {
      SQLDisconnect(connection);
    } else {
      reason = soci::odbc_soci_error(SQL_HANDLE_DBC, connection, "").what();
    }
  }
  if (connection != nullptr) SQLFreeHandle(SQL_HANDLE_DBC, connection);
  if (environment != nullptr) SQLFreeHandle(SQL_HANDLE_ENV, environment);
  if (!connected) throw soci::soci_error(reason);
}

void be_silent(void*, const char*) {}

using Session = std::unique_ptr<soci::session, SessionCloser>;

Session open_odbc_session(const Location& location, std::chrono::milliseconds timeout) {
  // PostgreSQL's driver calls setlocale() when it connects, which two threads must not do at once.
  static auto* const one_at_a_time = new OfProcess<std::mutex>;
  const std::scoped_lock lock{one_at_a_time->get([](const std::mutex*) { return std::mutex{}; })};
  try_odbc(location, timeout);
  soci::connection_parameters parameters{soci::odbc, location.connect};
  parameters.set_option(soci::odbc_option_driver_complete, std::to_string(SQL_DRIVER_NOPROMPT));
  Session session{new soci::session(parameters)};
  // Drivers that know this keep to it in every call. PostgreSQL's does not know it.
  const auto seconds = 2 * std::chrono::ceil<std::chrono::seconds>(timeout).count();
  SQLSetConnectAttr(static_cast<soci::odbc_session_backend&>(*session->get_backend()).hdbc_,
                    SQL_ATTR_CONNECTION_TIMEOUT, as_pointer(seconds), SQL_IS_UINTEGER);
  return session;
}

Session open_session(const Location& location, std::chrono::milliseconds timeout, IfMissing if_missing,
                     CallDeadline* deadline) {
  switch (location.backend) {
    case Backend::Sqlite:
      prepare_sqlite_file(location, if_missing);
      return Session{new soci::session(soci::sqlite3, sqlite_connect_string(location.file))};
    case Backend::Postgresql: {
      // Until it is watched, its time is limited by libpq's connect_timeout, except for one SET that SOCI sends.
      Session session{new soci::session(soci::postgresql, location.connect), SessionCloser{deadline}};
      PGconn* const connection = static_cast<soci::postgresql_session_backend&>(*session->get_backend()).conn_;
      if (deadline != nullptr) deadline->watch(PQsocket(connection));
      // libpq prints the server's notices otherwise.
      PQsetNoticeProcessor(connection, be_silent, nullptr);
      return session;
    }
    case Backend::Odbc:
      break;
  }
  return open_odbc_session(location, timeout);
}

}  // namespace

void SessionCloser::operator()(soci::session* session) const noexcept {
  try {
    session->rollback();
  } catch (const std::exception&) {
    // SQLite says so when there is nothing to take back. Over ODBC, SOCI's destructor throws when a connection cannot be
    // closed, as with a transaction in it, and that would end the process: lose its memory instead.
    if (session->get_backend_name() == "odbc") return;
  }
  if (deadline != nullptr) deadline->unwatch();
  delete session;
}

Connection::Connection(const Location& location, std::chrono::milliseconds timeout, IfMissing if_missing,
                       CallDeadline* deadline, Schema schema) {
  try {
    session_ = open_session(location, timeout, if_missing, deadline);
  } catch (const soci::soci_error& error) {
    const std::string text = error.get_error_message();
    throw StoreError(fmt::format(
        "{}: cannot connect: {}", described(location),
        location.backend == Backend::Sqlite ? reason_of_failure(text, location) : reason_of_no_connection(text)));
  }
  try {
    dialect_ = &dialect_of(*session_);
    for (const std::string_view statement : dialect_->on_connect) {
      if (statement.empty()) break;
      *session_ << fmt::format(fmt::runtime(statement), fmt::arg("timeout", timeout.count()),
                               fmt::arg("half", timeout.count() / 2));
    }
    if (schema == Schema::Hsmseal) bring_up_to_date(*session_, *dialect_);
  } catch (const soci::soci_error& error) {
    throw StoreError(fmt::format("{}: the tables cannot be used: {}", described(location),
                                 reason_of_failure(error.get_error_message(), location)));
  }
}

bool Connection::in_place() {
  if (session_->get_backend_name() != "sqlite3") return true;
  int moved = 0;
  const int result =
      sqlite_api::sqlite3_file_control(static_cast<soci::sqlite3_session_backend&>(*session_->get_backend()).conn_,
                                       nullptr, SQLITE_FCNTL_HAS_MOVED, &moved);
  return result != SQLITE_OK || moved == 0;  // not every system has this question, nor lets open files be removed
}

}  // namespace hsmseal::sql
