#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <unistd.h>

#include "support/softhsm.hpp"

namespace hsmseal::test {

/// A PostgreSQL server of the tests' own: in a private directory, on a Unix socket, with nothing kept safe from a crash
/// of the machine. It runs as this user, or as user postgres if this is root, whom PostgreSQL refuses.
///
/// User postgres needs no password; user keeper has kPassword, and the server asks for it.
class PostgresServer {
 public:
  static constexpr const char* kPassword = "Xy7:wq/Gate@Lock";

  /// The server that all tests of one run of ctest share, which starts it before them; a server of this process's own
  /// if a test program was started by hand.
  static PostgresServer& shared();

  /// Makes a server and starts it. Fails if PostgreSQL is not installed.
  PostgresServer();
  /// One that was left running.
  explicit PostgresServer(std::filesystem::path folder) : folder_(std::move(folder)) {}
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;
  ~PostgresServer();

  void start() const;
  void stop() const { control("-m fast -w stop"); }
  /// Ends it as a crash would: nothing is written, no client is told.
  void kill() const { control("-m immediate -w stop"); }
  void restart() const {
    kill();
    start();
  }
  /// Makes it a standby, of no other server, from its next start on.
  void become_standby() const;
  /// Stops all its processes where they are, with their connections open, and lets them go on.
  void freeze() const;
  void thaw() const;
  /// @returns the folder, for who ends it.
  std::filesystem::path leave_running();
  /// Stops it and removes its folder.
  void end() const;

  /// What libpq needs to connect. @param port  another one for a proxy in the server's folder.
  [[nodiscard]] std::string conninfo(const std::string& database, int port = kPort) const;
  [[nodiscard]] std::string odbc_connection_string(const std::string& database, int port = kPort) const;
  /// Makes a database and returns its name.
  [[nodiscard]] std::string new_database() const;
  /// Runs statements, one after the other, as a superuser.
  void run(const std::string& database, const std::string& statements) const;
  /// The first column of the first row.
  [[nodiscard]] std::string value(const std::string& database, const std::string& query) const;
  [[nodiscard]] std::filesystem::path socket(int port = kPort) const;

 private:
  static constexpr int kPort = 5432;

  void control(const std::string& arguments) const;
  void signal_all(int signal) const;

  const pid_t maker_ = ::getpid();  ///< its children exit() too
  std::unique_ptr<ScratchDirectory> own_;
  std::filesystem::path folder_;
};

}  // namespace hsmseal::test
