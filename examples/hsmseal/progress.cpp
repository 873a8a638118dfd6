#include "progress.hpp"

#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include "system.hpp"

namespace tool {

Progress::Progress(std::string what, std::size_t total)
    : what_(std::move(what)), total_(total), shown_(is_terminal(Stream::Error)) {}

Progress::~Progress() {
  if (shown_ && done_ != 0) std::fputs("\r\x1b[K", stderr);
}

void Progress::step() {
  ++done_;
  if (shown_ && std::chrono::steady_clock::now() >= next_) draw();
}

void Progress::draw() {
  constexpr std::size_t kWidth = 30;
  const std::size_t full = total_ == 0 ? 0 : kWidth * done_ / total_;
  fmt::print(stderr, "\r{} [{}{}] {} of {}", what_, std::string(full, '#'), std::string(kWidth - full, '.'), done_,
             total_);
  std::fflush(stderr);
  next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds{100};
}

}  // namespace tool
