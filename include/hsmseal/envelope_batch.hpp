#pragma once

#include <exception>
#include <optional>
#include <utility>

#include <hsmseal/context.hpp>
#include <hsmseal/error_code.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

/// One secret of EnvelopeEncryptor::seal_many(), as seal() takes it. Refers to what it was made from.
struct SealItem {
  ByteView secret;      ///< 0 to kMaxSecretBytes bytes
  ContextView context;  ///< what the envelope is bound to
};

/// One envelope of EnvelopeEncryptor::open_many(), as open() takes it. Refers to what it was made from.
struct OpenItem {
  ByteView sealed;      ///< one complete envelope
  ContextView context;  ///< as it was sealed with
};

/// The code of an error of hsmseal.
/// @returns nothing for an exception that is not one, such as std::bad_alloc, or for a null pointer.
[[nodiscard]] HSMSEAL_API std::optional<ErrorCode> code_of(const std::exception_ptr& error) noexcept;

/// What became of one item of a batch: its value, or the error that the call for one item would have thrown.
///
/// Thread safety: like a standard container.
template <typename Value>
class ItemResult {
 public:
  /// @param value  what came of the item.
  explicit ItemResult(Value value) : value_(std::move(value)) {}
  /// @param error  not null.
  explicit ItemResult(std::exception_ptr error) noexcept : error_(std::move(error)) {}

  /// Whether there is a value.
  [[nodiscard]] bool ok() const noexcept { return value_.has_value(); }
  /// The same, for conditions.
  explicit operator bool() const noexcept { return ok(); }

  /// The value.
  /// @throws the item's error, as it was thrown.
  [[nodiscard]] const Value& value() const& { return checked(), *value_; }
  /// The value, to be moved from.
  [[nodiscard]] Value& value() & { return checked(), *value_; }
  /// The value of a result that is not needed any more.
  [[nodiscard]] Value value() && { return checked(), std::move(*value_); }

  /// The error; null if there is a value. Items that failed for one reason may share one.
  [[nodiscard]] const std::exception_ptr& error() const noexcept { return error_; }
  /// The error's code; nothing if there is a value.
  [[nodiscard]] std::optional<ErrorCode> code() const noexcept { return code_of(error_); }

 private:
  void checked() const {
    if (error_) std::rethrow_exception(error_);
  }

  std::optional<Value> value_;
  std::exception_ptr error_;
};

/// An envelope, or why there is none.
using SealResult = ItemResult<Bytes>;
/// A secret, or why there is none.
using OpenResult = ItemResult<SecretBytes>;

}  // namespace hsmseal
