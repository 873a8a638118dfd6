#include "sql/limited_connection.hpp"

#include <fmt/format.h>
#include <soci/soci.h>

namespace hsmseal::sql {

LimitedConnection::LimitedConnection(const Location& location, std::chrono::milliseconds timeout)
    : call_limit_(2 * timeout) {
  if (location.backend == Backend::Postgresql) deadline.emplace(call_limit_);
}

LimitedConnection::~LimitedConnection() {
  // Its thread has been started if there is a connection, so that nothing is thrown.
  if (!connection) return;
  const CallDeadline::Call closing{limit()};
  connection.reset();
}

std::string LimitedConnection::reason_of(const soci::soci_error& error, const Location& location) {
  if (deadline && deadline->passed()) return fmt::format("it did not answer within {} ms", call_limit_.count());
  return reason_of_failure(error.get_error_message(), location);
}

}  // namespace hsmseal::sql
