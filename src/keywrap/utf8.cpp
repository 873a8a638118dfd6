#include "keywrap/utf8.hpp"

#include <array>
#include <cstddef>

namespace hsmseal::keywrap {
namespace {

/// A row of table 3-7 of the Unicode standard: what begins a character, and what its second byte may be.
struct Form {
  unsigned char first_low, first_high, second_low, second_high;
  std::size_t bytes;
};

constexpr std::array<Form, 9> kForms{{
    {0x00, 0x7f, 0x00, 0x00, 1},
    {0xc2, 0xdf, 0x80, 0xbf, 2},
    {0xe0, 0xe0, 0xa0, 0xbf, 3},
    {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3},
    {0xee, 0xef, 0x80, 0xbf, 3},
    {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4},
    {0xf4, 0xf4, 0x80, 0x8f, 4},
}};

bool within(char byte, unsigned char low, unsigned char high) {
  const auto value = static_cast<unsigned char>(byte);
  return low <= value && value <= high;
}

/// The size of the character that `text` begins with, 0 if it begins with none.
std::size_t character_size(std::string_view text) {
  for (const Form& form : kForms) {
    if (!within(text[0], form.first_low, form.first_high)) continue;
    if (text.size() < form.bytes) return 0;
    if (form.bytes > 1 && !within(text[1], form.second_low, form.second_high)) return 0;
    for (std::size_t i = 2; i < form.bytes; ++i) {
      if (!within(text[i], 0x80, 0xbf)) return 0;
    }
    return form.bytes;
  }
  return 0;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t size = character_size(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

}  // namespace hsmseal::keywrap
