#include <algorithm>
#include <cctype>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "pins.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"

using namespace hsmseal;
using namespace hsmseal::test::pins;
using ring::pin_from_text;
using test::message_of;

namespace {

const std::string kText =
    "hsmseal-pin 1\n"
    "ring 1126b532dff4b709fb1f93139f45aa42\n"
    "generation 7\n"
    "mac 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"
    "key ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at) + 1;
    lines.push_back(text.substr(at, end - at));
    at = end;
  }
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line;
  return text;
}

/// Pins that are none.
std::vector<std::string> malformed() {
  const auto lines = lines_of(kText);
  REQUIRE(lines.size() == 5);
  std::vector<std::string> texts = {"",
                                    "\n",
                                    kText + "\n",
                                    kText + "x",
                                    kText + std::string(1, '\0'),
                                    kText + kText,
                                    "\n" + kText,
                                    " " + kText,
                                    "\xef\xbb\xbf" + kText,
                                    kText.substr(0, kText.size() - 1),
                                    std::string(10'000'000, 'x'),
                                    kText + std::string(10'000'000, '\n')};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string bare = lines[i].substr(0, lines[i].size() - 1);
    const auto with = [&](const std::string& line) {
      auto changed = lines;
      changed[i] = line;
      texts.push_back(joined(changed));
    };
    with("");
    with("\n");
    with(lines[i] + lines[i]);
    with(lines[i] + "\n");
    with(bare);
    with(bare + "\r\n");
    with(bare + " \n");
    with(" " + lines[i]);
    with("\t" + lines[i]);
    with(bare + std::string("\0\n", 2));
    with(replaced(lines[i], " ", "  "));
    with(replaced(lines[i], " ", "\t"));
    with(replaced(lines[i], " ", ""));
    with(bare.substr(0, bare.size() - 1) + "\n");
    with(bare.substr(0, bare.find(' ') + 1) + "\n");
    with(bare + "00\n");
    with(bare.substr(0, bare.size() - 1) + "g\n");
    with("# " + lines[i]);
    auto upper = lines[i];
    std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
    with(upper);
    for (std::size_t j = 0; j < i; ++j) {
      auto swapped = lines;
      std::swap(swapped[i], swapped[j]);
      texts.push_back(joined(swapped));
    }
  }
  for (const char* const generation :
       {"0", "00", "07", "-7", "+7", "7.0", "7e1", "0x7", "", " 7", "9223372036854775808", "18446744073709551615",
        "18446744073709551623", "99999999999999999999999"}) {
    texts.push_back(replaced(kText, "generation 7", std::string{"generation "} + generation));
  }
  texts.push_back(replaced(kText, "aabbcc", "aAbbcc"));
  texts.push_back(replaced(kText, "b532", "B532"));
  std::erase(texts, replaced(kText, "generation 7", "generation 700"));    // this is one
  std::erase(texts, replaced(kText, "hsmseal-pin 1", "hsmseal-pin 100"));  // of a later format
  return texts;
}

}  // namespace

TEST_CASE("a pin's text has five lines") {
  const PinnedRing ring = pin_from_text(kText);
  CHECK(ring.id.to_string() == "1126b532dff4b709fb1f93139f45aa42");
  CHECK(ring.generation == 7);
  CHECK(ring.mac[1] == std::byte{0x11});
  CHECK(ring.key_check[0] == std::byte{0xff});
  CHECK(ring::to_text(ring) == kText);
}

TEST_CASE("a pin's generation is 1 to 2^63 - 1") {
  for (const std::uint64_t generation : {std::uint64_t{1}, std::uint64_t{10}, std::uint64_t{1} << 32U,
                                         std::uint64_t{std::numeric_limits<std::int64_t>::max()}}) {
    const PinnedRing ring = pinned(generation);
    CHECK(pin_from_text(ring::to_text(ring)) == ring);
    CHECK(PinKeeper{ring}.last() == ring);
  }
  for (const std::uint64_t generation : {std::uint64_t{0}, std::uint64_t{1} << 63U}) {
    CHECK_THROWS_AS(pin_from_text(ring::to_text(pinned(generation))), InvalidArgumentError);
    CHECK_THROWS_AS(RingPin::fixed(pinned(generation)), InvalidArgumentError);
  }
}

TEST_CASE("what is not exactly a pin's text is refused") {
  const auto texts = malformed();
  REQUIRE(texts.size() > 115);
  for (const auto& text : texts) {
    INFO(text.substr(0, 400));
    CHECK_THROWS_AS(pin_from_text(text), InvalidArgumentError);
  }
  for (std::size_t size = 0; size < kText.size(); ++size) {
    CHECK_THROWS_AS(pin_from_text(std::string_view{kText}.substr(0, size)), InvalidArgumentError);
  }
}

TEST_CASE("a pin of one changed bit is another pin or none") {
  std::size_t others = 0, refused = 0;
  for (std::size_t bit = 0; bit < kText.size() * 8; ++bit) {
    std::string text = kText;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
    try {
      const PinnedRing ring = pin_from_text(text);
      REQUIRE(ring::to_text(ring) == text);
      REQUIRE(ring != pin_from_text(kText));
      ++others;
    } catch (const InvalidArgumentError&) {
      ++refused;
    }
  }
  CHECK(others > 200);
  CHECK(refused > 1000);
}

TEST_CASE("a pin of a later format asks for a newer hsmseal") {
  for (const char* const format : {"2", "10", "999999999"}) {
    for (const std::string& rest : {std::string{}, std::string{"anything\n"}, kText.substr(14)}) {
      const std::string message = message_of<InvalidArgumentError>(
          [&] { return pin_from_text(fmt::format("hsmseal-pin {}\n{}", format, rest)); });
      CHECK_NAMES(message, "newer hsmseal");
      CHECK_NAMES(message, format);
    }
  }
  for (const char* const format : {"0", "01", "-2", "2x", "2 ", "x", "", "1234567890", "\x1b[2J"}) {
    const std::string message = message_of<InvalidArgumentError>(
        [&] { return pin_from_text(fmt::format("hsmseal-pin {}\n{}", format, kText.substr(14))); });
    CHECK_NAMES(message, "damaged");
  }
}

TEST_CASE("a damaged pin file is refused, however the ring is opened, and stays as it is") {
  for (const auto& text : malformed()) {
    const Place place;
    place.put(text);
    INFO(text.substr(0, 400));
    for (const auto missing : {Missing::Refuse, Missing::Trust}) {
      for (const auto rollback : {Rollback::Refuse, Rollback::Accept}) {
        PinKeeper keeper{place.file, missing, rollback};
        CHECK_THROWS_AS(keeper.last(), InvalidArgumentError);
        CHECK_THROWS_AS(keeper.last_for_open(), InvalidArgumentError);
        CHECK_THROWS_AS(see(keeper, 1), InvalidArgumentError);
        CHECK_THROWS_AS(keeper.accept(body_of(1), mac_of(1), kRingKey), InvalidArgumentError);
      }
    }
    const std::string message = refusal(place);
    CHECK_NAMES(message, "trust_first_use");
    CHECK_NAMES(message, "restore");
    CHECK(content_of(place.file) == text);
  }
}
