#include "envelope/text_form.hpp"

#include <string>
#include <string_view>

#include <hsmseal/envelope_header.hpp>
#include <hsmseal/error.hpp>

#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using envelope::from_text;
using envelope::to_text;
using test::hex;
using test::unhex;

namespace {

/// Suite 2, version 1, an IV of 12 bytes and an empty secret.
const char* const kEnvelope =
    "48534531020100001126b53200000001000c000000000000000000000000"
    "00000000000000000000000000000000";

}  // namespace

TEST_CASE("the text form is hse1. and base64url") {
  CHECK(to_text({}) == "hse1.");
  CHECK(to_text(bytes_of("HSE1")) == "hse1.SFNFMQ");
  CHECK(to_text(unhex("fbefbeffffff")) == "hse1.----____");
  CHECK(hex(from_text("hse1.SFNFMQ")) == hex(bytes_of("HSE1")));
  CHECK(from_text("hse1.").empty());
}

TEST_CASE("every text has one envelope and every envelope one text") {
  for (std::size_t size = 0; size < 200; ++size) {
    Bytes sealed(size);
    for (std::size_t i = 0; i < size; ++i) sealed[i] = static_cast<std::byte>(i * 31 + size);
    CHECK(from_text(to_text(sealed)) == sealed);
  }
}

TEST_CASE("a text with another prefix is a FormatError") {
  for (const char* const text : {"", "h", "hse1", "HSE1.SFNFMQ", "hse2.SFNFMQ", "hse1:SFNFMQ", " hse1.SFNFMQ", "SFNFMQ",
                                 "Hse1.SFNFMQ", "hse1SFNFMQ"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(from_text(text), FormatError);
  }
}

TEST_CASE("a text that is not exactly base64url is a FormatError") {
  for (const char* const text : {"hse1.SFNFMQ==", "hse1.SFNFMQ=", "hse1.SFNFMR", "hse1.SFNFM", "hse1.SFNF MQ",
                                 "hse1.SFNFMQ\n", "hse1.SFNF\r\nMQ", "hse1.SFNF+Q", "hse1.SFNF/Q", "hse1.SFNF.MQ",
                                 "hse1.hse1.SFNFMQ", "hse1.SFNFMQ ", "hse1. SFNFMQ", "hse1.SFNF\xc3\xa9"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(from_text(text), FormatError);
  }
  CHECK_THROWS_AS(from_text(std::string_view("hse1.SFNFMQ\0", 12)), FormatError);
  CHECK_THROWS_AS(from_text(std::string_view("hse1.SF\0FMQ", 11)), FormatError);
}

TEST_CASE("a text longer than the largest envelope's is a FormatError") {
  const std::string longest = "hse1." + std::string(kMaxEnvelopeBytes / 3 * 4 + 4, 'A');
  CHECK_THROWS_AS(from_text(longest + "A"), FormatError);
  CHECK_THROWS_AS(from_text(longest + std::string(kMaxEnvelopeBytes, 'A')), FormatError);
}

TEST_CASE("a header is read from the text form as from the bytes") {
  CHECK(inspect_text(to_text(unhex(kEnvelope))) == inspect(unhex(kEnvelope)));
  CHECK(inspect_text(to_text(unhex(kEnvelope))).suite == Suite::Token);
  CHECK_THROWS_AS(inspect_text("hse1."), FormatError);
  CHECK_THROWS_AS(inspect_text("hse1.SFNFMQ"), FormatError);
  CHECK_THROWS_AS(inspect_text("plain text"), FormatError);
}

TEST_CASE("a column's value is told from an envelope's text by its beginning") {
  CHECK(is_sealed_text("hse1."));
  CHECK(is_sealed_text(to_text(unhex(kEnvelope))));
  for (const char* const plain : {"", "hse1", "HSE1.", "hse2.x", "password", " hse1.x", "hse"}) {
    CHECK_FALSE(is_sealed_text(plain));
  }
}
