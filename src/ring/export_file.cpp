#include "ring/export_file.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "platform/platform.hpp"

namespace hsmseal::ring {
namespace {

constexpr std::string_view kLabel = "hsmseal-ring 1 ";

/// 1 to 2^63 - 1, in the only way to write it.
std::optional<std::uint64_t> generation_from(std::string_view digits) {
  std::int64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (error != std::errc{} || stop != end || number < 1 || digits.front() == '0') return std::nullopt;
  return static_cast<std::uint64_t>(number);
}

std::optional<RingRecord> parse(std::string_view content) {
  const std::size_t line_end = content.find('\n');
  if (line_end == std::string_view::npos || !content.starts_with(kLabel)) return std::nullopt;
  const std::string_view fields = content.substr(kLabel.size(), line_end - kLabel.size());
  const std::size_t space = fields.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const auto generation = generation_from(fields.substr(0, space));
  const auto mac = crypto::from_hex(fields.substr(space + 1));
  const std::string_view body = content.substr(line_end + 1);
  RingRecord record;
  if (!generation || !mac || mac->size() != record.mac.size()) return std::nullopt;
  if (!body.starts_with('{') || !body.ends_with('}')) return std::nullopt;
  record.generation = *generation;
  record.body = body;
  std::ranges::copy(*mac, record.mac.begin());
  return record;
}

}  // namespace

std::string write_export(const RingRecord& record) {
  return fmt::format("{}{} {}\n{}", kLabel, record.generation, core::to_hex(record.mac), record.body);
}

RingRecord read_export(std::string_view content) {
  if (auto record = parse(content)) return *std::move(record);
  throw FormatError("this is not an exported ring of a format that this version knows, or it was changed on its way");
}

std::string read_export_file(const std::filesystem::path& path) {
  const auto unreadable = [&] {
    const int error = errno;
    return InvalidArgumentError(fmt::format("cannot read the exported ring '{}': {}", platform::shown(path),
                                            std::generic_category().message(error != 0 ? error : EIO)));
  };
  errno = 0;
  std::ifstream file{path, std::ios::binary};
  if (!file.is_open()) throw unreadable();
  std::string text;
  try {
    text.assign(std::istreambuf_iterator<char>{file}, {});
  } catch (const std::ios_base::failure&) {  // a folder can be opened
    throw unreadable();
  }
  return text;
}

}  // namespace hsmseal::ring
