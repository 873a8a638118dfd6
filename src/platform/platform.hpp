#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <hsmseal/secret_bytes.hpp>

/// Everything hsmseal asks of the operating system, but for socket.hpp; one source file for each system implements it.
namespace hsmseal::platform {

/// Overwrites memory in a way the compiler does not take out.
void wipe(void* memory, std::size_t size) noexcept;

/// Whole pages of zeroed memory that core dumps leave out.
struct Pages {
  void* address = nullptr;
  bool locked = false;  ///< kept from being swapped
};

/// The size of a page in bytes.
[[nodiscard]] std::size_t page_size() noexcept;

/// @param size  a multiple of page_size().
/// @throws std::bad_alloc
[[nodiscard]] Pages allocate_pages(std::size_t size);
void release_pages(void* address, std::size_t size) noexcept;

/// Has the system give a forked child zeros in place of these pages.
/// @param pages  whole ones.
/// @returns false if the system cannot: what is in them must not be used under another number of forks().
[[nodiscard]] bool wipe_on_fork(std::span<std::byte> pages) noexcept;

/// A clock that never goes back, and goes on while the machine is suspended.
[[nodiscard]] std::chrono::steady_clock::time_point time_since_boot() noexcept;

/// How often this process was forked since the library was loaded: 0 in the first process, 1 in its children.
///
/// What holds handles of a server, a driver or a thread remembers the number with which it got them: under another one
/// they are the parent's, and neither to be used nor to be closed.
///
/// Thread safety: any thread. The library of the component `sql` counts for itself.
[[nodiscard]] std::uint64_t forks() noexcept;

/// A path for messages, in UTF-8: path::string() depends on the code page on Windows, and throws for what that lacks.
[[nodiscard]] std::string shown(const std::filesystem::path& path);

/// A file by what it is, not by what it is called.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  auto operator<=>(const FileIdentity&) const = default;
};

struct TrustedLibrary {
  std::filesystem::path path;  ///< with all links resolved
  FileIdentity identity;
};

/// Resolves a driver's path and checks that nobody but its owners could have put another file there: absolute, a
/// regular file, neither it nor any folder above it writable by group or others. A sticky folder (such as /tmp) counts
/// as not writable if what lies in it belongs to root or to this process's user, since others cannot replace that.
/// @throws InvalidArgumentError
[[nodiscard]] TrustedLibrary trusted_library(const std::filesystem::path& path);

/// Loads a library for the rest of the process's life: there is no unload (drivers crash in their exit handlers).
/// @throws InvalidArgumentError  with the system's reason.
[[nodiscard]] void* open_library(const std::filesystem::path& path);

/// @returns nullptr if the library has no such symbol.
[[nodiscard]] void* library_symbol(void* library, const char* name) noexcept;

/// Reads a small file that only its owner may read.
/// @throws InvalidArgumentError  missing, not a regular file, readable or writable by group or others, owned by a user
///         other than this process's or root, or larger than `most` bytes.
[[nodiscard]] SecretBytes read_private_file(const std::filesystem::path& path, std::size_t most);

/// Reads a small file that everybody may read, but only its owner may change.
/// @returns nothing if there is no such file.
/// @throws InvalidArgumentError  a link, not a regular file, writable by group or others, owned by a user other than this
///         process's or root, larger than `most` bytes, or not readable; or, even if there is none, its folder is
///         writable by others and not sticky (Windows: not looked at).
[[nodiscard]] std::optional<std::string> read_trusted_file(const std::filesystem::path& path, std::size_t most);

/// Replaces a file, or makes it, with mode 600: a reader finds the old content or the new, whole, even after a crash.
///
/// A link is refused: the new file would take the link's place and not that of what it leads to. Two processes that
/// replace a file because of what they read in it need a PathLock as well.
/// @throws InvalidArgumentError  with the system's reason, or for a folder that read_trusted_file() refuses. The old file
///         is as it was, unless only the folder could not be forced to the disk.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Makes the temporary file that write_file_atomically() would make, and removes it.
/// @throws InvalidArgumentError  as that would.
void check_can_replace(const std::filesystem::path& path);

/// Makes a file with mode 600 where there is nothing, not even a link that leads nowhere.
/// @throws InvalidArgumentError  with the system's reason; no file of ours is left.
void write_new_file(const std::filesystem::path& path, std::string_view content);

/// Excludes the other threads and processes of this host that lock a folder or a file, while the object lives. Leaves no
/// file.
///
/// Whoever may read what is locked can hold the lock, so it is not waited for without an end.
class PathLock {
 public:
  /// @throws InvalidArgumentError  nothing there to lock, or it was locked by others for the whole of `patience`.
  explicit PathLock(const std::filesystem::path& path, std::chrono::milliseconds patience = std::chrono::seconds{2});
  PathLock(const PathLock&) = delete;
  PathLock& operator=(const PathLock&) = delete;
  ~PathLock();

 private:
  std::intptr_t handle_;
};

/// A file that grows at its end, which this excludes the other threads and processes of this host from while it lives.
class AppendFile {
 public:
  /// Makes the file, with mode 600, if there is none.
  /// @throws InvalidArgumentError  as read_trusted_file(); also if any folder above it is writable by others and not
  ///         sticky (Windows: not looked at), or it was locked by others for the whole of `patience`.
  explicit AppendFile(const std::filesystem::path& path, std::chrono::milliseconds patience = std::chrono::seconds{2});
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  ~AppendFile();

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }  ///< In bytes.

  /// Its last bytes: `most` of them, or all if it has no more.
  /// @throws InvalidArgumentError  with the system's reason.
  [[nodiscard]] std::string tail(std::size_t most) const;

  /// Writes at the end and forces the file to the disk. What could be written in part only is taken back if possible.
  /// @throws InvalidArgumentError  with the system's reason.
  void append(std::string_view content);

 private:
  std::filesystem::path path_;
  std::intptr_t handle_;
  std::uint64_t size_ = 0;
  bool made_ = false;
#if defined(_WIN32)
  std::optional<PathLock> lock_;
#endif
};

/// The number by which the system knows this process.
[[nodiscard]] std::uint64_t process_id() noexcept;

/// @throws InvalidArgumentError  not set.
[[nodiscard]] SecretBytes environment_variable(const std::string& name);

/// @throws InvalidArgumentError  not a name.
void set_environment_variable(const std::string& name, const std::string& value);

}  // namespace hsmseal::platform
