#pragma once

#include <stdexcept>
#include <string>

#include "exit_codes.hpp"

namespace tool {

/// What the tool itself finds wrong. Messages are like the library's: lower case, no full stop, and the cure behind a
/// semicolon.
class Failure : public std::runtime_error {
 public:
  Failure(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] Exit code() const noexcept { return code_; }

 private:
  Exit code_;
};

/// The command line or the host file is wrong.
struct UsageError : Failure {
  explicit UsageError(const std::string& message) : Failure(Exit::Usage, message) {}
};

}  // namespace tool
