#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include <hsmseal/export.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

/// What an envelope is bound to: the record's id, the tenant, the field. Not secret and not stored in the envelope; the
/// same context must be given to open it, so that two rows of a database cannot be swapped.
///
/// Names and values are encoded so that no two contexts are equal but those with the same pairs; the order in which
/// they were added does not matter. src/FORMAT.md section 5.
class HSMSEAL_API Context {
 public:
  /// Adds a pair.
  /// @param name   not empty.
  /// @param value  may be empty.
  /// @throws InvalidArgumentError  the name is empty or was added before.
  Context& add(std::string_view name, std::string_view value) &;
  /// The same for a context that is made where it is used: `Context{}.add("record", "42")`.
  Context&& add(std::string_view name, std::string_view value) &&;

  /// The canonical bytes; empty if nothing was added.
  [[nodiscard]] const Bytes& encoded() const noexcept { return encoded_; }

 private:
  std::map<std::string, std::string, std::less<>> pairs_;
  Bytes encoded_;
};

/// The explicit way to bind an envelope to nothing: it then opens in any place.
struct NoContext {};
/// What a call passes instead of a context: `seal(secret, kNoContext)`.
inline constexpr NoContext kNoContext;

/// A context as seal and open take it. Refers to what it was made from.
class HSMSEAL_API ContextView {
 public:
  /// The context must outlive the call that the view is made for.
  /// @throws InvalidArgumentError  nothing was added: say kNoContext if that is meant.
  ContextView(const Context& context);  // NOLINT(google-explicit-constructor): calls read `open(sealed, context)`
  /// Binds to nothing.
  ContextView(NoContext) noexcept {}  // NOLINT(google-explicit-constructor)

  /// Bytes that the application encodes by itself, at most 16 MiB.
  /// @throws InvalidArgumentError  empty, or too long.
  [[nodiscard]] static ContextView raw(ByteView bytes);

  /// The canonical bytes, or those given to raw(); empty for kNoContext.
  [[nodiscard]] ByteView bytes() const noexcept { return bytes_; }

 private:
  explicit ContextView(ByteView bytes) : bytes_(bytes) {}

  ByteView bytes_;
};

}  // namespace hsmseal
