#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <hsmseal/context.hpp>

namespace tool {

/// What an envelope is bound to, as the command line says it.
class ContextOptions {
 public:
  void add_to(CLI::App& command);
  /// Must be called before view().
  /// @throws UsageError  neither pairs nor --no-context, or a pair is wrong.
  void check();
  [[nodiscard]] hsmseal::ContextView view() const;

 private:
  std::vector<std::string> pairs_;
  bool none_ = false;
  hsmseal::Context context_;
};

}  // namespace tool
