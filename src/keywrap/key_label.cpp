#include "keywrap/key_label.hpp"

#include <charconv>
#include <system_error>

#include <fmt/format.h>

namespace hsmseal::keywrap {
namespace {

constexpr std::string_view kMacSuffix = "-mac";

std::string prefix(const RingId& ring) { return fmt::format("hsmseal-{}-v", ring.to_string()); }

}  // namespace

std::string key_label(const RingId& ring, Version version) { return prefix(ring) + std::to_string(version); }

std::string mac_key_label(const std::string& key_label) { return key_label + std::string{kMacSuffix}; }

std::optional<LabelledKey> key_in(std::string_view label, const RingId& ring) {
  const std::string before = prefix(ring);
  if (!label.starts_with(before)) return std::nullopt;
  const KeyPart part = label.ends_with(kMacSuffix) ? KeyPart::Mac : KeyPart::Encryption;
  if (part == KeyPart::Mac) label.remove_suffix(kMacSuffix.size());
  const std::string_view digits = label.substr(before.size());
  Version version = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
  // What is written another way than key_label() writes it is not hsmseal's.
  if (error != std::errc{} || version == 0 || std::to_string(version) != digits) return std::nullopt;
  return LabelledKey{version, part};
}

}  // namespace hsmseal::keywrap
