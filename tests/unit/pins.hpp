#pragma once

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include <sys/stat.h>

#include <hsmseal/ring_pin.hpp>

#include "ring/ring_key.hpp"
#include "ring/ring_pin.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/softhsm.hpp"

/// What the tests of pins have in common.
namespace hsmseal::test::pins {

namespace fs = std::filesystem;
using ring::Body;
using ring::Mac;
using ring::PinKeeper;
using Missing = PinKeeper::Missing;
using Rollback = PinKeeper::Rollback;

template <std::size_t N>
std::array<std::byte, N> filled(std::uint8_t value) {
  std::array<std::byte, N> bytes;
  bytes.fill(std::byte{value});
  return bytes;
}

inline const RingId kRing{filled<16>(0x11)}, kOtherRing{filled<16>(0x22)};
inline const SecretBytes kRingKey{filled<32>(0xee)};

/// The mac of a generation in one history of a ring.
inline Mac mac_of(std::uint64_t generation, std::uint8_t history = 0) {
  Mac mac = filled<32>(history);
  mac[0] = static_cast<std::byte>(generation);
  mac[1] = static_cast<std::byte>(generation >> 8U);
  return mac;
}

inline Body body_of(std::uint64_t generation, std::uint8_t history = 0, const RingId& ring = kRing) {
  Body body;
  body.id = ring;
  body.generation = generation;
  if (generation > 1) body.prev_mac = mac_of(generation - 1, history);
  return body;
}

inline PinnedRing pinned(std::uint64_t generation, std::uint8_t history = 0, const RingId& ring = kRing) {
  return {ring, generation, mac_of(generation, history), ring::key_check(kRingKey)};
}

inline bool see(PinKeeper& keeper, std::uint64_t generation, std::uint8_t history = 0, const RingId& ring = kRing) {
  return keeper.seen(body_of(generation, history, ring), mac_of(generation, history), kRingKey);
}

inline std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A folder for a pin's file.
struct Place {
  test::ScratchDirectory scratch;
  fs::path folder = fs::canonical(scratch.path()) / "pins";
  fs::path file = folder / "ring.pin";

  Place() { fs::create_directory(folder); }

  void put(std::string_view content, mode_t mode = 0600) const {
    std::ofstream(file, std::ios::binary) << content;
    REQUIRE(::chmod(file.c_str(), mode) == 0);
  }
  void put(const PinnedRing& ring) const { put(ring::to_text(ring)); }
  [[nodiscard]] std::optional<PinnedRing> stored() const {
    if (!fs::exists(file)) return std::nullopt;
    return ring::pin_from_text(content_of(file));
  }
};

/// The message with which a pin's file is refused.
inline std::string refusal(const Place& place) {
  const std::string message = message_of<InvalidArgumentError>([&] {
    return PinKeeper{place.file, Missing::Trust}.last_for_open();
  });
  CHECK_NAMES(message, place.file.string());
  return message;
}

}  // namespace hsmseal::test::pins
