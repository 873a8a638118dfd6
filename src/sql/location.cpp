#include "sql/location.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <soci/postgresql/soci-postgresql.h>

#include <hsmseal/error.hpp>

namespace hsmseal::sql {
namespace {

constexpr std::size_t kLongestText = 400;

constexpr const char* kNoConninfo =
    "the URL of a PostgreSQL store is not a libpq connection string; check the keywords; in a URI, : / @ of a password "
    "are written %3A %2F %40";

constexpr std::string_view kUrls =
    "a store's URL begins with 'sqlite:', 'postgresql:' or 'odbc:'; see hsmseal/sql_ring_store.hpp";

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lower_case(std::string_view text) {
  std::string result{text};
  std::ranges::transform(result, result.begin(), lower);
  return result;
}

Location sqlite_location(std::string_view path) {
  if (path.empty()) throw InvalidArgumentError("the URL of an SQLite store names no file");
  if (path == ":memory:") {
    throw InvalidArgumentError(
        "an SQLite database in memory is another one for each connection; memory_ring_store() is "
        "the store for that");
  }
  // SOCI's connection strings cannot express these, and would silently open another file.
  if (path.find_first_of(std::string_view{"\"\0", 2}) != std::string_view::npos) {
    throw InvalidArgumentError("the path of an SQLite store has a quotation mark or a zero in it");
  }
  std::error_code error;
  const auto file = std::filesystem::absolute(path, error);
  if (error) throw InvalidArgumentError("the path of an SQLite store has no meaning here: " + error.message());
  return {.backend = Backend::Sqlite, .file = file, .connect = {}, .password = {}};
}

using ConninfoOptions = std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)>;

/// What a libpq connection string says, be it a URI or a list.
std::map<std::string, std::string> read_conninfo(const std::string& conninfo) {
  char* message = nullptr;
  const ConninfoOptions options{PQconninfoParse(conninfo.c_str(), &message), &PQconninfoFree};
  PQfreemem(message);  // it quotes what was not understood
  if (!options) throw InvalidArgumentError(kNoConninfo);
  std::map<std::string, std::string> values;
  for (const auto* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) values.emplace(option->keyword, option->val);
  }
  return values;
}

std::string write_conninfo(const std::map<std::string, std::string>& values) {
  std::string conninfo;
  for (const auto& [keyword, value] : values) {
    conninfo += keyword + "='";
    for (const char c : value) {
      if (c == '\'' || c == '\\') conninfo += '\\';
      conninfo += c;
    }
    conninfo += "' ";
  }
  return conninfo;
}

Location postgresql_location(std::string_view url, std::chrono::milliseconds timeout) {
  constexpr std::string_view kScheme = "postgresql:";
  const auto rest = url.substr(kScheme.size());
  if (rest.empty() || rest.find('\0') != std::string_view::npos) {
    throw InvalidArgumentError(kNoConninfo);
  }
  auto values = read_conninfo(std::string{rest.starts_with("//") ? url : rest});
  values["client_encoding"] = "UTF8";
  const auto seconds = std::max<std::chrono::seconds>(std::chrono::ceil<std::chrono::seconds>(timeout),
                                                      std::chrono::seconds{2});  // libpq takes 1 for 2
  values.try_emplace("connect_timeout", std::to_string(seconds.count()));
  // A host that vanished from the network must not hold a call for ever, as it would without these.
  values.try_emplace("tcp_user_timeout", std::to_string(timeout.count()));
  values.try_emplace("keepalives_idle", std::to_string(seconds.count()));
  values.try_emplace("fallback_application_name", "hsmseal");
  // A standby lags behind: a host that reads there would take a stale ring for the newest. libpq before 14 has no name
  // for this one; its own also refuses servers that may only be read.
  values.try_emplace("target_session_attrs", PQlibVersion() >= 140'000 ? "primary" : "read-write");
  const auto password = values.find("password");
  return {.backend = Backend::Postgresql,
          .file = {},
          .connect = write_conninfo(values),
          .password = password == values.end() ? std::string{} : password->second};
}

/// The value of PWD or Password in an ODBC connection string; in braces, two closing ones stand for one.
std::string odbc_password(std::string_view connect) {
  while (!connect.empty()) {
    const auto equals = connect.find('=');
    if (equals == std::string_view::npos) break;
    auto key = lower_case(connect.substr(0, equals));
    std::erase(key, ' ');
    connect.remove_prefix(equals + 1);
    std::string value;
    if (connect.starts_with('{')) {
      connect.remove_prefix(1);
      while (!connect.empty() && (connect.front() != '}' || connect.starts_with("}}"))) {
        connect.remove_prefix(connect.starts_with("}}") ? 1 : 0);
        value += connect.front();
        connect.remove_prefix(1);
      }
    } else {
      value = connect.substr(0, connect.find(';'));
    }
    if (key == "pwd" || key == "password") return value;
    const auto end = connect.find(';');
    if (end == std::string_view::npos) break;
    connect.remove_prefix(end + 1);
  }
  return {};
}

Location odbc_location(std::string_view connect) {
  // The driver manager takes the length in 16 bits.
  if (connect.empty() || connect.size() > 32'000 || connect.find('\0') != std::string_view::npos) {
    throw InvalidArgumentError("the URL of an ODBC store is not a connection string");
  }
  return {.backend = Backend::Odbc, .file = {}, .connect = std::string{connect}, .password = odbc_password(connect)};
}

}  // namespace

Location location_of(std::string_view url, std::chrono::milliseconds timeout) {
  const auto colon = url.find(':');
  const auto scheme = url.substr(0, colon == std::string_view::npos ? 0 : colon);
  if (scheme == "sqlite") return sqlite_location(url.substr(colon + 1));
  if (scheme == "postgresql") return postgresql_location(url, timeout);
  if (scheme == "odbc") return odbc_location(url.substr(colon + 1));
  throw InvalidArgumentError(std::string{kUrls});
}

std::string described(const Location& location) {
  std::string text = location.backend == Backend::Postgresql ? "PostgreSQL" : "ODBC";
  if (location.backend == Backend::Sqlite) text = fmt::format("SQLite file '{}'", location.file.string());
  if (location.ring != kUsualRing) text += fmt::format(", ring '{}'", location.ring);
  return text;
}

std::string reason_of_no_connection(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 23> kReasons{{
      {"password authentication failed", "it refused the user or the password"},
      {"login failed", "it refused the user or the password"},
      {"no password supplied", "it asks for a password, and there is none in the URL or on the host"},
      {"no pg_hba.conf entry", "its pg_hba.conf does not let this user in from here"},
      {"can't open lib", "the ODBC driver that the URL names is not installed"},
      {"data source name not found", "the URL names neither a driver nor a data source of this host"},
      {"could not translate host name", "the host's name is not known"},
      {"no such file or directory", "nothing listens there"},
      {"connection refused", "nothing listens there"},
      {"timeout", "it did not answer in time"},
      {"timed out", "it did not answer in time"},
      {"hot standby", "it is a standby, which may lag behind"},
      {"session is read-only", "it may only be read, as a standby that may lag behind"},
      {"starting up", "it is starting up"},
      {"shutting down", "it is shutting down"},
      {"recovery", "it is recovering"},
      {"too many", "it has too many connections"},
      {"remaining connection slots", "it has too many connections"},
      {"role \"", "it has no such user, or the user may not log in"},
      {"permission denied", "the user may not connect to it"},
      {"database \"", "it has no such database, or the database takes no connections"},
      {"server closed the connection", "it closed the connection"},
      {"ssl", "TLS was not agreed on, or the server's certificate not accepted"},
  }};
  const std::string said = lower_case(text);
  const auto reason =
      std::ranges::find_if(kReasons, [&](const auto& known) { return said.find(known.first) != std::string::npos; });
  if (reason != kReasons.end()) return std::string{reason->second};
  return "the driver's reason is not repeated here, since it may quote the URL; connect with the database's own client "
         "to see it";
}

std::string reason_of_failure(std::string_view text, const Location& location) {
  std::string line;
  for (const char c : text.substr(0, kLongestText)) {
    const bool blank = c == '\n' || c == '\t' || c == '\r' || c == ' ';
    if (!blank) line += c;
    if (blank && !line.empty() && line.back() != ' ') line += ' ';
  }
  // SOCI's own words before those of PostgreSQL, such as "Cannot execute query. Fatal error. ".
  constexpr std::string_view kFatal = "Fatal error. ";
  const auto fatal = line.find(kFatal);
  if (line.starts_with("Cannot ") && fatal == line.find(". ") + 2) line.erase(0, fatal + kFatal.size());
  while (line.ends_with(' ') || line.ends_with('.')) line.pop_back();
  if (!location.password.empty() && text.find(location.password) != std::string_view::npos) {
    return "the database's reason holds the URL's password and is not repeated here";
  }
  return line;
}

}  // namespace hsmseal::sql
