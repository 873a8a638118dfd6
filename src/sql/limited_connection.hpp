#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "sql/call_deadline.hpp"
#include "sql/connection.hpp"
#include "sql/location.hpp"

namespace soci {
class soci_error;
}

namespace hsmseal::sql {

/// A connection, if it was made, and what limits the time of its calls.
struct LimitedConnection {
  /// @param timeout  of a statement; a call has twice as long.
  LimitedConnection(const Location& location, std::chrono::milliseconds timeout);
  LimitedConnection(const LimitedConnection&) = delete;
  LimitedConnection& operator=(const LimitedConnection&) = delete;
  ~LimitedConnection();

  [[nodiscard]] CallDeadline* limit() { return deadline ? &*deadline : nullptr; }
  /// What may be told of a failed call.
  [[nodiscard]] std::string reason_of(const soci::soci_error& error, const Location& location);

  std::optional<CallDeadline> deadline;  ///< of PostgreSQL
  std::unique_ptr<Connection> connection;

 private:
  const std::chrono::milliseconds call_limit_;
};

}  // namespace hsmseal::sql
