#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/catch.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {

/// A command with a terminal of its own, at which the test sits.
class Terminal {
 public:
  Terminal(const Scene& scene, const std::string& command) {
    const std::string conf = scene.tokens().conf().string();
    child_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
    REQUIRE(child_ >= 0);
    if (child_ != 0) return;
    ::setenv("SOFTHSM2_CONF", conf.c_str(), 1);
    const std::string path = std::filesystem::path{HSMSEAL_TOOL}.parent_path().string() + ":" + std::getenv("PATH");
    ::setenv("PATH", path.c_str(), 1);
    if (::chdir(scene.folder().c_str()) == 0) ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::close(terminal_);
  }

  /// Reads what the terminal shows until this stands there.
  void wait_for(const std::string& text) {
    while (shown_.find(text, seen_) == std::string::npos) {
      INFO("waiting for '" << text << "', shown so far: " << shown_);
      REQUIRE(read_some());
    }
    seen_ = shown_.find(text, seen_) + text.size();
  }

  void type(const std::string& text) {
    REQUIRE(::write(terminal_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }

  /// Everything that it ever showed; the command must end.
  const std::string& all() {
    while (read_some()) {
    }
    return shown_;
  }

  int exit_code() {
    all();
    int status = 0;
    REQUIRE(::waitpid(child_, &status, 0) == child_);
    child_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  bool read_some() {
    pollfd ready{terminal_, POLLIN, 0};
    constexpr int kPatience = 60'000;  // milliseconds
    if (::poll(&ready, 1, kPatience) != 1) return false;
    char piece[512];
    const ssize_t got = ::read(terminal_, piece, sizeof piece);
    if (got <= 0) return false;
    shown_.append(piece, static_cast<std::size_t>(got));
    return true;
  }

  pid_t child_ = 0;
  int terminal_ = -1;
  std::string shown_;
  std::size_t seen_ = 0;
};

}  // namespace hsmseal::test
