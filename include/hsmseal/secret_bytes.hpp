#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include <hsmseal/export.hpp>

namespace hsmseal {

/// Bytes that are not secret: envelopes, wrapped keys. Not wiped.
using Bytes = std::vector<std::byte>;
/// Bytes that are only read. A function that keeps them says so.
using ByteView = std::span<const std::byte>;

/// The bytes of a text, without its terminating zero. Refers to the text, does not copy it.
[[nodiscard]] inline ByteView bytes_of(std::string_view text) noexcept {
  return std::as_bytes(std::span{text.data(), text.size()});
}

/// A fixed number of secret bytes: a password, a PIN, a key.
///
/// The memory is kept out of core dumps, locked against swapping as far as the process may lock memory (RLIMIT_MEMLOCK,
/// on Windows the minimum working set; see secret_memory()), and wiped when the object is destroyed or moved over. It
/// cannot be copied by accident: clone() is the greppable way.
///
/// Thread safety: like a standard container.
class HSMSEAL_API SecretBytes {
 public:
  SecretBytes() noexcept = default;

  /// Makes room for `size` bytes, all zero.
  /// @throws std::bad_alloc  no memory, or none that can be kept out of core dumps.
  explicit SecretBytes(std::size_t size);

  /// Copies; the source is the caller's to wipe.
  explicit SecretBytes(ByteView source);

  /// Copies the characters of a text, without a terminating zero.
  [[nodiscard]] static SecretBytes from_text(std::string_view text) { return SecretBytes{bytes_of(text)}; }

  SecretBytes(SecretBytes&& other) noexcept;             ///< Leaves `other` empty; the bytes stay where they are.
  SecretBytes& operator=(SecretBytes&& other) noexcept;  ///< Wipes its own bytes first; leaves `other` empty.
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();

  /// A second copy in memory, protected as the first.
  /// @throws std::bad_alloc  as the constructors.
  [[nodiscard]] SecretBytes clone() const { return SecretBytes{view()}; }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }                  ///< In bytes.
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }                   ///< Also after it was moved from.
  [[nodiscard]] ByteView view() const noexcept { return {data_, size_}; }            ///< Refers to this object.
  [[nodiscard]] std::span<std::byte> writable() noexcept { return {data_, size_}; }  ///< Refers to this object.

  /// The bytes as characters. Refers to this object.
  [[nodiscard]] std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }

  /// Keeps the first `size` bytes and wipes the rest. A size not below the present one changes nothing.
  void truncate(std::size_t size) noexcept;

 private:
  void release() noexcept;

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

/// How much memory holds secrets now, in bytes, and how much of it could be locked against swapping.
struct SecretMemory {
  std::size_t reserved = 0;  ///< in whole pages; those of small secrets are kept for the next ones
  std::size_t locked = 0;    ///< of these
};

/// The state of the process's memory for secrets: `locked` below `reserved` means that the process may lock too little.
/// A forked child inherits the figures but not the locks.
///
/// Thread safety: any thread.
[[nodiscard]] HSMSEAL_API SecretMemory secret_memory() noexcept;

}  // namespace hsmseal
