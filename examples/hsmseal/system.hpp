#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/secret_bytes.hpp>

// What the tool asks of the operating system. POSIX alone: system.cpp is the one file to port.

namespace tool {

/// The largest input the tool reads into memory.
inline constexpr std::size_t kMaxInputBytes = std::size_t{1} << 30;

enum class Stream { Input = 0, Output = 1, Error = 2 };
[[nodiscard]] bool is_terminal(Stream stream);

/// Asks a person on /dev/tty for something that is not shown while it is typed.
/// @param what     for people: `PIN of token 'hsm1'`.
/// @param instead  what to do where there is no terminal.
/// @throws UsageError  there is no terminal, or nothing was typed.
[[nodiscard]] hsmseal::SecretBytes ask_secret(const std::string& what, std::string_view instead);

/// Asks a person on /dev/tty for a line.
/// @throws UsageError  there is no terminal.
[[nodiscard]] std::string ask_line(const std::string& prompt, std::string_view what, std::string_view instead);

/// A whole file, or the standard input for "-". Kept as a secret, since it may be one.
/// @throws UsageError  it cannot be read, or is too large.
[[nodiscard]] hsmseal::SecretBytes content_of(const std::filesystem::path& path);

/// Takes the next piece of a file.
using Pieces = std::function<void(hsmseal::ByteView)>;

/// Reads a file, or the standard input for "-", of any size, from an offset on.
/// @throws UsageError  it cannot be read.
void read_in_pieces(const std::filesystem::path& path, const Pieces& take, std::uint64_t offset = 0);

/// The first bytes of a file, or all of a shorter one. Empty if it is no regular file.
/// @throws UsageError  it cannot be read.
[[nodiscard]] hsmseal::Bytes start_of(const std::filesystem::path& path, std::size_t size);

/// How large a regular file is.
[[nodiscard]] std::optional<std::uint64_t> size_of(const std::filesystem::path& path);

/// Writes to the standard output.
/// @throws Failure  it was closed, or is full.
void write_output(hsmseal::ByteView content);

enum class Existing { Keep, Replace };

/// Makes a file of mode 600, whole or not at all: a temporary file beside it, fsync, rename.
/// @throws UsageError  there is one already, with Existing::Keep.
/// @throws Failure     it cannot be written; nothing is left.
void write_file(const std::filesystem::path& path, hsmseal::ByteView content, Existing existing);
/// The same for content that `fill` makes piece by piece. What it throws leaves nothing either.
void write_file(const std::filesystem::path& path, Existing existing, const std::function<void(const Pieces&)>& fill);

/// Replaces the content of a file in the same way and keeps its mode and owner. A link's target is replaced.
/// @throws Failure  as write_file(), and if the owner cannot be kept; the file is as it was.
void replace_content(const std::filesystem::path& path, hsmseal::ByteView content);
/// The same for content that `fill` makes piece by piece.
void replace_content(const std::filesystem::path& path, const std::function<void(const Pieces&)>& fill);

/// Reads a configuration file that nobody but its owner, root or this user, can change.
/// @throws UsageError  missing, not a regular file, writable by others, of another user, or too large.
[[nodiscard]] std::string trusted_content_of(const std::filesystem::path& path);

/// Whether others than the owner may read a file.
[[nodiscard]] bool readable_by_others(const std::filesystem::path& path);

/// Runs a shell command and returns what it printed on its standard output.
/// @throws Failure  it did not end with 0.
[[nodiscard]] std::string output_of_command(const std::string& command);

/// The value of a variable of the environment; empty if it is not set.
[[nodiscard]] std::string environment(const char* name);
void set_environment(const char* name, const std::string& value);

/// Now, in UTC, as 2026-01-31T12:00:00Z.
[[nodiscard]] std::string time_now();

}  // namespace tool
