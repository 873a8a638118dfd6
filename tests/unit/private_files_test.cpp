#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hsmseal/error.hpp>

#include "platform/platform.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/expect_error.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using platform::PathLock;
using platform::read_trusted_file;
using platform::write_file_atomically;
using platform::write_new_file;
using test::Child;
using test::contains;
using test::exit_status_of;
using test::message_of;

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMost = 1'000'000;

void set_mode(const fs::path& path, mode_t mode) { REQUIRE(::chmod(path.c_str(), mode) == 0); }

mode_t mode_of(const fs::path& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777U;
}

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
  set_mode(path, 0600);
}

/// A folder that everybody may enter, and a path in it.
struct Place {
  test::ScratchDirectory scratch;
  fs::path folder = fs::canonical(scratch.path());
  fs::path file = folder / "file";

  Place() { set_mode(folder, 0755); }

  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
  }
};

/// The message with which a file is not read.
std::string refusal(const fs::path& path, std::size_t most = kMost) {
  const std::string message = message_of<InvalidArgumentError>([&] { (void)read_trusted_file(path, most); });
  CHECK(contains(message, path.string()));
  return message;
}

template <typename Write>
std::string write_refusal(const Write& write, const fs::path& path) {
  const std::string message = message_of<InvalidArgumentError>([&] { write(path, "new"); });
  CHECK(contains(message, path.string()));
  return message;
}

bool throws_invalid_argument(const auto& call) {
  try {
    call();
  } catch (const InvalidArgumentError&) {
    return true;
  }
  return false;
}

bool root_only() {
  if (::geteuid() == 0) return true;
  WARN("not run: only root can be other users");
  return false;
}

}  // namespace

TEST_CASE("a trusted file is read whole, whatever its bytes are, up to the most that it may have") {
  const Place place;
  const std::string bytes{"line\r\n\0\xff", 8};
  put(place.file, bytes);
  CHECK(read_trusted_file(place.file, 8) == bytes);
  CHECK(read_trusted_file(place.file, kMost) == bytes);
  CHECK(contains(refusal(place.file, 7), "larger than 7 bytes"));
  put(place.file, "");
  CHECK(read_trusted_file(place.file, 0) == "");
}

TEST_CASE("a trusted file that is missing is not an error") {
  const Place place;
  CHECK_FALSE(read_trusted_file(place.file, kMost));
  CHECK_FALSE(read_trusted_file(place.folder / "no folder" / "file", kMost));
}

TEST_CASE("a trusted file may be read by everybody, and written by its owner alone") {
  const Place place;
  put(place.file, "x");
  for (const mode_t mode : {mode_t{0600}, mode_t{0400}, mode_t{0644}, mode_t{0755}}) {
    set_mode(place.file, mode);
    CHECK(read_trusted_file(place.file, kMost) == "x");
  }
  for (const mode_t mode : {mode_t{0620}, mode_t{0602}, mode_t{0666}, mode_t{0777}}) {
    set_mode(place.file, mode);
    CHECK(contains(refusal(place.file), "chmod go-w '" + place.file.string() + "'"));
  }
}

TEST_CASE("a trusted file is not in a folder from which everybody can remove it, nor is one made there") {
  const Place place;
  const auto check_writable = +[](const fs::path& path, std::string_view) { platform::check_can_replace(path); };
  for (const bool missing : {false, true}) {
    if (missing) {
      fs::remove(place.file);
    } else {
      put(place.file, "x");
    }
    for (const mode_t mode : {mode_t{0777}, mode_t{0757}, mode_t{0703}}) {
      set_mode(place.folder, mode);
      const std::string advice = "chmod o-w '" + place.folder.string() + "'";
      CHECK(contains(refusal(place.file), advice));
      CHECK(contains(write_refusal(write_file_atomically, place.file), advice));
      CHECK(contains(write_refusal(check_writable, place.file), advice));
      CHECK(place.entries() == (missing ? 0 : 1));
    }
    // /tmp and the like, and the group that many systems make for each user.
    for (const mode_t mode : {mode_t{01777}, mode_t{0775}, mode_t{0700}}) {
      set_mode(place.folder, mode);
      CHECK(read_trusted_file(place.file, kMost).has_value() == !missing);
      CHECK_NOTHROW(platform::check_can_replace(place.file));
    }
  }
}

TEST_CASE("a trusted file is a regular file, and not a link to one") {
  const Place place;
  CHECK(contains(refusal(place.folder), "not a regular file"));
  CHECK(contains(refusal("/dev/null"), "not a regular file"));
  const fs::path pipe = place.folder / "pipe", link = place.folder / "link", dangling = place.folder / "dangling";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(refusal(pipe), "not a regular file"));
  put(place.file, "x");
  fs::create_symlink(place.file, link);
  CHECK(contains(refusal(link), "a link"));
  fs::create_symlink(place.folder / "nothing", dangling);
  CHECK(contains(refusal(dangling), "a link"));
  refusal(place.file / "below a file");
}

TEST_CASE("a trusted file belongs to root or to the process's user") {
  if (!root_only()) return;
  const Place place;
  put(place.file, "x");
  set_mode(place.file, 0644);
  const auto read = [&] { return test::become_nobody() && read_trusted_file(place.file, kMost) == "x"; };
  CHECK(exit_status_of(read) == 0);
  REQUIRE(::chown(place.file.c_str(), test::kNobody, test::kNobody) == 0);
  CHECK(exit_status_of(read) == 0);
  CHECK(contains(refusal(place.file), "another user"));
  REQUIRE(::chown(place.file.c_str(), 12345, 12345) == 0);
  CHECK(exit_status_of(read) == 2);
}

TEST_CASE("a trusted file that cannot be read is not taken for a missing one") {
  if (!root_only()) return;
  const Place place;
  put(place.file, "x");
  const auto refused = [&] {
    return test::become_nobody() && throws_invalid_argument([&] { (void)read_trusted_file(place.file, kMost); });
  };
  CHECK(exit_status_of(refused) == 0);
  set_mode(place.file, 0644);
  set_mode(place.folder, 0700);
  CHECK(exit_status_of(refused) == 0);
}

TEST_CASE("a file is made and replaced with mode 600, whatever the umask and the old mode") {
  for (const mode_t mask : {mode_t{0}, mode_t{022}, mode_t{0777}}) {
    const Place place;
    const mode_t before = ::umask(mask);
    write_file_atomically(place.file, "first");
    const auto made = mode_of(place.file);
    set_mode(place.file, 0644);
    write_file_atomically(place.file, std::string{"second\0", 7});
    write_new_file(place.folder / "new", "third");
    ::umask(before);
    CHECK(made == 0600);
    CHECK(mode_of(place.file) == 0600);
    CHECK(mode_of(place.folder / "new") == 0600);
    CHECK(content_of(place.file) == std::string{"second\0", 7});
    CHECK(content_of(place.folder / "new") == "third");
    CHECK(place.entries() == 2);
  }
}

TEST_CASE("a file is replaced, not written in place") {
  const Place place;
  write_file_atomically(place.file, "old");
  fs::create_hard_link(place.file, place.folder / "second name");
  std::ifstream reader(place.file);
  write_file_atomically(place.file, "new");
  CHECK(content_of(place.folder / "second name") == "old");
  CHECK(std::string{std::istreambuf_iterator<char>(reader), {}} == "old");
  CHECK(content_of(place.file) == "new");
}

TEST_CASE("a path without a folder is in the present one") {
  const Place place;
  CHECK(exit_status_of([&] {
          fs::current_path(place.folder);
          write_file_atomically("file", "x");
          write_new_file("new", "y");
          return read_trusted_file("file", kMost) == "x" && read_trusted_file("new", kMost) == "y";
        }) == 0);
  CHECK(content_of(place.file) == "x");
}

TEST_CASE("only a regular file is replaced, and what fails leaves nothing behind") {
  const Place place;
  const fs::path link = place.folder / "link", dangling = place.folder / "dangling", below = place.folder / "below";
  put(place.file, "old");
  fs::create_symlink(place.file, link);
  fs::create_symlink(place.folder / "nothing", dangling);
  fs::create_directory(below);
  const auto entries = place.entries();
  for (const auto& write :
       {write_file_atomically, +[](const fs::path&path, std::string_view) { platform::check_can_replace(path); }}) {
    CHECK(contains(write_refusal(write, link), "a link"));
    CHECK(contains(write_refusal(write, dangling), "a link"));
    CHECK(contains(write_refusal(write, below), "not a regular file"));
    CHECK(contains(write_refusal(write, place.folder / "no folder" / "file"), "No such file"));
    CHECK(contains(write_refusal(write, place.file / "file"), "Not a directory"));
  }
  CHECK_NOTHROW(platform::check_can_replace(place.file));
  CHECK_NOTHROW(platform::check_can_replace(place.folder / "another"));
  CHECK(place.entries() == entries);
  CHECK(content_of(place.file) == "old");
}

TEST_CASE("a new file is made only where there is nothing") {
  const Place place;
  const fs::path link = place.folder / "link", dangling = place.folder / "dangling";
  put(place.file, "old");
  fs::create_symlink(place.file, link);
  fs::create_symlink(place.folder / "nothing", dangling);
  const auto entries = place.entries();
  for (const auto& path : {place.file, link, dangling, place.folder}) {
    CHECK(contains(write_refusal(write_new_file, path), "File exists; it is not overwritten: name a new file"));
  }
  write_refusal(write_new_file, place.folder / "no folder" / "file");
  CHECK(content_of(place.file) == "old");
  CHECK(place.entries() == entries);
}

TEST_CASE("a file that cannot be written whole is removed, and the old one stays") {
  const Place place;
  put(place.file, "old");
  const std::string large(100'000, 'x');
  for (const rlim_t size : {rlim_t{0}, rlim_t{1}, rlim_t{50'000}, rlim_t{99'999}}) {
    CHECK(exit_status_of([&] {
            test::limit_files(size);
            return throws_invalid_argument([&] { write_file_atomically(place.file, large); }) &&
                   throws_invalid_argument([&] { write_new_file(place.folder / "new", large); });
          }) == 0);
    CHECK(content_of(place.file) == "old");
    CHECK(place.entries() == 1);
  }
  CHECK(exit_status_of([&] {
          test::limit_files(100'000);
          write_file_atomically(place.file, large);
          return true;
        }) == 0);
  CHECK(content_of(place.file) == large);
}

TEST_CASE("on a disk that fills up the old file stays") {
  const Place place;
  const int status = exit_status_of([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", place.folder.c_str(), "tmpfs", 0, "size=64k") != 0) {
      return false;
    }
    const std::string old(20'000, 'o'), large(100'000, 'x');
    write_file_atomically(place.file, old);
    const auto fails = [&](const auto& write) {
      return contains(message_of<InvalidArgumentError>(write), "No space left");
    };
    if (!fails([&] { write_file_atomically(place.file, large); })) throw std::logic_error("written");
    if (!fails([&] { write_new_file(place.folder / "new", large); })) throw std::logic_error("written");
    if (content_of(place.file) != old || place.entries() != 1) throw std::logic_error("left over");
    return true;
  });
  if (status == 1) WARN("not run: this process may not mount a file system");
  CHECK(status != 2);
}

TEST_CASE("in a folder that may not be written nothing is made or replaced") {
  if (!root_only()) return;
  const Place place;
  put(place.file, "old");
  REQUIRE(::chown(place.file.c_str(), test::kNobody, test::kNobody) == 0);
  CHECK(exit_status_of([&] {
          return test::become_nobody() && throws_invalid_argument([&] { write_file_atomically(place.file, "new"); }) &&
                 throws_invalid_argument([&] { platform::check_can_replace(place.file); }) &&
                 throws_invalid_argument([&] { write_new_file(place.folder / "new", "new"); });
        }) == 0);
  CHECK(content_of(place.file) == "old");
  CHECK(place.entries() == 1);
}

TEST_CASE("a writer that is killed leaves the old file or the new, and at most one other") {
  const Place place;
  const std::string first(65'536, '1'), second(65'536, '2');
  write_file_atomically(place.file, first);
  constexpr std::size_t kKills = 20;
  std::size_t seen_second = 0;
  for (std::size_t kill = 0; kill < kKills; ++kill) {
    Child writer{[&] {
      for (;;) {
        write_file_atomically(place.file, second);
        write_file_atomically(place.file, first);
      }
      return true;
    }};
    for (std::size_t read = 0; read < 20 * (kill + 1); ++read) {
      const auto content = read_trusted_file(place.file, kMost);
      REQUIRE((content == first || content == second));
      if (content == second) ++seen_second;
    }
    writer.kill();
    const auto content = read_trusted_file(place.file, kMost);
    REQUIRE((content == first || content == second));
    REQUIRE(place.entries() <= 1 + kill + 1);
  }
  CHECK(seen_second > 0);
}

TEST_CASE("a folder's lock excludes other threads, and leaves no file") {
  const Place place;
  std::optional<PathLock> held{place.folder};
  const std::string message = message_of<InvalidArgumentError>([&] { PathLock{place.folder, 10ms}; });
  CHECK(contains(message, place.folder.string()));
  CHECK(contains(message, "others hold its lock"));
  std::atomic<bool> locked = false;
  std::thread waiting{[&] {
    const PathLock lock{place.folder, 60s};
    locked = true;
  }};
  CHECK_FALSE(locked);
  held.reset();
  waiting.join();
  CHECK(locked);
  CHECK(place.entries() == 0);
}

TEST_CASE("a folder's lock excludes other processes, under whatever name they know the folder") {
  const Place place;
  const fs::path link = place.folder / "link";
  fs::create_directory_symlink(place.folder, link);
  const auto excluded = [&] { return throws_invalid_argument([&] { PathLock{link, 10ms}; }); };
  {
    const PathLock held{place.folder};
    CHECK(exit_status_of(excluded) == 0);
  }
  CHECK(exit_status_of(excluded) == 1);
}

TEST_CASE("a folder's lock goes with its owner, and does not stay with its owner's children") {
  const Place place;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  Child owner{[&] {
    const PathLock held{place.folder};
    (void)!::write(ends[1], "!", 1);
    for (;;) ::pause();
    return true;
  }};
  char told = 0;
  REQUIRE(::read(ends[0], &told, 1) == 1);
  CHECK_THROWS_AS((PathLock{place.folder, 10ms}), InvalidArgumentError);
  owner.kill();
  std::optional<PathLock> held{std::in_place, place.folder, 10ms};
  const Child heir{[] {
    for (;;) ::pause();
    return true;
  }};
  held.reset();
  CHECK_NOTHROW(PathLock{place.folder, 10ms});
}

TEST_CASE("only what is there can be locked, a folder or a file") {
  const Place place;
  put(place.file, "x");
  const PathLock of_folder{place.folder}, of_file{place.file};
  for (const auto& path : {place.file, place.folder}) {
    CHECK(contains(message_of<InvalidArgumentError>([&] { PathLock(path, 0ms); }), "others hold its lock"));
  }
  const auto nothing = place.folder / "nothing";
  CHECK(contains(message_of<InvalidArgumentError>([&] { PathLock{nothing}; }), nothing.string()));
}

TEST_CASE("no change is lost that is made under a folder's lock") {
  const Place place;
  write_file_atomically(place.file, "0");
  const auto count = [&] {
    for (int i = 0; i < 20; ++i) {
      const PathLock lock{place.folder, 60s};
      write_file_atomically(place.file, std::to_string(std::stoi(read_trusted_file(place.file, kMost).value()) + 1));
    }
  };
  const auto count_twice = [&] {
    std::thread other{count};
    count();
    other.join();
    return true;
  };
  Child first{count_twice}, second{count_twice};
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
  CHECK(content_of(place.file) == "80");
}
