#pragma once

#include <string>
#include <string_view>

#include <hsmseal/secret_bytes.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"

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

}  // namespace hsmseal::test
