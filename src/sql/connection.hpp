#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "sql/call_deadline.hpp"
#include "sql/dialect.hpp"
#include "sql/location.hpp"

namespace soci {
class session;
}

namespace hsmseal::sql {

/// What to do when SQLite's file is not there.
enum class IfMissing : std::uint8_t {
  Make,    ///< a new one
  Refuse,  ///< it was there before
};

/// Whose tables are used.
enum class Schema : std::uint8_t {
  Hsmseal,       ///< those of a ring's store, which are made or brought up to date
  Applications,  ///< others, which are left as they are
};

/// Takes back what was not committed, and closes.
struct SessionCloser {
  CallDeadline* deadline = nullptr;  ///< if it watches the session
  void operator()(soci::session* session) const noexcept;
};

/// One session with the database. A session in which a call failed is closed, not used again.
class Connection {
 public:
  /// Connects.
  /// @param deadline  watches it until it is closed; nothing, if there is no limit. Retained.
  /// @throws StoreError
  Connection(const Location& location, std::chrono::milliseconds timeout, IfMissing if_missing, CallDeadline* deadline,
             Schema schema);

  [[nodiscard]] soci::session& session() noexcept { return *session_; }
  [[nodiscard]] const Dialect& dialect() const noexcept { return *dialect_; }

  /// Whether SQLite's file is still the one at its path: SQLite goes on in a file that was removed. True for servers.
  [[nodiscard]] bool in_place();

 private:
  std::unique_ptr<soci::session, SessionCloser> session_;
  const Dialect* dialect_ = nullptr;
};

}  // namespace hsmseal::sql
