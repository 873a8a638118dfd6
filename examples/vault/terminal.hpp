#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include <hsmseal/secret_bytes.hpp>

namespace vault {

/// The next line of the standard input without its end, in memory that is wiped; nothing at the end.
[[nodiscard]] std::optional<hsmseal::SecretBytes> read_line();

/// A password: typed without echo if the standard input is a terminal, and otherwise its first line. It is never an
/// argument, which other users of the machine could read.
[[nodiscard]] hsmseal::SecretBytes ask_password();

/// A bar on the standard error that grows; nothing at all if that is not a terminal.
class ProgressBar {
 public:
  ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  /// Takes the bar away.
  ~ProgressBar();

  void show(std::uint64_t done, std::uint64_t all);

 private:
  const bool is_terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point next_ = {};
};

}  // namespace vault
