#include "terminal.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <fmt/format.h>

namespace vault {
namespace {

constexpr std::size_t kLongestLine = 4096;
constexpr std::array<int, 4> kSignals = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

volatile std::sig_atomic_t interrupted = 0;

/// A terminal that shows nothing of what is typed. Signals that would end the process end the reading instead, so that the
/// terminal is always as it was afterwards.
class Silence {
 public:
  Silence() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) throw std::runtime_error("the echo cannot be turned off");
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &actions_[i]);
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  ~Silence() {
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &actions_[i], nullptr);
    std::fputs("\n", stderr);  // the one that was typed did not show
  }

 private:
  termios before_{};
  std::array<struct sigaction, kSignals.size()> actions_{};
};

/// Waits for the next byte, and looks up now and then: a signal may go to another thread.
void wait_for_input() {
  constexpr int kBetweenLooks = 100;  // milliseconds
  pollfd input{STDIN_FILENO, POLLIN, 0};
  while (interrupted == 0 && ::poll(&input, 1, kBetweenLooks) <= 0) {
  }
}

}  // namespace

/// Byte by byte, so that no buffer keeps a copy.
std::optional<hsmseal::SecretBytes> read_line() {
  hsmseal::SecretBytes line{kLongestLine};
  std::size_t size = 0;
  bool ended = false;
  while (!ended) {
    std::byte next{};
    wait_for_input();
    if (interrupted != 0) throw std::runtime_error("interrupted");
    const ssize_t got = ::read(STDIN_FILENO, &next, 1);
    if (got < 0) throw std::runtime_error("the standard input cannot be read");
    if (got == 0 && size == 0) return std::nullopt;
    ended = got == 0 || next == std::byte{'\n'};
    if (ended) break;
    if (size == kLongestLine) throw std::runtime_error(fmt::format("a line has more than {} bytes", kLongestLine));
    line.writable()[size++] = next;
  }
  line.truncate(size);
  return line;
}

hsmseal::SecretBytes ask_password() {
  std::optional<hsmseal::SecretBytes> password;
  if (::isatty(STDIN_FILENO) == 1) {
    const Silence silence;
    std::fputs("password: ", stderr);
    password = read_line();
  } else {
    password = read_line();
  }
  if (!password || password->view().empty()) throw std::runtime_error("no password was given; nothing was changed");
  return std::move(*password);
}

ProgressBar::ProgressBar() : is_terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::show(std::uint64_t done, std::uint64_t all) {
  const auto now = std::chrono::steady_clock::now();
  if (!is_terminal_ || now < next_) return;
  constexpr std::uint64_t kWidth = 40;
  const std::uint64_t full = all == 0 ? kWidth : std::min(kWidth, kWidth * done / all);
  fmt::print(stderr, "\r[{}{}] {} of {}", std::string(full, '#'), std::string(kWidth - full, '.'), done, all);
  std::fflush(stderr);
  shown_ = true;
  next_ = now + std::chrono::milliseconds{100};
}

}  // namespace vault
