#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace hsmseal::sql {

enum class Backend : std::uint8_t { Sqlite, Postgresql, Odbc };

/// The ring of which no message speaks.
inline constexpr const char* kUsualRing = "default";

/// Where a ring is.
struct Location {
  Backend backend = Backend::Sqlite;
  std::filesystem::path file;  ///< of SQLite, absolute
  std::string connect;         ///< what SOCI is given; may hold a password
  std::string password;        ///< if it has one that could be read out of the URL
  std::string ring = kUsualRing;
};

/// @param timeout  how long PostgreSQL may take to connect, unless the URL says so itself.
/// @throws InvalidArgumentError  no such URL. The message holds nothing of it.
[[nodiscard]] Location location_of(std::string_view url, std::chrono::milliseconds timeout);

/// Names the kind of database, the file of SQLite, and a ring that has a name of its own.
[[nodiscard]] std::string described(const Location& location);

/// What may be told of a database that could not be reached: a reason in our words, or that there is one.
///
/// Drivers quote the connection string when they do not understand it, and take the second half of a password for the
/// name of a host. So nothing of their text is passed on.
[[nodiscard]] std::string reason_of_no_connection(std::string_view text);

/// What may be told of a statement that failed: the database's text in one line, unless the password is in it.
[[nodiscard]] std::string reason_of_failure(std::string_view text, const Location& location);

}  // namespace hsmseal::sql
