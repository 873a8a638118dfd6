#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <hsmseal/key_ring.hpp>

namespace tool {

/// How an operator says how many envelopes still name a set.
struct CensusOptions {
  std::vector<std::string> files = {};
  std::string command = {};

  void add_to(CLI::App& command_line);
  [[nodiscard]] bool given() const { return !files.empty() || !command.empty(); }
  /// @throws UsageError  neither files nor a command were given, or both.
  [[nodiscard]] hsmseal::Census census(const hsmseal::RingId& ring) const;
};

}  // namespace tool
