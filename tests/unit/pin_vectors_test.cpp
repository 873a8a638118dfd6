// The library reads and writes the pin files of another implementation of src/FORMAT.md.
#include <algorithm>
#include <cstdint>
#include <string>

#include <hsmseal/error.hpp>

#include "ring/ring_pin.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace hsmseal;
using test::bytes_at;
using test::Vectors;

namespace {

PinnedRing pinned_of(const nlohmann::json& entry) {
  PinnedRing pinned;
  pinned.generation = entry.at("generation").get<std::uint64_t>();
  const auto copy = [&](const char* field, auto& to) {
    const Bytes bytes = bytes_at(entry, field);
    REQUIRE(bytes.size() == to.size());
    std::ranges::copy(bytes, to.begin());
  };
  copy("ring_id", pinned.id.bytes);
  copy("mac", pinned.mac);
  copy("key_check", pinned.key_check);
  return pinned;
}

}  // namespace

TEST_CASE("the vectors' pins are read and written to the same bytes") {
  std::size_t ran = 0;
  for (const auto& entry : Vectors::instance().list("pins")) {
    INFO(entry.at("name"));
    const auto content = entry.at("content").get<std::string>();
    CHECK(ring::pin_from_text(content) == pinned_of(entry));
    CHECK(ring::to_text(pinned_of(entry)) == content);
    ++ran;
  }
  CHECK(ran > 2);
}

TEST_CASE("every invalid pin of the vectors is refused") {
  std::size_t ran = 0;
  for (const auto& entry : Vectors::instance().list("invalid_pins")) {
    INFO(entry.at("name"));
    CHECK_THROWS_AS(ring::pin_from_text(entry.at("content").get<std::string>()), InvalidArgumentError);
    ++ran;
  }
  CHECK(ran > 30);
}
