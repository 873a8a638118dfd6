#include <filesystem>
#include <fstream>
#include <string>

#include <dlfcn.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_module.hpp>

#include "helpers.hpp"
#include "platform/platform.hpp"
#include "support/catch.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using platform::trusted_library;
using test::contains;
using test::message_of;

namespace {

namespace fs = std::filesystem;

void set_mode(const fs::path& path, mode_t mode) { REQUIRE(::chmod(path.c_str(), mode) == 0); }

/// A file that could be a driver, two private folders deep.
struct Driver {
  test::ScratchDirectory scratch;
  fs::path top = fs::canonical(scratch.path());
  fs::path folder = top / "vendor";
  fs::path file = folder / "driver.so";

  Driver() {
    fs::create_directory(folder);
    set_mode(folder, 0755);
    std::ofstream(file) << "not a library\n";
    set_mode(file, 0755);
  }
};

std::string refusal(const fs::path& path) {
  return message_of<InvalidArgumentError>([&] { (void)trusted_library(path); });
}

/// Where the loader finds a library.
fs::path path_of(const char* library) {
  void* const handle = ::dlopen(library, RTLD_NOW);
  REQUIRE(handle != nullptr);
  link_map* map = nullptr;
  REQUIRE(::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0);
  return map->l_name;
}

}  // namespace

TEST_CASE("a driver that only its owners can replace is trusted, under its real path") {
  const Driver driver;
  const auto trusted = trusted_library(driver.file);
  CHECK(trusted.path == driver.file);
  struct stat status {};
  REQUIRE(::stat(driver.file.c_str(), &status) == 0);
  CHECK(trusted.identity.device == status.st_dev);
  CHECK(trusted.identity.inode == status.st_ino);
}

TEST_CASE("a relative driver path is refused") {
  for (const char* const path : {"driver.so", "./driver.so", "../driver.so", "lib/driver.so", ""}) {
    CHECK(contains(refusal(path), "relative"));
  }
}

TEST_CASE("a relative driver path is refused even where there is such a file") {
  const Driver driver;
  const fs::path before = fs::current_path();
  fs::current_path(driver.folder);
  CHECK(contains(refusal("driver.so"), "relative"));
  fs::current_path(before);
}

TEST_CASE("a driver that is missing is refused by its name") {
  const Driver driver;
  CHECK(contains(refusal(driver.folder / "other.so"), "other.so"));
  CHECK(contains(refusal(driver.top / "nowhere" / "driver.so"), "nowhere"));
  CHECK(contains(refusal(driver.file / "driver.so"), "driver.so"));
  const fs::path dangling = driver.folder / "dangling.so";
  fs::create_symlink(driver.folder / "gone.so", dangling);
  CHECK(contains(refusal(dangling), "dangling.so"));
}

TEST_CASE("a driver that is a folder, a pipe or a device is refused") {
  const Driver driver;
  CHECK(contains(refusal(driver.folder), "not a regular file"));
  const fs::path pipe = driver.folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(refusal(pipe), "not a regular file"));
  CHECK(contains(refusal("/dev/null"), "not a regular file"));
}

TEST_CASE("a driver that its group or others may write is refused, and the message says how to close it") {
  const Driver driver;
  for (const mode_t mode : {mode_t{0775}, mode_t{0757}, mode_t{0777}, mode_t{0620}, mode_t{0602}}) {
    set_mode(driver.file, mode);
    CHECK(contains(refusal(driver.file), "chmod go-w '" + driver.file.string() + "'"));
  }
  for (const mode_t mode : {mode_t{0755}, mode_t{0555}, mode_t{0644}, mode_t{0700}}) {
    set_mode(driver.file, mode);
    CHECK(trusted_library(driver.file).path == driver.file);
  }
}

TEST_CASE("a driver in a folder that others may write is refused, however far above it is") {
  const Driver driver;
  for (const fs::path& folder : {driver.folder, driver.top}) {
    for (const mode_t mode : {mode_t{0775}, mode_t{0757}, mode_t{0777}}) {
      set_mode(folder, mode);
      CHECK(contains(refusal(driver.file), "chmod go-w '" + folder.string() + "'"));
    }
    set_mode(folder, 0755);
    CHECK(trusted_library(driver.file).path == driver.file);
  }
}

TEST_CASE("a sticky folder that others may write does no harm to what is ours") {
  const Driver driver;
  set_mode(driver.top, 01777);
  CHECK(trusted_library(driver.file).path == driver.file);
  set_mode(driver.folder, 01777);
  CHECK(trusted_library(driver.file).path == driver.file);
}

TEST_CASE("in a sticky folder, what belongs to another user is refused") {
  if (::geteuid() != 0) {
    WARN("not run: only root can make another user's file");
    return;
  }
  const Driver driver;
  set_mode(driver.folder, 01777);
  REQUIRE(::chown(driver.file.c_str(), 65534, 65534) == 0);
  CHECK(contains(refusal(driver.file), driver.folder.string()));

  REQUIRE(::chown(driver.file.c_str(), 0, 0) == 0);
  set_mode(driver.folder, 0755);
  set_mode(driver.top, 01777);
  CHECK(trusted_library(driver.file).path == driver.file);
  REQUIRE(::chown(driver.folder.c_str(), 65534, 65534) == 0);
  CHECK(contains(refusal(driver.file), driver.top.string()));
}

TEST_CASE("links to a driver are resolved, and where they lead is what counts") {
  const Driver driver;
  const fs::path by_file = driver.top / "link.so", by_folder = driver.top / "current";
  fs::create_symlink(driver.file, by_file);
  fs::create_directory_symlink("vendor", by_folder);
  const auto direct = trusted_library(driver.file);
  for (const fs::path& link : {by_file, by_folder / "driver.so", driver.folder / ".." / "vendor" / "driver.so"}) {
    const auto trusted = trusted_library(link);
    CHECK(trusted.path == driver.file);
    CHECK((trusted.identity == direct.identity));
  }
  set_mode(driver.folder, 0777);
  CHECK(contains(refusal(by_file), "'" + driver.folder.string() + "'"));
  CHECK(contains(refusal(by_folder / "driver.so"), "'" + driver.folder.string() + "'"));
}

TEST_CASE("two names of one file are one driver") {
  const Driver driver;
  const fs::path other = driver.folder / "other.so";
  fs::create_hard_link(driver.file, other);
  CHECK((trusted_library(driver.file).identity == trusted_library(other).identity));
  CHECK((trusted_library(driver.file).identity != trusted_library(path_of("libm.so.6")).identity));
}

TEST_CASE("loading what is not a library at all says so") {
  const Driver driver;
  CHECK(contains(message_of<InvalidArgumentError>([&] { (void)Pkcs11Module::load({.library = driver.file}); }),
                 driver.file.string()));
}

TEST_CASE("loading a library that is not a PKCS#11 driver says so") {
  const fs::path libm = fs::canonical(path_of("libm.so.6"));
  const std::string message = message_of<InvalidArgumentError>([&] { (void)Pkcs11Module::load({.library = libm}); });
  CHECK(contains(message, libm.string()));
  CHECK(contains(message, "not a PKCS#11 library"));
}

TEST_CASE("a driver is held to the same rules when it is loaded") {
  const Driver driver;
  set_mode(driver.folder, 0777);
  CHECK_THROWS_AS(Pkcs11Module::load({.library = driver.file}), InvalidArgumentError);
  CHECK_THROWS_AS(Pkcs11Module::load({.library = "libsofthsm2.so"}), InvalidArgumentError);
  CHECK_THROWS_AS(Pkcs11Module::load({.library = driver.folder / "missing.so"}), InvalidArgumentError);
  CHECK_THROWS_AS(Pkcs11Module::load({}), InvalidArgumentError);
}
