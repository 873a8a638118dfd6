#include "support/opencryptoki.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>

#include <fmt/format.h>
#include <pwd.h>
#include <sys/types.h>
#include <unistd.h>

#include "support/catch.hpp"
#include "support/softhsm.hpp"

namespace hsmseal::test {
namespace {

namespace fs = std::filesystem;

/// Set in the namespaces, to the namespace of mounts outside.
constexpr const char* kInside = "HSMSEAL_TEST_IN_NAMESPACES";
constexpr const char* kUnshare = "unshare --mount --ipc --pid --fork --mount-proc --kill-child";

std::string mounts() { return fs::read_symlink("/proc/self/ns/mnt").string(); }

/// What keeps these tests from running here; empty if nothing does.
std::string obstacle() {
  if (::geteuid() != 0) return "openCryptoki's daemon needs root";
  if (std::system("command -v pkcsslotd pkcsconf > /dev/null 2>&1") != 0) return "openCryptoki is not installed";
  if (std::system(fmt::format("{} true > /dev/null 2>&1", kUnshare).c_str()) != 0) return "no namespaces here";
  return {};
}

std::string content_of(const fs::path& path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

std::string shell_word(std::string_view text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string{"'\\''"} : std::string{c};
  return result + "'";
}

/// As Catch wants a name in which a comma means another one, and brackets a tag.
std::string as_filter(std::string_view name) {
  std::string result;
  for (const char c : name) {
    if (c == ',' || c == '[') result += '\\';
    result += c;
  }
  return result;
}

std::string seven_digits() {
  std::random_device random;
  return fmt::format("{:07}", random() % 10'000'000);
}

/// The daemon's files where it expects them, on file systems that go with the namespaces.
constexpr const char* kPlaces = R"(set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib/opencryptoki
mount -t tmpfs tmpfs /dev/shm
printf 'version opencryptoki-3.1\nslot 0\n{{\nstdll = libpkcs11_sw.so\n{}}}\n' > /run/opencryptoki.conf
mount --bind /run/opencryptoki.conf /etc/opencryptoki/opencryptoki.conf
chgrp pkcs11 /var/lib/opencryptoki
mkdir -p /run/lock
install -d -m 770 -g pkcs11 /var/lock/opencryptoki /var/lock/opencryptoki/swtok
install -d -m 770 -g pkcs11 /var/lib/opencryptoki/swtok /var/lib/opencryptoki/swtok/TOK_OBJ
)";

/// Newer daemons run as a user of their own, who needs a folder.
bool has_user_of_its_own() { return ::getpwnam("pkcsslotd") != nullptr; }

fs::path daemons_folder() { return has_user_of_its_own() ? "/run/opencryptoki" : "/run"; }

/// The daemon's process, or 0.
pid_t daemon() {
  pid_t id = 0;
  std::ifstream{daemons_folder() / "pkcsslotd.pid"} >> id;
  return id > 0 && ::kill(id, 0) == 0 ? id : 0;
}

template <typename Condition>
void wait_until(std::string_view what, const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error(fmt::format("not in 30 s: {}", what));
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
}

}  // namespace

bool OpenCryptoki::ran_in_namespaces(OutputOf shown) {
  if (std::getenv(kInside) != nullptr) return false;
  if (const std::string why = obstacle(); !why.empty()) {
    const char* require_all = std::getenv("HSMSEAL_REQUIRE_ALL");
    if (require_all != nullptr && std::string_view{require_all} == "1") FAIL(why);
    WARN("skipped: " << why);
    return true;
  }
  const ScratchDirectory directory;
  const auto output = directory.path() / "output";
  const auto program = fs::read_symlink("/proc/self/exe");
  const auto name = Catch::getResultCapture().getCurrentTestName();
  // The shell is the first process there and takes care of daemons that end.
  const int status =
      std::system(fmt::format("{}='{}' {} sh -c '\"$0\" \"$@\"; exit $?' {} {} > {} 2>&1", kInside, mounts(), kUnshare,
                              shell_word(program.string()), shell_word(as_filter(name)), output.string())
                      .c_str());
  const std::string said = content_of(output);
  INFO(said);
  CHECK(status == 0);
  // Catch2 2 reports success for a name that it does not have.
  CHECK(said.find("All tests passed") != std::string::npos);
  if (shown == OutputOf::Always && status == 0) std::fputs(said.c_str(), stdout);
  return true;
}

OpenCryptoki::OpenCryptoki(Initialized token) : pin_(seven_digits()) {
  // Or it would hide the files of the machine's own daemons from them.
  const char* outside = std::getenv(kInside);
  if (outside == nullptr || mounts() == outside) throw std::runtime_error("not in namespaces of its own");
  // Since 3.12 there is a better format of what a token stores; earlier versions do not know the word.
  run(fmt::format(kPlaces, has_user_of_its_own() ? "tokversion = 3.12\\n" : ""));
  if (has_user_of_its_own()) run("install -d -o pkcsslotd -g pkcs11 -m 710 " + daemons_folder().string());
  start_daemon();
  if (token == Initialized::No) return;
  const std::string so_pin = seven_digits();
  const auto configure = [](std::string_view lines, const std::string& action) {
    run(fmt::format("printf '{}' | pkcsconf -c 0 {} > /dev/null 2>&1", lines, action));
  };
  configure(fmt::format(R"({}\n)", kLabel), "-I -S 87654321");
  configure("", fmt::format("-P -S 87654321 -n {}", so_pin));
  configure("", fmt::format("-u -S {} -n {}", so_pin, pin_));
  // It returns 0, whatever happened.
  run("pkcsconf -t 2>&1 | grep -q USER_PIN_INITIALIZED");
}

void OpenCryptoki::start_daemon() const {
  // Seen to fail once in 500 starts, for no reason that could be found; no test is about its first try.
  constexpr const char* kSaid = "/run/pkcsslotd.output";
  const std::string start = fmt::format("pkcsslotd >> {} 2>&1", kSaid);
  constexpr int kTries = 3;
  int tries = 1;
  while (std::system(start.c_str()) != 0) {
    if (tries++ == kTries) throw std::runtime_error("pkcsslotd does not start: " + content_of(kSaid));
  }
  wait_until("openCryptoki's daemon runs",
             [] { return daemon() != 0 && fs::exists(daemons_folder() / "pkcsslotd.socket"); });
}

void OpenCryptoki::kill_daemon() const {
  const pid_t id = daemon();
  if (id == 0) throw std::runtime_error("no daemon of openCryptoki runs");
  ::kill(id, SIGKILL);
  wait_until("openCryptoki's daemon is gone", [&] { return ::kill(id, 0) != 0; });
}

std::shared_ptr<Pkcs11Module> OpenCryptoki::module() const { return Pkcs11Module::load(Host{}.driver_for(binding())); }

std::string OpenCryptoki::version() const {
  const ModuleInfo info = module()->info();
  return fmt::format("{}.{}", info.library_major, info.library_minor);
}

void OpenCryptoki::destroy_key_with_pkcs11_tool(const std::string& id_hex) const {
  run(
      fmt::format("pkcs11-tool --module {} --token-label {} --login --pin {} --delete-object --type secrkey --id {} "
                  "> /dev/null 2>&1",
                  Host{}.driver_for(binding()).library.string(), kLabel, pin_, id_hex));
}

TokenBinding OpenCryptoki::binding() const {
  return {.driver = "opencryptoki",
          .select = {.label = kLabel},
          .pin = PinSource::callback([pin = pin_](const TokenSelector&) { return SecretBytes::from_text(pin); })};
}

std::string OpenCryptoki::wrong_pin() const { return pin_ == "7654321" ? "7654322" : "7654321"; }

}  // namespace hsmseal::test
