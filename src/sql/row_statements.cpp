#include "sql/row_statements.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"

namespace hsmseal::sql {
namespace {

constexpr std::string_view kTextStart = "hse1.", kBinaryStart = "HSE1";

/// Where ring and set stand in an envelope, src/FORMAT.md section 2; both forms count from 1 as SQL does. In the text
/// form with the four bits before and behind, which are zero.
constexpr std::size_t kPlace = 9, kPlaceBytes = 8, kTextPlace = 16, kTextPlaceCharacters = 12;

std::string quoted(std::string_view name) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
  const bool allowed = !name.empty() && name.size() <= 63 && name.find_first_not_of(kAllowed) == std::string_view::npos;
  if (!allowed || (name.front() >= '0' && name.front() <= '9')) {
    throw InvalidArgumentError(
        "the name of a table or a column is 1 to 63 characters of A-Z a-z 0-9 _, the first no digit");
  }
  return fmt::format("\"{}\"", name);
}

std::string quoted_table(std::string_view name) {
  const auto dot = name.find('.');
  if (dot == std::string_view::npos) return quoted(name);
  return quoted(name.substr(0, dot)) + "." + quoted(name.substr(dot + 1));
}

/// Always with its table: SQLite takes a quoted name that is no column's for a text.
std::string quoted_column(std::string_view table, std::string_view column) {
  return quoted(table.substr(table.find('.') + 1)) + "." + quoted(column);
}

std::array<std::byte, kPlaceBytes> place_of(const RowQuery& query) {
  std::array<std::byte, kPlaceBytes> place{};
  std::copy_n(query.ring.bytes.begin(), 4, place.begin());
  for (std::size_t i = 0; i < 4; ++i) place[4 + i] = static_cast<std::byte>(query.active >> (24 - 8 * i) & 0xff);
  return place;
}

/// The base64url digits of the place, six bits each, which begin four bits before it.
std::string text_place_of(const RowQuery& query) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const auto place = place_of(query);
  std::string text;
  for (std::size_t i = 0; i < kTextPlaceCharacters; ++i) {
    std::size_t digit = 0;
    for (std::size_t bit = 6 * i; bit < 6 * i + 6; ++bit) {
      const bool inside = bit >= 4 && bit < 4 + 8 * kPlaceBytes;
      const auto byte = inside ? std::to_integer<std::size_t>(place[(bit - 4) / 8]) : 0;
      digit = digit * 2 + (byte >> (7 - (bit + 4) % 8) & 1);
    }
    text += kDigits[digit];
  }
  return text;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

template <typename... Parts>
std::string filled(std::string_view pattern, const Parts&... parts) {
  return fmt::format(fmt::runtime(pattern), parts...);
}

}  // namespace

RowStatements::RowStatements(const SqlRowOptions& options)
    : form_(options.form),
      table_(quoted_table(options.table)),
      key_(quoted_column(options.table, options.key_column)),
      value_(quoted_column(options.table, options.value_column)),
      column_(quoted(options.value_column)) {}

/// The value as what it should be: SQLite keeps texts in columns of bytes, and bytes in columns of text.
std::string RowStatements::value(const Dialect& dialect) const {
  return filled(form_ == RowForm::Text ? dialect.as_text : dialect.as_bytes, value_);
}

std::string RowStatements::shown(const Dialect& dialect, const std::string& value) const {
  return form_ == RowForm::Text ? value : filled(dialect.to_hex, value);
}

std::string RowStatements::literal(const Dialect& dialect, ByteView bytes) const {
  return filled(dialect.bytes_literal, core::to_hex(bytes));
}

std::string RowStatements::starts_with(const Dialect& dialect, std::string_view start) const {
  return fmt::format("substring({}, 1, {}) = {}", value(dialect), start.size(),
                     form_ == RowForm::Text ? fmt::format("'{}'", start) : literal(dialect, bytes_of(start)));
}

/// Also what is in the other form than it should be: it must not be taken for plain.
std::string RowStatements::needs_move(const Dialect& dialect, const RowQuery& query) const {
  const std::string text = text_place_of(query);
  const auto place = place_of(query);
  const bool is_text = form_ == RowForm::Text;
  const std::string other_text =
      fmt::format("substring({}, {}, {}) <> {}", value(dialect), kTextPlace, kTextPlaceCharacters,
                  is_text ? fmt::format("'{}'", text) : literal(dialect, bytes_of(text)));
  const std::string other_place = is_text ? "1 = 1"
                                          : fmt::format("substring({}, {}, {}) <> {}", value(dialect), kPlace,
                                                        kPlaceBytes, literal(dialect, place));
  return fmt::format("(({} and {}) or ({} and {}))", starts_with(dialect, kTextStart), other_text,
                     starts_with(dialect, kBinaryStart), other_place);
}

std::string RowStatements::next(const Dialect& dialect, const RowQuery& query) const {
  return fmt::format("select {}, {} from {} where {}{} order by {} {}{}", filled(dialect.as_text, key_),
                     shown(dialect, value(dialect)), table_,
                     query.after ? fmt::format("{} > :after and ", key_) : std::string{}, needs_move(dialect, query),
                     key_, filled(dialect.first_rows, query.most),
                     query.access == RowAccess::Replace ? dialect.skip_locked : std::string_view{});
}

std::string RowStatements::read(const Dialect& dialect) const {
  return fmt::format("select {} from {} where {} = :key and {} is not null", shown(dialect, value(dialect)), table_,
                     key_, value_);
}

bool RowStatements::binds_values(const Dialect& dialect) const {
  return form_ == RowForm::Text || !dialect.from_hex.empty();
}

std::string RowStatements::replace(const Dialect& dialect, const RowChange& change) const {
  std::string old_value = ":old_value", new_value = ":new_value";
  if (!binds_values(dialect)) {
    old_value = literal(dialect, change.old_value);
    new_value = literal(dialect, change.new_value);
  } else if (form_ == RowForm::Binary) {
    old_value = filled(dialect.from_hex, old_value);
    new_value = filled(dialect.from_hex, new_value);
  }
  return fmt::format("update {} set {} = {} where {} = :key and {} = {}", table_, column_, new_value, key_,
                     value(dialect), old_value);
}

std::string RowStatements::census(const Dialect& dialect) const {
  const auto start = [&](std::size_t size) {
    return shown(dialect, fmt::format("substring({}, 1, {})", value(dialect), size));
  };
  return fmt::format(
      "select counted.start_of_value, count(*) from (select case when {} then {} when {} then {} else '' end as "
      "start_of_value from {} where {} is not null) counted group by counted.start_of_value",
      starts_with(dialect, kTextStart), start(RowCensus::kStartCharacters), starts_with(dialect, kBinaryStart),
      start(form_ == RowForm::Text ? kBinaryStart.size() : RowCensus::kStartBytes), table_, value_);
}

std::string RowStatements::to_text(ByteView value) const {
  if (form_ == RowForm::Binary) return core::to_hex(value);
  return {reinterpret_cast<const char*>(value.data()), value.size()};
}

Bytes RowStatements::from_text(std::string_view text) const {
  const ByteView characters = bytes_of(text);
  if (form_ == RowForm::Text) return {characters.begin(), characters.end()};
  Bytes bytes;
  bytes.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_digit(text[i]), low = i + 1 < text.size() ? hex_digit(text[i + 1]) : -1;
    if (high < 0 || low < 0) throw StoreError("the database shows bytes in another way than it was asked for");
    bytes.push_back(static_cast<std::byte>(high * 16 + low));
  }
  return bytes;
}

}  // namespace hsmseal::sql
