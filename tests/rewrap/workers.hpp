#pragma once

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

#include "rewrap/tables.hpp"

namespace hsmseal::test {

/// What stands between worker processes and their token.
struct WorkerToken {
  bool counts = false;  ///< calls are counted, by the faulty driver
  int call_time = 0;    ///< how long those with a key take there, in microseconds
};

/// Processes that rewrap a table, with the keys in a token and the ring in a file of a folder.
class Workers {
 public:
  /// Makes a table with so many rows, all of them under the first set; the second one is active.
  /// @param secrets  of one data key.
  Workers(const std::string& kind, int rows, WorkerToken token = {}, int secrets = 1)
      : token_(token), secrets_(secrets), table_(kind, RowForm::Text) {
    REQUIRE(run(fmt::format("prepare {} {}", rows, secrets)) == 0);
    if (token_.call_time > 0) {
      std::ofstream script{hsm_.directory() / "script"};
      for (const char* call : {"C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"}) {
        script << fmt::format("delay {} {}\n", call, token_.call_time);
      }
    }
    REQUIRE(inserted() == rows);
  }

  /// Runs a worker to its end. @returns its exit code.
  int run(const std::string& action) const { return wait_for(start(action)); }

  /// The action of a worker that moves the rows with so many threads.
  [[nodiscard]] std::string rewrap(int threads) const { return fmt::format("rewrap {} {}", threads, secrets_); }

  /// What the last one printed.
  [[nodiscard]] std::string said() const {
    std::ifstream file(hsm_.directory() / "output");
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  /// The number that it printed behind a word.
  [[nodiscard]] double said(const std::string& name) const {
    std::istringstream words{said()};
    for (std::string word; words >> word;) {
      double number = 0;
      if (word == name && words >> number) return number;
    }
    INFO(said());
    FAIL("a worker did not say: " << name);
    return 0;
  }

  /// How many rows are not under the first set any more.
  [[nodiscard]] int moved() const {
    return std::stoi(
        table_.place().value("select cast(count(*) as varchar(9)) from vault where substr(sealed, 22, 6) <> 'AAAAAQ'"));
  }

  /// Starts a worker, and kills it when it has moved so many rows.
  void kill_at(int rows, const std::string& action) const {
    std::filesystem::remove(progress());
    const pid_t child = start(action);
    int status = 0;
    while (told_progress() < rows) {
      const pid_t ended = waitpid(child, &status, WNOHANG);
      INFO(said());
      REQUIRE(ended == 0);
      usleep(10'000);
    }
    ::kill(child, SIGKILL);
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
  }

  [[nodiscard]] const Table& table() const { return table_; }

 private:
  [[nodiscard]] std::filesystem::path progress() const { return hsm_.directory() / "progress"; }
  [[nodiscard]] int told_progress() const {
    int rows = 0;
    std::ifstream{progress()} >> rows;
    return rows;
  }

  /// Puts what a worker has sealed into the table, in statements that a server takes.
  [[nodiscard]] int inserted() const {
    constexpr int kAtOnce = 5'000;
    std::ifstream sealed(hsm_.directory() / "sealed");
    std::string values;
    int read = 0;
    const auto insert = [&] {
      if (!values.empty()) table_.place().run("insert into vault values " + std::exchange(values, {}));
    };
    for (std::string key, text; sealed >> key >> text;) {
      values += fmt::format("{}({}, '{}')", values.empty() ? "" : ", ", key, text);
      if (++read % kAtOnce == 0) insert();
    }
    insert();
    return read;
  }

  [[nodiscard]] pid_t start(const std::string& action) const {
    std::string environment = "SOFTHSM2_CONF=" + hsm_.conf().string();
    if (token_.counts) {
      environment += fmt::format(" HSMSEAL_REWRAP_DRIVER={} FAULTYHSM_REAL_MODULE={}", HSMSEAL_FAULTYHSM_LIBRARY,
                                 SoftHsm::library().string());
      const auto script = hsm_.directory() / "script";
      if (std::filesystem::exists(script)) environment += " FAULTYHSM_SCRIPT=" + script.string();
    }
    const std::string line =
        fmt::format("exec env {} {} {} '{}' {} > {} 2>&1", environment, HSMSEAL_REWRAP_WORKER,
                    hsm_.directory().string(), table_.place().url(), action, (hsm_.directory() / "output").string());
    const pid_t child = fork();
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    REQUIRE(child > 0);
    return child;
  }

  static int wait_for(pid_t child) {
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  const WorkerToken token_;
  const int secrets_;
  SoftHsm hsm_{{"hsm1"}};
  Table table_;
};

}  // namespace hsmseal::test
