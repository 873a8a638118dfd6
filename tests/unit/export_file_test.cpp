#include "ring/export_file.hpp"

#include <cstdint>
#include <limits>
#include <string>

#include <hsmseal/error.hpp>

#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;

namespace {

RingRecord some_record() {
  RingRecord record{.generation = 42, .body = "{\"two\n\":\"lines\"}"};
  for (std::size_t i = 0; i < record.mac.size(); ++i) record.mac.at(i) = static_cast<std::byte>(i * 37);
  return record;
}

}  // namespace

TEST_CASE("an exported ring is read as it was written") {
  RingRecord record = some_record();
  CHECK(ring::write_export(record) == "hsmseal-ring 1 42 " + test::hex(record.mac) + "\n{\"two\n\":\"lines\"}");
  for (const std::uint64_t generation : {std::uint64_t{1}, std::uint64_t{10}, (std::uint64_t{1} << 63) - 1}) {
    record.generation = generation;
    CHECK(ring::read_export(ring::write_export(record)) == record);
  }
  record.generation = std::numeric_limits<std::uint64_t>::max();
  CHECK_THROWS_AS(ring::read_export(ring::write_export(record)), FormatError);
}

TEST_CASE("an altered exported ring is refused, or is what another record is written as") {
  const std::string good = ring::write_export(some_record());
  std::size_t refused = 0, read = 0;
  const auto try_to_read = [&](const std::string& altered) {
    try {
      const RingRecord record = ring::read_export(altered);
      if (ring::write_export(record) != altered) FAIL_CHECK("read otherwise than it was written: " << altered);
      ++read;
    } catch (const FormatError&) {
      ++refused;
    }
  };
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string altered = good;
      altered[at] = static_cast<char>(value);
      if (altered != good) try_to_read(altered);
    }
    std::string without = good;
    try_to_read(good.substr(0, at));
    try_to_read(without.erase(at, 1));
  }
  CHECK(refused + read == 257 * good.size());
  // A generation's first digit has 8 others, the second 9; a mac's digit 15; and what stands inside the braces is free.
  const std::size_t inside = some_record().body.size() - 2;
  const std::size_t removed = 2 + inside;  // a digit of the generation, something inside the braces
  CHECK(read == 8 + 9 + 64 * 15 + inside * 255 + removed);
}
