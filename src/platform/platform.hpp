#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <hsmseal/secret_bytes.hpp>

/// Everything hsmseal asks of the operating system; one source file for each system implements it.
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

inline void write_new_file(const std::filesystem::path&, std::string_view) {}

/// @throws InvalidArgumentError  not set.
[[nodiscard]] SecretBytes environment_variable(const std::string& name);

/// @throws InvalidArgumentError  not a name.
void set_environment_variable(const std::string& name, const std::string& value);

}  // namespace hsmseal::platform
