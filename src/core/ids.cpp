#include <hsmseal/credential_set.hpp>

#include <charconv>
#include <cstdint>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"

namespace hsmseal {

std::string RingId::to_string() const { return core::to_hex(bytes); }
std::string KekId::to_string() const { return core::to_hex(bytes); }

RingId RingId::from_string(std::string_view text) {
  RingId id;
  if (text.size() == 2 * id.bytes.size()) {
    for (std::size_t i = 0; i < id.bytes.size(); ++i) {
      std::uint8_t byte = 0;
      std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, byte, 16);
      id.bytes[i] = std::byte{byte};
    }
    if (id.to_string() == text) return id;
  }
  throw InvalidArgumentError("a ring's id is 32 lower-case hexadecimal digits");
}

}  // namespace hsmseal
