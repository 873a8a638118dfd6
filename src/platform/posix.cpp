#include "platform/platform.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <system_error>

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
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
  if (!S_ISREG(status.st_mode)) {
    throw InvalidArgumentError(fmt::format("file '{}' is not a regular file", path.string()));
  }
  if ((status.st_mode & kAnythingByOthers) != 0) {
    throw InvalidArgumentError(
        fmt::format("file '{0}' is open to its group or others; run: chmod 600 '{0}'", path.string()));
  }
  if (status.st_uid != 0 && status.st_uid != ::geteuid()) {
    throw InvalidArgumentError(fmt::format("file '{}' belongs to another user", path.string()));
  }
  SecretBytes content{most + 1};
  std::size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t got = ::read(file.get(), content.writable().data() + filled, content.size() - filled);
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw InvalidArgumentError(fmt::format("file '{}': {}", path.string(), reason(errno)));
    filled += static_cast<std::size_t>(got);
  }
  if (filled > most) {
    throw InvalidArgumentError(fmt::format("file '{}' is larger than {} bytes", path.string(), most));
  }
  content.truncate(filled);
  return content;
}

SecretBytes environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) throw InvalidArgumentError(fmt::format("environment variable '{}' is not set", name));
  return SecretBytes::from_text(value);
}

void set_environment_variable(const std::string& name, const std::string& value) {
  if (::setenv(name.c_str(), value.c_str(), 1) != 0) {
    throw InvalidArgumentError(fmt::format("environment variable '{}' cannot be set: {}", name, reason(errno)));
  }
}

}  // namespace hsmseal::platform
