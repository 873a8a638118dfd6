#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "support/softhsm.hpp"

namespace hsmseal::test {

/// Whether the long runs were asked for: sh cmake/setup.sh soak.
[[nodiscard]] bool soaking();

/// Where a scene's ring is stored.
enum class Database { Sqlite, Postgresql };

/// Two tokens, a ring's store, its pin and its envelopes, in a folder on which worker processes work.
class Scene {
 public:
  explicit Scene(Database database);

  /// The same at this moment, in a folder and a database of its own.
  [[nodiscard]] Scene copy() const;
  /// Puts an empty database in the place of the ring's.
  void lose_database();

  /// What a worker process came to.
  struct Outcome {
    bool killed = false;
    int exit_code = 0;
    std::string output;  ///< of both streams
  };

  /// Runs a worker to its end.
  /// @param environment  more variables, as `NAME=value`.
  /// @param output       the name of the file for what it says; one each if several run at once.
  Outcome run(const std::string& action, const std::vector<std::string>& environment = {},
              const std::string& output = "output") const;
  /// Fails the test if the worker fails.
  std::string must(const std::string& action) const;
  /// Kills the worker some microseconds after it has sealed its first envelope, unless it ends before.
  /// @throws std::runtime_error  it sealed none in a minute; with what it said.
  Outcome run_and_kill(const std::string& action, long microseconds) const;

  /// How many instants an action has at which it may be killed, see kill_at.c.
  [[nodiscard]] long instants_of(const std::string& action) const;

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_->path(); }

 private:
  Scene(const std::filesystem::path& from, Database database, const std::string& copied_name);
  [[nodiscard]] std::string command(const std::string& action, const std::vector<std::string>& environment,
                                    const std::string& output) const;

  std::unique_ptr<ScratchDirectory> folder_ = std::make_unique<ScratchDirectory>();
  Database database_;
  std::string name_;  ///< of the database; empty: a file in the folder
};

/// A number that `check` says, such as how many "orphans" there are.
[[nodiscard]] long told(const std::string& check_output, const std::string& name);

}  // namespace hsmseal::test
