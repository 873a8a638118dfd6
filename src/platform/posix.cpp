#include "platform/platform.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hsmseal/error.hpp>

namespace hsmseal::platform {
namespace {

constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;
constexpr mode_t kAnythingByOthers = S_IRWXG | S_IRWXO;

std::string reason(int error) { return std::generic_category().message(error); }

struct stat status_of(const std::filesystem::path& path, std::string_view what) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw InvalidArgumentError(fmt::format("{} '{}': {}", what, path.string(), reason(errno)));
  }
  return status;
}

/// Whether others can put something else in the place of `child`, an entry of `folder`.
bool replaceable(const struct stat& folder, const struct stat& child) {
  if ((folder.st_mode & kWritableByOthers) == 0) return false;
  const bool ours = child.st_uid == 0 || child.st_uid == ::geteuid();
  return (folder.st_mode & S_ISVTX) == 0 || !ours;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

InvalidArgumentError failure(const std::filesystem::path& path, std::string_view what, int error) {
  return InvalidArgumentError(fmt::format("file '{}' {}: {}", path.string(), what, reason(error)));
}

template <typename Call>
auto uninterrupted(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

/// @returns how much there was, at most the size of `into`.
std::size_t read_into(std::span<std::byte> into, const Descriptor& file, const std::filesystem::path& path) {
  std::size_t filled = 0;
  while (filled < into.size()) {
    const auto rest = into.subspan(filled);
    const ssize_t got = uninterrupted([&] { return ::read(file.get(), rest.data(), rest.size()); });
    if (got < 0) throw failure(path, "cannot be read", errno);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return filled;
}

void check_regular(const struct stat& status, const std::filesystem::path& path) {
  if (S_ISREG(status.st_mode)) return;
  throw InvalidArgumentError(fmt::format(
      "file '{}' is {}", path.string(),
      S_ISLNK(status.st_mode) ? "a link; give the path of the file that it leads to" : "not a regular file"));
}

void check_owner(const struct stat& status, const std::filesystem::path& path) {
  if (status.st_uid == 0 || status.st_uid == ::geteuid()) return;
  throw InvalidArgumentError(fmt::format("file '{}' belongs to another user", path.string()));
}

/// That nobody but its owner may change it.
void check_trusted(const struct stat& status, const std::filesystem::path& path) {
  check_regular(status, path);
  check_owner(status, path);
  if ((status.st_mode & kWritableByOthers) == 0) return;
  throw InvalidArgumentError(
      fmt::format("file '{0}' is writable by its group or others; run: chmod go-w '{0}'", path.string()));
}

void check_size(std::size_t size, std::size_t most, const std::filesystem::path& path) {
  if (size <= most) return;
  throw InvalidArgumentError(fmt::format("file '{}' is larger than {} bytes", path.string(), most));
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

/// Who can write a folder can take a file out of it, and a file that is missing is made anew.
void check_folder(const std::filesystem::path& folder, const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) return;  // what uses the file says why
  if ((status.st_mode & S_IWOTH) == 0 || (status.st_mode & S_ISVTX) != 0) return;
  throw InvalidArgumentError(
      fmt::format("file '{}' lies in '{}', which everybody may write, and so remove the file; run: chmod o-w '{}'",
                  file.string(), folder.string(), folder.string()));
}

void check_folder(const std::filesystem::path& file) { check_folder(folder_of(file), file); }

void check_folders_above(const std::filesystem::path& file) {
  auto folder = std::filesystem::absolute(file).parent_path();
  for (; folder.has_relative_path(); folder = folder.parent_path()) check_folder(folder, file);
}

Descriptor open_folder(const std::filesystem::path& folder) {
  return Descriptor{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
}

/// Forces the names in a folder to the disk.
void sync_folder(const std::filesystem::path& file) {
  const Descriptor folder = open_folder(folder_of(file));
  if (folder.get() >= 0 && uninterrupted([&] { return ::fsync(folder.get()); }) == 0) return;
  if (folder.get() >= 0 && errno == EINVAL) return;  // a file system that knows no such thing
  throw failure(file, "was written, but its folder not forced to the disk", errno);
}

void write_all(int fd, std::string_view content, const std::filesystem::path& path) {
  while (!content.empty()) {
    const ssize_t written = uninterrupted([&] { return ::write(fd, content.data(), content.size()); });
    if (written <= 0) throw failure(path, "cannot be written", written < 0 ? errno : ENOSPC);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
}

void unlock(int fd) noexcept {
  // Closing is not enough: a child that was forked meanwhile would hold the lock for as long as it lives.
  ::flock(fd, LOCK_UN);
  ::close(fd);
}

/// @param fd  of what lies at the path, or what open() returned with an error; closed if it cannot be locked.
int lock(int fd, const std::filesystem::path& path, std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (fd < 0 || ::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const bool taken = fd >= 0 && (error == EWOULDBLOCK || error == EINTR);
    if (taken && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
      continue;
    }
    if (fd >= 0) ::close(fd);
    throw InvalidArgumentError(
        fmt::format("'{}' cannot be locked: {}", path.string(), taken ? "others hold its lock" : reason(error)));
  }
  return fd;
}

/// A file that is removed again unless it is finished.
class NewFile {
 public:
  /// @param fd    of a file that this process has just made.
  /// @param path  of what the file is to become, for messages.
  NewFile(int fd, std::string name, std::filesystem::path path)
      : name_(std::move(name)), path_(std::move(path)), made_(fd >= 0), file_(fd) {
    if (!made_) throw failure(path_, "cannot be written", errno);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (made_) ::unlink(name_.c_str());
  }

  [[nodiscard]] static NewFile beside(const std::filesystem::path& path) {
    check_folder(path);
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0) check_regular(status, path);
    std::string name = folder_of(path) / ".hsmseal-XXXXXX";
    const int fd = ::mkostemp(name.data(), O_CLOEXEC);
    return {fd, std::move(name), path};
  }

  void fill(std::string_view content) {
    write_all(file_.get(), content, path_);
    // The mode it was made with may have lost more to the process's umask.
    if (::fchmod(file_.get(), S_IRUSR | S_IWUSR) != 0 || uninterrupted([&] { return ::fsync(file_.get()); }) != 0) {
      throw failure(path_, "cannot be written", errno);
    }
  }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  void keep() noexcept { made_ = false; }

 private:
  std::string name_;
  std::filesystem::path path_;
  bool made_;
  Descriptor file_;
};

}  // namespace

void wipe(void* memory, std::size_t size) noexcept {
  if (size != 0) ::explicit_bzero(memory, size);
}

std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

Pages allocate_pages(std::size_t size) {
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_DONTDUMP
  if (::madvise(address, size, MADV_DONTDUMP) != 0) {
    ::munmap(address, size);
    throw std::bad_alloc();
  }
#endif
  return {address, ::mlock(address, size) == 0};
}

void release_pages(void* address, std::size_t size) noexcept { ::munmap(address, size); }

bool wipe_on_fork([[maybe_unused]] std::span<std::byte> pages) noexcept {
#ifdef MADV_WIPEONFORK
  return ::madvise(pages.data(), pages.size(), MADV_WIPEONFORK) == 0;
#else
  return false;
#endif
}

std::string shown(const std::filesystem::path& path) { return path.string(); }

std::chrono::steady_clock::time_point time_since_boot() noexcept {
#if defined(CLOCK_BOOTTIME)
  constexpr clockid_t kClock = CLOCK_BOOTTIME;
#elif defined(CLOCK_MONOTONIC_RAW)
  constexpr clockid_t kClock = CLOCK_MONOTONIC_RAW;  // macOS: counts sleep, too
#else
  constexpr clockid_t kClock = CLOCK_MONOTONIC;
#endif
  timespec now{};
  ::clock_gettime(kClock, &now);
  const auto since_boot = std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
  return std::chrono::steady_clock::time_point{since_boot};
}

TrustedLibrary trusted_library(const std::filesystem::path& path) {
  if (!path.is_absolute()) {
    throw InvalidArgumentError(fmt::format(
        "driver path '{}' is relative; give its absolute path, so that no search path decides what is loaded",
        path.string()));
  }
  std::error_code error;
  const auto resolved = std::filesystem::canonical(path, error);
  if (error) {
    throw InvalidArgumentError(fmt::format("driver '{}': {}; install the vendor's client or correct the path",
                                           path.string(), error.message()));
  }
  const struct stat file = status_of(resolved, "driver");
  if (!S_ISREG(file.st_mode)) {
    throw InvalidArgumentError(fmt::format("driver '{}' is not a regular file", resolved.string()));
  }
  if ((file.st_mode & kWritableByOthers) != 0) {
    throw InvalidArgumentError(fmt::format(
        "driver '{0}' is writable by its group or others, who could replace its code; run: chmod go-w '{0}'",
        resolved.string()));
  }
  struct stat child = file;
  for (auto folder = resolved.parent_path();; folder = folder.parent_path()) {
    const struct stat status = status_of(folder, "driver's folder");
    if (replaceable(status, child)) {
      throw InvalidArgumentError(
          fmt::format("driver '{}' lies below '{}', which is writable by its group or others, who could replace it; "
                      "run: chmod go-w "
                      "'{}'",
                      resolved.string(), folder.string(), folder.string()));
    }
    if (folder == folder.root_path()) break;
    child = status;
  }
  return {resolved, {static_cast<std::uint64_t>(file.st_dev), static_cast<std::uint64_t>(file.st_ino)}};
}

void* open_library(const std::filesystem::path& path) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = ::dlerror();
    throw InvalidArgumentError(fmt::format("driver '{}' cannot be loaded: {}; give the vendor's PKCS#11 library",
                                           path.string(), why != nullptr ? why : "unknown reason"));
  }
  return library;
}

void* library_symbol(void* library, const char* name) noexcept { return ::dlsym(library, name); }

SecretBytes read_private_file(const std::filesystem::path& path, std::size_t most) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    throw InvalidArgumentError(fmt::format(
        "file '{}' cannot be opened: {}; make it, with mode 600, or correct the path", path.string(), reason(errno)));
  }
  check_regular(status, path);
  if ((status.st_mode & kAnythingByOthers) != 0) {
    throw InvalidArgumentError(
        fmt::format("file '{0}' is open to its group or others; run: chmod 600 '{0}'", path.string()));
  }
  check_owner(status, path);
  SecretBytes content{most + 1};
  const std::size_t size = read_into(content.writable(), file, path);
  check_size(size, most, path);
  content.truncate(size);
  return content;
}

std::optional<std::string> read_trusted_file(const std::filesystem::path& path, std::size_t most) {
  check_folder(path);
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)};
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    const int error = errno;
    if (error == ENOENT) return std::nullopt;
    if (::lstat(path.c_str(), &status) == 0) check_regular(status, path);
    throw failure(path, "cannot be opened", error);
  }
  check_trusted(status, path);
  std::string content(most + 1, '\0');
  const std::size_t size = read_into(std::as_writable_bytes(std::span{content}), file, path);
  check_size(size, most, path);
  content.resize(size);
  return content;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  NewFile file = NewFile::beside(path);
  file.fill(content);
  if (::rename(file.name().c_str(), path.c_str()) != 0) throw failure(path, "cannot be replaced", errno);
  file.keep();
  sync_folder(path);
}

void check_can_replace(const std::filesystem::path& path) { static_cast<void>(NewFile::beside(path)); }

void write_new_file(const std::filesystem::path& path, std::string_view content) {
  const int made = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (made < 0 && errno == EEXIST) {
    throw InvalidArgumentError(fmt::format("file '{}' cannot be written: {}; it is not overwritten: name a new file",
                                           path.string(), reason(EEXIST)));
  }
  NewFile file{made, path, path};
  file.fill(content);
  sync_folder(path);
  file.keep();
}

PathLock::PathLock(const std::filesystem::path& path, std::chrono::milliseconds patience)
    : handle_(lock(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path, patience)) {}

PathLock::~PathLock() { unlock(static_cast<int>(handle_)); }

AppendFile::AppendFile(const std::filesystem::path& path, std::chrono::milliseconds patience) : path_(path) {
  check_folders_above(path);
  constexpr int kFlags = O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
  int fd = ::open(path.c_str(), kFlags);
  if (fd < 0 && errno == ENOENT) {
    fd = ::open(path.c_str(), kFlags | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
    made_ = fd >= 0;
    if (fd < 0 && errno == EEXIST) fd = ::open(path.c_str(), kFlags);  // another process made it
  }
  struct stat status {};
  if (fd < 0) {
    const int error = errno;
    if (::lstat(path.c_str(), &status) == 0) check_regular(status, path);
    throw failure(path, "cannot be written", error);
  }
  handle_ = lock(fd, path, patience);
  try {
    // The mode it was made with may have lost more to the process's umask.
    if ((made_ && ::fchmod(fd, S_IRUSR | S_IWUSR) != 0) || ::fstat(fd, &status) != 0) {
      throw failure(path, "cannot be written", errno);
    }
    check_trusted(status, path);
  } catch (...) {
    unlock(fd);
    throw;
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

AppendFile::~AppendFile() { unlock(static_cast<int>(handle_)); }

std::string AppendFile::tail(std::size_t most) const {
  const std::size_t wanted = std::min<std::uint64_t>(most, size_);
  std::string content(wanted, '\0');
  std::size_t filled = 0;
  while (filled < wanted) {
    const auto at = static_cast<off_t>(size_ - wanted + filled);
    const ssize_t got =
        uninterrupted([&] { return ::pread(static_cast<int>(handle_), content.data() + filled, wanted - filled, at); });
    if (got <= 0) throw failure(path_, "cannot be read", got < 0 ? errno : EIO);
    filled += static_cast<std::size_t>(got);
  }
  return content;
}

void AppendFile::append(std::string_view content) {
  const int fd = static_cast<int>(handle_);
  try {
    write_all(fd, content, path_);
  } catch (const InvalidArgumentError&) {
    static_cast<void>(uninterrupted([&] { return ::ftruncate(fd, static_cast<off_t>(size_)); }));
    throw;
  }
  size_ += content.size();
  if (uninterrupted([&] { return ::fsync(fd); }) != 0) {
    throw failure(path_, "was written, but not forced to the disk", errno);
  }
  if (std::exchange(made_, false)) sync_folder(path_);
}

std::uint64_t process_id() noexcept { return static_cast<std::uint64_t>(::getpid()); }

SecretBytes environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) throw InvalidArgumentError(fmt::format("environment variable '{}' is not set", name));
  return SecretBytes::from_text(value);
}

void set_environment_variable(const std::string& name, const std::string& value) {
  const char* const present = std::getenv(name.c_str());
  if (present != nullptr && value == present) return;  // other threads may be reading the environment
  if (::setenv(name.c_str(), value.c_str(), 1) != 0) {
    throw InvalidArgumentError(fmt::format("environment variable '{}' cannot be set: {}", name, reason(errno)));
  }
}

}  // namespace hsmseal::platform
