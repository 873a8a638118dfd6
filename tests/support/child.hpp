#pragma once

#include <csignal>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/catch.hpp"

namespace hsmseal::test {

/// A process that does one thing and ends: with 0 if that returns true, with 1 if it returns false, with 2 if it throws.
class Child {
 public:
  template <typename Work>
  explicit Child(const Work& work) : id_(::fork()) {
    if (id_ != 0) return;
    int result = 2;
    try {
      result = work() ? 0 : 1;
    } catch (...) {
      // Said by the result; Catch must not report from here.
    }
    ::_exit(result);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (id_ > 0) kill();
  }

  /// Its exit status, or -1 if it was killed.
  int wait() {
    REQUIRE(id_ > 0);
    int status = 0;
    REQUIRE(::waitpid(id_, &status, 0) == id_);
    id_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  void kill() {
    ::kill(id_, SIGKILL);
    ::waitpid(id_, nullptr, 0);
    id_ = 0;
  }

 private:
  pid_t id_;
};

template <typename Work>
int exit_status_of(const Work& work) {
  return Child{work}.wait();
}

constexpr uid_t kNobody = 65534;

/// For a child: files of this process cannot grow beyond a size, as on a disk that is full.
inline void limit_files(rlim_t size) {
  const rlimit limit{size, size};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, SIG_IGN);
}

/// For a child of root.
inline bool become_nobody() { return ::setgid(kNobody) == 0 && ::setuid(kNobody) == 0; }

}  // namespace hsmseal::test
