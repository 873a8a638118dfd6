#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <sys/wait.h>
#include <unistd.h>

#include "rewrap/tables.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// Processes that rewrap a table, with the keys in a token and the ring in a file of a folder.
class Workers {
 public:
  Workers(const std::string& kind, int rows) : table_(kind, RowForm::Text) {
    REQUIRE(run(fmt::format("prepare {}", rows)) == 0);
    std::ifstream sealed(hsm_.directory() / "sealed");
    std::string values;
    int read = 0;
    for (std::string key, text; sealed >> key >> text; ++read) {
      values += fmt::format("{}({}, '{}')", values.empty() ? "" : ", ", key, text);
    }
    REQUIRE(read == rows);
    table_.place().run("insert into vault values " + values);
  }

  int run(const std::string& action) const { return wait_for(start(action)); }

  [[nodiscard]] pid_t start(const std::string& action) const {
    const std::string line =
        fmt::format("exec env SOFTHSM2_CONF={} {} {} '{}' {} > {} 2>&1", hsm_.conf().string(), HSMSEAL_REWRAP_WORKER,
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

  [[nodiscard]] std::string said() const {
    std::ifstream file(hsm_.directory() / "output");
    return {std::istreambuf_iterator<char>{file}, {}};
  }

  /// How many rows are not under the first set any more.
  [[nodiscard]] int moved() const {
    return std::stoi(
        table_.place().value("select cast(count(*) as varchar(9)) from vault where substr(sealed, 22, 6) <> 'AAAAAQ'"));
  }

  /// Kills a run when it has moved so many rows.
  void kill_at(int rows) const {
    const pid_t child = start("rewrap 2");
    int status = 0;
    while (moved() < rows) {
      const pid_t ended = waitpid(child, &status, WNOHANG);
      INFO(said());
      REQUIRE(ended == 0);
      usleep(20'000);
    }
    ::kill(child, SIGKILL);
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
  }

  /// Opens all rows in another process.
  [[nodiscard]] std::string checked() const {
    std::ofstream rows(hsm_.directory() / "rows");
    for (const std::string& line : lines()) rows << line << '\n';
    rows.close();
    run("check");
    return said();
  }

 private:
  [[nodiscard]] std::vector<std::string> lines() const {
    std::vector<std::string> found;
    std::vector<std::string> keys;
    for (int i = 1; i <= std::stoi(table_.place().value("select cast(max(id) as varchar(9)) from vault")); ++i) {
      keys.push_back(std::to_string(i));
    }
    for (const auto& row : table_.source()->read(keys)) {
      if (row)
        found.push_back(row->key + " " +
                        std::string{reinterpret_cast<const char*>(row->value.data()), row->value.size()});
    }
    return found;
  }

  SoftHsm hsm_{{"hsm1"}};
  Table table_;
};

}  // namespace

TEST_CASE("a run that is killed twice loses no row, and the third one finishes", "[long]") {
  const std::string kind = GENERATE("postgresql", "sqlite");
  const int rows = kind == "postgresql" ? 10'000 : 2'000;
  CAPTURE(kind);
  const Workers workers{kind, rows};
  REQUIRE(workers.moved() == 0);
  workers.kill_at(rows / 4);
  const int first = workers.moved();
  workers.kill_at(first + rows / 4);
  REQUIRE(workers.moved() < rows);
  const int left = rows - workers.moved();
  const int result = workers.run("rewrap 2");
  CAPTURE(workers.said());
  CHECK(result == 0);
  CHECK_NAMES(workers.said(), fmt::format("moved {} edited 0 failed 0", left));
  CHECK(workers.moved() == rows);
  CHECK(workers.checked() == fmt::format("opened {} old 0\n", rows));
}
