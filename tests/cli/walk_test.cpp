#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include <fmt/format.h>

#include "support/catch.hpp"
#include "support/opencryptoki.hpp"
#include "support/softhsm.hpp"

namespace hsmseal::test {
namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// The commands between the marks of README.md.
std::string walk() {
  const std::string readme = content_of(fs::path{HSMSEAL_SOURCE_DIR} / "README.md");
  const std::regex marked{R"(<!-- walk: [^\n]*-->\n```sh\n([^`]*)```\n<!-- end of walk -->)"};
  std::smatch found;
  REQUIRE(std::regex_search(readme, found, marked));
  return found[1];
}

/// What the package opencryptoki makes when it is installed, empty, and gone with the namespaces.
constexpr const char* kJustInstalled = R"(set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib/opencryptoki
mount -t tmpfs tmpfs /dev/shm
chgrp pkcs11 /var/lib/opencryptoki
mkdir -p /run/lock
install -d -m 770 -g pkcs11 /var/lib/opencryptoki/swtok /var/lib/opencryptoki/swtok/TOK_OBJ
)";

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("the README's walk over two vendors' tokens works as it stands there") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  run(kJustInstalled);
  const ScratchDirectory checkout;
  fs::create_directories(checkout.path() / "build/examples");
  fs::create_symlink(HSMSEAL_TOOL, checkout.path() / "build/examples/hsmseal");
  std::ofstream{checkout.path() / "walk.sh"} << walk();
  const auto output = checkout.path() / "output";
  const int status =
      std::system(fmt::format("cd {} && sh -eu walk.sh > {} 2>&1", checkout.path().string(), output.string()).c_str());
  const std::string said = content_of(output);
  INFO(said);
  CHECK(status == 0);
  CHECK(count(said, "hunter2") == 2);                          // before the rewrap and after it
  CHECK(said.find("credential set: 2") != std::string::npos);  // of the rewrapped envelope
  for (const char* file : {"hsm1.pin", "hsm2.pin"}) {
    CHECK(said.find(content_of(checkout.path() / "vault" / file)) == std::string::npos);
  }
}

}  // namespace hsmseal::test
