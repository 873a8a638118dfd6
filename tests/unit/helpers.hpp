#pragma once

#include <string>
#include <string_view>
#include <typeinfo>

#include <hsmseal/secret_bytes.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "support/catch.hpp"

namespace hsmseal::test {

/// Bytes as something that a failed test can print.
inline std::string hex(ByteView bytes) { return core::to_hex(bytes); }

inline Bytes unhex(std::string_view text) {
  auto bytes = crypto::from_hex(text);
  REQUIRE(bytes);
  return *std::move(bytes);
}

inline Bytes copy_of(ByteView bytes) { return {bytes.begin(), bytes.end()}; }

/// One bit flipped, counted from the first byte's lowest.
inline Bytes with_flipped_bit(ByteView bytes, std::size_t bit) {
  Bytes changed = copy_of(bytes);
  changed.at(bit / 8) ^= std::byte{1} << (bit % 8);
  return changed;
}

/// The message of the error that `call` must throw: exactly an Expected, not something derived from it. Any other
/// exception goes on and fails the test.
template <typename Expected, typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Expected& error) {
    INFO(error.what());
    const bool exactly_this_type = typeid(error) == typeid(Expected);
    CHECK(exactly_this_type);
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace hsmseal::test
