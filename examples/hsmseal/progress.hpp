#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace tool {

/// A line on the standard error that grows while something long is done; nothing if that is no terminal.
class Progress {
 public:
  Progress(std::string what, std::size_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Wipes the line.
  ~Progress();

  void step();

 private:
  void draw();

  std::string what_;
  std::size_t total_, done_ = 0;
  bool shown_;
  std::chrono::steady_clock::time_point next_ = {};
};

}  // namespace tool
