#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "exit_codes.hpp"
#include "host_file.hpp"
#include "output.hpp"

namespace tool {

/// What a command does once the whole command line is understood.
using Action = std::function<Exit()>;

/// The command line, and what holds for every command.
class Tool {
 public:
  Tool();

  /// Adds a command below another one, or at the top.
  CLI::App* command(CLI::App* parent, const std::string& name, const std::string& description, Action action);
  CLI::App* command(const std::string& name, const std::string& description, Action action) {
    return command(&app_, name, description, std::move(action));
  }
  /// Adds a command that only has others below it.
  CLI::App* group(const std::string& name, const std::string& description);

  /// Understands the command line and does what it says. Errors are told on the standard error.
  /// @returns the exit code.
  int run(int argc, char** argv);

  [[nodiscard]] Output output() const { return Output{json_ ? Format::Document : Format::Lines}; }
  /// The host file of --host, HSMSEAL_HOST, or hsmseal.json here.
  [[nodiscard]] std::string host_path() const;
  [[nodiscard]] HostFile host() const { return HostFile::read(host_path()); }

 private:
  int fail(const std::string& message, Exit code) const;

  CLI::App app_;
  bool json_ = false;
  std::string host_;
  Action chosen_;
};

// One for each file of commands.
void add_driver_commands(Tool& tool);
void add_doctor(Tool& tool);
void add_conformance(Tool& tool);
void add_ring_commands(Tool& tool);
void add_seal_and_open(Tool& tool);
void add_inspect(Tool& tool);
void add_rewrap_and_reseal(Tool& tool);
void add_bench(Tool& tool);

}  // namespace tool
