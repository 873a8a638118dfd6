#include <limits>
#include <string>

#include "keywrap/key_label.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using keywrap::key_in;
using keywrap::key_label;

namespace {

constexpr RingId kRing{{std::byte{0xab}, std::byte{0xcd}}};
constexpr RingId kOther{{std::byte{0xab}, std::byte{0xce}}};
const std::string kPrefix = "hsmseal-abcd" + std::string(28, '0') + "-v";

}  // namespace

TEST_CASE("the label of a key names its ring and version, and is read back") {
  CHECK(key_label(kRing, 7) == kPrefix + "7");
  for (const Version version : {1U, 9U, 10U, 4'000'000'000U, std::numeric_limits<Version>::max()}) {
    const auto own = key_in(key_label(kRing, version), kRing);
    REQUIRE(own);
    CHECK(own->version == version);
    CHECK(own->part == KeyPart::Encryption);
    const auto beside = key_in(keywrap::mac_key_label(key_label(kRing, version)), kRing);
    REQUIRE(beside);
    CHECK(beside->version == version);
    CHECK(beside->part == KeyPart::Mac);
    CHECK_FALSE(key_in(key_label(kRing, version), kOther));
  }
}

TEST_CASE("a label that is written another way names no version") {
  using namespace std::string_literals;
  std::size_t refused = 0;
  for (const std::string& end :
       {""s, "0"s, "01"s, "+1"s, "-1"s, " 1"s, "1 "s, "1x"s, "1\0"s, "1\n"s, "0x1"s, "1.0"s, "4294967296"s,
        "99999999999999999999999"s, "-v1"s, "1-mac-mac"s, "-mac"s, "1-MAC"s, "1-mac "s}) {
    CAPTURE(end);
    CHECK_FALSE(key_in(kPrefix + end, kRing));
    ++refused;
  }
  CHECK(refused == 19);
  REQUIRE(key_in(kPrefix + "1", kRing));
  CHECK_FALSE(key_in("x" + kPrefix + "1", kRing));
  CHECK_FALSE(key_in("HSMSEAL-abcd" + std::string(28, '0') + "-v1", kRing));
  CHECK_FALSE(key_in("hsmseal-ABCD" + std::string(28, '0') + "-v1", kRing));
  CHECK_FALSE(key_in("hsmseal-abcd" + std::string(28, '0') + "-V1", kRing));
  CHECK_FALSE(key_in("hsmseal-abcd" + std::string(28, '0'), kRing));
  CHECK_FALSE(key_in("", kRing));
}
