#include <csignal>
#include <fstream>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/places.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

namespace fs = std::filesystem;

/// A file with a ring of two generations.
struct RingFile {
  RingFile() { fill(*store, 2); }
  [[nodiscard]] std::shared_ptr<RingStore> another() const { return sql_ring_store("sqlite:" + path.string()); }

  ScratchDirectory folder;
  fs::path path = folder.path() / "ring.db";
  std::shared_ptr<RingStore> store = sql_ring_store("sqlite:" + path.string());
};

std::string load_error(RingStore& store) {
  return message_of<StoreError>([&] { return store.load(); });
}

/// Lets no file of this process grow beyond a size.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t size) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limited{size, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limited);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

/// Makes this process one that file permissions hold for.
class NotRoot {
 public:
  NotRoot() { REQUIRE((::geteuid() != 0 || ::seteuid(65534) == 0)); }
  NotRoot(const NotRoot&) = delete;
  NotRoot& operator=(const NotRoot&) = delete;
  ~NotRoot() { static_cast<void>(::seteuid(::getuid())); }
};

}  // namespace

TEST_CASE("the file of a new ring is for its owner alone, and nothing is left beside it") {
  const RingFile ring;
  struct stat status {};
  REQUIRE(::stat(ring.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  CHECK(std::distance(fs::directory_iterator(ring.folder.path()), {}) == 1);
}

TEST_CASE("the path may have blanks, signs and dots in it, and is relative to where the process is") {
  const ScratchDirectory folder;
  const auto before = fs::current_path();
  fs::current_path(folder.path());
  const std::string name =
      GENERATE("ring", "a b  c=d;e'f?g#h%20.db", "./x/../ring.db", "file:ring.db", "Schl\xc3\xbcssel.db");
  CAPTURE(name);
  fs::create_directory("x");
  const auto store = sql_ring_store("sqlite:" + name);
  fs::current_path(before);
  fill(*store, 1);
  CHECK(fs::is_regular_file(folder.path() / name));
  CHECK(sql_ring_store("sqlite:" + (folder.path() / name).string())->load() == record(1));
}

TEST_CASE("a file that is cut off or overwritten is an error, and not a new ring") {
  const RingFile ring;
  const auto size = fs::file_size(ring.path);
  REQUIRE(size > 8192);
  const bool while_open = GENERATE(false, true);
  const auto left = GENERATE_COPY(std::uintmax_t{0}, std::uintmax_t{50}, std::uintmax_t{4096}, size / 2, size - 4096);
  CAPTURE(while_open, left);
  if (while_open) CHECK(ring.store->load() == record(2));
  fs::resize_file(ring.path, left);
  const auto store = while_open ? ring.store : ring.another();
  CHECK_NAMES(load_error(*store), ring.path.string());
  CHECK_THROWS_AS(store->compare_and_swap(std::nullopt, record(1)), StoreError);
  CHECK_THROWS_AS(ring.another()->compare_and_swap(std::nullopt, record(1)), StoreError);
}

TEST_CASE("a file that is no database is an error and stays as it is") {
  const RingFile ring;
  const std::string garbage(20'000, 'g');
  std::ofstream{ring.path} << garbage;
  CHECK_NAMES(load_error(*ring.another()), "file is not a database");
  CHECK_THROWS_AS(ring.store->load(), StoreError);
  CHECK_THROWS_AS(ring.store->compare_and_swap(std::nullopt, record(1)), StoreError);
  std::string now;
  std::getline(std::ifstream{ring.path}, now);
  CHECK(now == garbage);
}

TEST_CASE("what is no file, or in no folder, is named") {
  const ScratchDirectory folder;
  CHECK_NAMES(load_error(*sql_ring_store("sqlite:" + folder.path().string())), "is not a file");
  CHECK_NAMES(load_error(*sql_ring_store("sqlite:" + (folder.path() / "none/ring.db").string())), "folder");
  fs::create_symlink(folder.path() / "nowhere", folder.path() / "link");
  CHECK_NAMES(load_error(*sql_ring_store("sqlite:" + (folder.path() / "link").string())), "is not a file");
  CHECK_FALSE(fs::exists(folder.path() / "nowhere"));
}

TEST_CASE("a file that is removed while it is open is missed, and not made anew") {
  const RingFile ring;
  fs::remove(ring.path);
  CHECK_NAMES(load_error(*ring.store), "is gone");
  CHECK_THROWS_AS(ring.store->compare_and_swap(record(2).head(), record(3)), StoreError);
  CHECK_THROWS_AS(ring.store->compare_and_swap(std::nullopt, record(1)), StoreError);
  CHECK_THROWS_AS(ring.store->reserve_usage({}, 1), StoreError);
  CHECK_FALSE(fs::exists(ring.path));
}

TEST_CASE("a file that is put in another's place is the one that is read") {
  const RingFile ring;
  fs::copy_file(ring.path, ring.folder.path() / "backup");
  REQUIRE(ring.store->compare_and_swap(record(2).head(), record(3)));
  fs::rename(ring.folder.path() / "backup", ring.path);
  CHECK(ring.store->load() == record(2));
}

TEST_CASE("a ring that may only be read is loaded, and a change of it fails") {
  const RingFile ring;
  const bool folder_too = GENERATE(true, false);
  fs::permissions(ring.path, fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read);
  fs::permissions(ring.folder.path(), folder_too ? fs::perms{0555} : fs::perms{0777});
  {
    const NotRoot user;
    const auto store = ring.another();
    CHECK(store->load() == record(2));
    CHECK(store->history(5).size() == 2);
    CHECK_NAMES(message_of<StoreError>([&] { return store->compare_and_swap(record(2).head(), record(3)); }),
                "readonly");
    CHECK_THROWS_AS(store->reserve_usage({}, 1), StoreError);
    CHECK(store->load() == record(2));
    if (folder_too) {
      const auto made = sql_ring_store("sqlite:" + (ring.folder.path() / "new.db").string());
      CHECK_NAMES(load_error(*made), "writable");
    }
  }
  fs::permissions(ring.folder.path(), fs::perms::owner_all);
  CHECK(ring.another()->load() == record(2));
}

TEST_CASE("when the disk is full a change fails, nothing of it is stored, and it goes on when there is room") {
  const RingFile ring;
  const std::string large(300'000, 'x');
  {
    const FileSizeLimit limit{100'000};
    const auto message =
        message_of<StoreError>([&] { return ring.store->compare_and_swap(record(2).head(), record(3, large)); });
    CHECK_NAMES(message, ring.path.string());
    CHECK(ring.store->load() == record(2));
    CHECK_FALSE(ring.store->compare_and_swap(std::nullopt, record(1)));
  }
  CHECK(ring.store->load() == record(2));
  REQUIRE(ring.store->compare_and_swap(record(2).head(), record(3, large)));
  CHECK(ring.another()->load() == record(3, large));
}

TEST_CASE("a file that another process keeps locked is waited for, and then an error") {
  const RingFile ring;
  soci::session holder{soci::sqlite3, "dbname=" + ring.path.string()};
  holder << "begin exclusive";
  const auto impatient = sql_ring_store("sqlite:" + ring.path.string(), {.timeout = std::chrono::milliseconds{200}});
  CHECK_NAMES(load_error(*impatient), "locked");
  std::thread releases{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
    holder << "commit";
  }};
  CHECK(ring.store->compare_and_swap(record(2).head(), record(3)));
  releases.join();
}

TEST_CASE("an application may keep its own tables in the same file") {
  const ScratchDirectory folder;
  const auto path = folder.path() / "vault.db";
  soci::session application{soci::sqlite3, "dbname=" + path.string()};
  application << "create table secrets (name text)";
  const auto store = sql_ring_store("sqlite:" + path.string());
  fill(*store, 1);
  application << "insert into secrets values ('one')";
  CHECK(store->load() == record(1));
}
