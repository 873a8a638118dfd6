#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace tool {

/// What a command ends with. The table in exit_codes.cpp says what each means; --help, README and man page repeat it.
enum class Exit : int {
  Success = 0,
  Failed = 1,
  Usage = 2,
  Refused = 3,
  Unavailable = 4,
  Login = 5,
  WrongKey = 6,
  Tampered = 7,
  Store = 8,
  Conflict = 9,
  InUse = 10,
  Limit = 11,
  Problems = 12,
  NotConformant = 13,
};

struct ExitCode {
  Exit code;
  std::string_view meaning;
};

[[nodiscard]] const std::vector<ExitCode>& exit_codes();

/// The table as --help shows it.
[[nodiscard]] std::string exit_code_table();

/// What an exception ends the tool with.
[[nodiscard]] Exit exit_code_of(const std::exception& error);

}  // namespace tool
