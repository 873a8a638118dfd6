#include "envelope/row_mover.hpp"

#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "envelope/patience.hpp"
#include "envelope/text_form.hpp"

namespace hsmseal::envelope {
namespace {

/// A value in its binary form.
struct Sealed {
  Bytes bytes;
  bool was_text;
};

/// @returns nothing for a plain value.
/// @throws FormatError
std::optional<Sealed> sealed_in(const Bytes& value) {
  const std::string_view text{reinterpret_cast<const char*>(value.data()), value.size()};
  if (is_sealed_text(text)) return Sealed{from_text(text), true};
  if (is_sealed(value)) return Sealed{value, false};
  return std::nullopt;
}

ContextView context_of(const Row& row) {
  if (!row.context) {
    throw Unusable{fmt::format(
        "the source does not know the context of row '{}', which is needed to open and to reseal it; give it contexts, "
        "or choose RowCheck::Commitment",
        row.key)};
  }
  if (row.context->empty()) return kNoContext;
  return ContextView::raw(*row.context);
}

/// Whether a row was sealed in the token, and can be opened.
bool is_in_token(ByteView sealed, const Row& row) { return row.context && inspect(sealed).suite == Suite::Token; }

}  // namespace

std::optional<Bytes> RowMover::new_value(const Row& row, MovedKeys& keys) const {
  const auto sealed = sealed_in(row.value);
  if (!sealed || !vault_.needs_rewrap(sealed->bytes)) return std::nullopt;
  if (options_.writes == RewrapWrites::Nothing) {
    try_out(sealed->bytes, row);
    return Bytes{};
  }
  Bytes value = moved(sealed->bytes, row, keys);
  if (!sealed->was_text) return value;
  const std::string text = to_text(value);
  const ByteView characters = bytes_of(text);
  return Bytes{characters.begin(), characters.end()};
}

Bytes RowMover::moved(ByteView sealed, const Row& row, MovedKeys& keys) const {
  if (auto value = moved_with_others(sealed, row, keys)) return *std::move(value);
  if (options_.check == RowCheck::Commitment) {
    if (options_.mode == RewrapMode::Reseal || is_in_token(sealed, row)) {
      return vault_.reseal(sealed, context_of(row));
    }
    Bytes value = vault_.rewrap(sealed);
    keys.note(sealed, value);
    return value;
  }
  const ContextView context = context_of(row);
  Bytes value = options_.mode == RewrapMode::Reseal ? vault_.reseal(sealed, context) : vault_.rewrap(sealed, context);
  try {
    static_cast<void>(vault_.open(value, context));
  } catch (const OpenError&) {
    throw WrongKeyError(fmt::format(
        "what was sealed under set {} for row '{}' does not open again; the row was not changed: see to the token",
        inspect(value).version, row.key));
  }
  if (options_.mode == RewrapMode::Rewrap) keys.note(sealed, value);
  return value;
}

/// The payload stays as it is, so that the new value opens if the old one does: one look is enough. If it does not, it is
/// the row, since others of its data key opened.
std::optional<Bytes> RowMover::moved_with_others(ByteView sealed, const Row& row, const MovedKeys& keys) const {
  if (options_.mode == RewrapMode::Reseal) return std::nullopt;
  auto value = keys.moved(sealed);
  if (!value || vault_.needs_rewrap(*value)) return std::nullopt;
  if (options_.check == RowCheck::Open) static_cast<void>(vault_.open(*value, context_of(row)));
  return value;
}

void RowMover::try_out(ByteView sealed, const Row& row) const {
  if (options_.check == RowCheck::Open || options_.mode == RewrapMode::Reseal || is_in_token(sealed, row)) {
    static_cast<void>(vault_.open(sealed, context_of(row)));
  } else {
    static_cast<void>(vault_.rewrap(sealed));
  }
}

bool RowMover::is_damaged(const Row& row) const {
  try {
    const auto sealed = sealed_in(row.value);
    if (!sealed) return true;
    try_out(sealed->bytes, row);
    return false;
  } catch (const FormatError&) {
    return true;
  } catch (const OpenError&) {
    return true;
  } catch (const Error& error) {
    if (fault_of(error) != Fault::Row) throw;
    return false;  // another's envelope, or one sealed in the token whose context is not known
  }
}

}  // namespace hsmseal::envelope
