#include "envelope/padding.hpp"

#include <algorithm>
#include <string>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>

#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using envelope::padded;
using envelope::size_without_padding;
using test::hex;
using test::unhex;

TEST_CASE("padding is the byte 0x80 and zeros up to a multiple of the bucket") {
  CHECK(hex(padded(bytes_of(""), 4).view()) == "80000000");
  CHECK(hex(padded(bytes_of("a"), 4).view()) == "61800000");
  CHECK(hex(padded(bytes_of("abc"), 4).view()) == "61626380");
  CHECK(hex(padded(bytes_of("abcd"), 4).view()) == "6162636480000000");
  CHECK(hex(padded(bytes_of("a"), 2).view()) == "6180");
  CHECK(hex(padded(bytes_of("ab"), 2).view()) == "61628000");
}

TEST_CASE("bucket 0 adds nothing") {
  CHECK(padded(bytes_of(""), 0).empty());
  CHECK(padded(bytes_of("abc"), 0).text() == "abc");
}

TEST_CASE("what was padded comes back, whatever its size, its bucket and its last bytes") {
  std::size_t looked_at = 0;
  for (const std::size_t bucket : {2U, 3U, 16U, 64U, 100U}) {
    for (std::size_t size = 0; size <= 201; ++size) {
      for (const std::byte last : {std::byte{0}, std::byte{0x80}, std::byte{0xff}}) {
        const Bytes secret(size, last);
        const SecretBytes result = padded(secret, bucket);
        CHECK(result.size() == (size / bucket + 1) * bucket);
        CHECK(result.size() > size);
        REQUIRE(size_without_padding(result.view()) == size);
        CHECK(std::ranges::equal(result.view().first(size), secret));
        ++looked_at;
      }
    }
  }
  CHECK(looked_at == 5 * 202 * 3);
}

TEST_CASE("padding of any length is taken off, since the bucket is not stored") {
  CHECK(size_without_padding(unhex("80")) == 0U);
  CHECK(size_without_padding(unhex("6180")) == 1U);
  CHECK(size_without_padding(unhex("618000000000000000")) == 1U);
  CHECK(size_without_padding(unhex("8080")) == 1U);
  CHECK(size_without_padding(unhex("80008000")) == 2U);
}

TEST_CASE("bytes without padding are told") {
  for (const char* const wrong :
       {"", "00", "0000000000000000", "61", "6162", "8061", "6181", "617f00", "800001", "ff", "610202"}) {
    CAPTURE(wrong);
    CHECK_FALSE(size_without_padding(unhex(wrong)));
  }
}

TEST_CASE("a bucket has 2 bytes to 1 MiB") {
  CHECK(Padding::to_multiple_of(2).bucket() == 2);
  CHECK(Padding::to_multiple_of(64).bucket() == 64);
  CHECK(Padding::to_multiple_of(std::size_t{1} << 20).bucket() == std::size_t{1} << 20);
  CHECK(Padding::none().bucket() == 0);
  CHECK_THROWS_AS(Padding::to_multiple_of(0), InvalidArgumentError);
  CHECK_THROWS_AS(Padding::to_multiple_of(1), InvalidArgumentError);
  CHECK_THROWS_AS(Padding::to_multiple_of((std::size_t{1} << 20) + 1), InvalidArgumentError);
}
