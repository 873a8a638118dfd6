#include "soak/scene.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/postgres.hpp"

namespace hsmseal::test {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// Something else after each change of a file.
std::pair<std::uintmax_t, fs::file_time_type> state_of(const fs::path& path) {
  std::error_code missing;
  const auto size = fs::file_size(path, missing);
  return {size, fs::last_write_time(path, missing)};
}

}  // namespace

bool soaking() { return std::getenv("HSMSEAL_SOAK") != nullptr; }

Scene::Scene(Database database) : Scene(SoftHsm{{"hsm1", "hsm2"}}.directory(), database, {}) {}

Scene::Scene(const fs::path& from, Database database, const std::string& copied_name) : database_(database) {
  fs::copy(from, folder(), fs::copy_options::recursive);
  std::ofstream(folder() / "softhsm2.conf") << fmt::format(
      "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
      (folder() / "tokens").string());
  if (database == Database::Sqlite) return;
  static int copies = 0;
  const auto& server = PostgresServer::shared();
  name_ = copied_name.empty() ? server.new_database() : fmt::format("copy_{}_{}", getpid(), ++copies);
  if (!copied_name.empty()) {
    server.run("postgres", fmt::format("create database \"{}\" template \"{}\"", name_, copied_name));
  }
}

Scene Scene::copy() const { return Scene{folder(), database_, name_}; }

void Scene::lose_database() {
  if (database_ == Database::Sqlite) {
    fs::remove(folder() / "ring.db");
  } else {
    name_ = PostgresServer::shared().new_database();
  }
}

std::string Scene::command(const std::string& action, const std::vector<std::string>& environment,
                           const std::string& output) const {
  const std::string dir = folder().string();
  const std::string url = database_ == Database::Sqlite ? "sqlite:" + dir + "/ring.db"
                                                        : "postgresql:" + PostgresServer::shared().conninfo(name_);
  return fmt::format("exec env SOFTHSM2_CONF={0}/softhsm2.conf {1} {2} {0} '{3}' {4} > {0}/{5} 2>&1", dir,
                     fmt::join(environment, " "), HSMSEAL_RING_WORKER, url, action, output);
}

Scene::Outcome Scene::run(const std::string& action, const std::vector<std::string>& environment,
                          const std::string& output) const {
  const int status = std::system(command(action, environment, output).c_str());
  return {WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, WEXITSTATUS(status), read_file(folder() / output)};
}

std::string Scene::must(const std::string& action) const {
  Outcome outcome = run(action);
  if (outcome.killed || outcome.exit_code != 0) throw std::runtime_error(action + ": " + outcome.output);
  return outcome.output;
}

Scene::Outcome Scene::run_and_kill(const std::string& action, long microseconds) const {
  const std::string line = command(action, {}, "output");
  const fs::path envelopes = folder() / "envelopes";
  const auto before = state_of(envelopes);
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    _exit(127);
  }
  // On a loaded machine a worker takes longer to start than it then has to live.
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes{1};
  int status = 0;
  bool sealed = false, ended = false;
  while (!sealed && !ended && std::chrono::steady_clock::now() < end) {
    usleep(1'000);
    sealed = state_of(envelopes) != before;
    ended = waitpid(child, &status, WNOHANG) == child;
  }
  if (!ended) {
    if (sealed) usleep(static_cast<useconds_t>(microseconds));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  if (!sealed) throw std::runtime_error(action + " sealed nothing: " + read_file(folder() / "output"));
  return {WIFSIGNALED(status) != 0, WEXITSTATUS(status), read_file(folder() / "output")};
}

long Scene::instants_of(const std::string& action) const {
  const Scene trial = copy();
  const fs::path count = trial.folder() / "instants";
  const Outcome outcome =
      trial.run(action, {std::string{"LD_PRELOAD="} + HSMSEAL_KILL_AT_LIBRARY, "HSMSEAL_KILL_COUNT=" + count.string()});
  if (outcome.exit_code != 0) throw std::runtime_error(action + ": " + outcome.output);
  return std::stol(read_file(count));
}

long told(const std::string& check_output, const std::string& name) {
  const auto at = check_output.find(name + " ");
  if (at == std::string::npos) throw std::runtime_error("check did not tell " + name + ": " + check_output);
  return std::stol(check_output.substr(at + name.size() + 1));
}

}  // namespace hsmseal::test
