#include "ring/export_file.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::ring {
namespace {

constexpr std::string_view kBegins = "hsmseal-ring 1 ";
constexpr std::size_t kMacDigits = 64;

std::string header_of(const RingRecord& record) {
  return fmt::format("{}{} {}\n", kBegins, record.generation, core::to_hex(record.mac));
}

}  // namespace

std::string write_export(const RingRecord& record) { return header_of(record) + record.body; }

RingRecord read_export(std::string_view text) {
  const auto malformed = [] { return FormatError("the file is not an exported ring of a format that is known here"); };
  const auto line_end = text.find('\n');
  if (!text.starts_with(kBegins) || line_end == std::string_view::npos) throw malformed();
  const std::string_view line = text.substr(0, line_end);
  RingRecord record;
  record.body = text.substr(line_end + 1);
  const auto number = line.substr(kBegins.size());
  std::from_chars(number.data(), number.data() + number.size(), record.generation);
  const auto mac = crypto::from_hex(line.substr(line.size() - std::min(line.size(), kMacDigits)));
  if (!mac || mac->size() != record.mac.size()) throw malformed();
  std::ranges::copy(*mac, record.mac.begin());
  // Whatever the reading above tolerates does not survive this.
  if (header_of(record) != text.substr(0, line_end + 1)) throw malformed();
  return record;
}

std::string read_export_file(const std::filesystem::path& path) {
  const auto unreadable = [&] { return InvalidArgumentError("cannot read the exported ring " + path.string()); };
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
