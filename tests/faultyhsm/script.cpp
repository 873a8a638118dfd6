// FAULTYHSM_SCRIPT: directives for a driver in another process.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <tuple>

#include <sys/stat.h>

#include "faultyhsm/state.hpp"

namespace faulty {
namespace {

using Clock = std::chrono::steady_clock;
using Version = std::tuple<ino_t, off_t, time_t, long>;

constexpr auto kBetweenLooks = std::chrono::milliseconds(5);

struct Script {
  std::mutex mutex;
  std::atomic<bool> named{false};
  std::atomic<Clock::rep> next_look{0};
  std::string path;
  std::optional<Version> read;
};

Script& script() {
  static auto* const instance = new Script;
  return *instance;
}

std::optional<Version> version_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return Version{status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

[[noreturn]] void give_up(const std::string& path, unsigned long line, const std::string& text) {
  // A fault that never comes would let its test pass.
  std::fprintf(stderr, "faultyhsm: %s:%lu is no directive: %s\n", path.c_str(), line, text.c_str());
  std::abort();
}

void read_if_changed(Script& one) {
  const auto version = version_of(one.path);
  if (!version || version == one.read) return;
  one.read = version;
  static_cast<void>(apply("clear"));
  std::ifstream file(one.path);
  std::string line;
  for (unsigned long number = 1; std::getline(file, line); ++number) {
    if (apply(line) != Applied::Done) give_up(one.path, number, line);
  }
}

}  // namespace

void read_script() {
  auto& one = script();
  const char* const path = std::getenv("FAULTYHSM_SCRIPT");
  if (path == nullptr || *path == '\0') return;
  const std::lock_guard lock(one.mutex);
  one.path = path;
  one.named = true;
  read_if_changed(one);
}

void read_changed_script() {
  auto& one = script();
  if (!one.named) return;
  const auto now = Clock::now();
  if (now.time_since_epoch().count() < one.next_look) return;
  const std::unique_lock lock(one.mutex, std::try_to_lock);
  if (!lock) return;
  one.next_look = (now + kBetweenLooks).time_since_epoch().count();
  read_if_changed(one);
}

}  // namespace faulty
