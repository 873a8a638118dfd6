#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/catch.hpp"
#include "support/softhsm.hpp"

using hsmseal::test::DirectoryUse;
using hsmseal::test::SoftHsm;

namespace {

constexpr int kRounds = 50;
constexpr int kProcesses = 4;

/// Both ends of a pipe, closed at the end.
class Pipe {
 public:
  Pipe() { REQUIRE(::pipe2(ends_.data(), O_CLOEXEC) == 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close(0);
    close(1);
  }
  [[nodiscard]] int end(std::size_t which) const { return ends_.at(which); }
  void close(std::size_t which) {
    if (ends_.at(which) >= 0) ::close(ends_.at(which));
    ends_.at(which) = -1;
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

/// What went wrong, and how often.
using Failures = std::map<std::string, int>;

std::string first_line(const std::filesystem::path& path) {
  std::string line;
  std::getline(std::ifstream{path}, line);
  return line;
}

/// Processes that are all ready before the first of them loads the driver.
int start_at_once(const SoftHsm& hsm, Failures& failures) {
  Pipe begin, ready;
  const auto said_by = [&](std::size_t i) { return hsm.directory() / fmt::format("said.{}", i); };
  std::array<pid_t, kProcesses> processes{};
  for (std::size_t i = 0; i < processes.size(); ++i) {
    const std::string said = said_by(i), conf = "SOFTHSM2_CONF=" + hsm.conf().string();
    const std::string pin = hsm.directory() / "start.pin";
    processes[i] = ::fork();
    REQUIRE(processes[i] >= 0);
    if (processes[i] != 0) continue;
    const int errors = ::open(said.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ::dup2(begin.end(0), STDIN_FILENO);
    ::dup2(ready.end(1), STDOUT_FILENO);
    ::dup2(errors, STDERR_FILENO);
    ::execl("/usr/bin/env", "env", conf.c_str(), HSMSEAL_TOKEN_START, pin.c_str(), "find", nullptr);
    ::_exit(127);
  }
  ready.close(1);
  begin.close(0);
  char byte = 0;
  for (int i = 0; i < kProcesses; ++i) REQUIRE(::read(ready.end(0), &byte, 1) == 1);
  begin.close(1);
  int succeeded = 0;
  for (std::size_t i = 0; i < processes.size(); ++i) {
    int status = 0;
    REQUIRE(::waitpid(processes[i], &status, 0) == processes[i]);
    if (status == 0) {
      ++succeeded;
    } else {
      ++failures[WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status)) : first_line(said_by(i))];
    }
  }
  return succeeded;
}

void check_starts(DirectoryUse where) {
  const SoftHsm hsm{{"start"}, where};
  hsmseal::test::run(fmt::format("SOFTHSM2_CONF={} {} {} make", hsm.conf().string(), HSMSEAL_TOKEN_START,
                                 (hsm.directory() / "start.pin").string()));
  Failures failures;
  int succeeded = 0;
  for (int round = 0; round < kRounds; ++round) succeeded += start_at_once(hsm, failures);
  int failed = 0;
  std::string summary;
  for (const auto& [what, count] : failures) {
    failed += count;
    summary += fmt::format("\n{} times: {}", count, what);
  }
  WARN(succeeded << " of " << kRounds * kProcesses << " starts succeeded" << summary);
  CHECK(succeeded + failed == kRounds * kProcesses);
  CHECK(succeeded == kRounds * kProcesses);
}

}  // namespace

// A login rewrites a file of SoftHSM's token, and a process that reads it at that moment sees no token.
TEST_CASE("processes that start at once all reach a SoftHSM in memory") { check_starts(DirectoryUse::Data); }

TEST_CASE("processes that start at once all reach a SoftHSM on a disk") { check_starts(DirectoryUse::Disk); }
