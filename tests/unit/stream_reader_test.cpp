#include <algorithm>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsmseal/stream.hpp>

#include "software_ring.hpp"
#include "streams.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::kSealedSegment;
using test::kSegment;
using test::kStreamHeader;
using test::pattern;
using test::sealed_stream;
using test::SoftwareRing;

TEST_CASE("what is read at any place is what stands there") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes secret = pattern(4 * kSegment + 1234);
  const Bytes sealed = sealed_stream(vault, secret, kNoContext);
  StreamReader reader = test::reader_of(vault, sealed, kNoContext);
  CHECK(reader.size() == secret.size());
  std::mt19937 random{20261128};
  const auto up_to = [&](std::size_t most) { return std::uniform_int_distribution<std::size_t>{0, most}(random); };
  std::size_t across = 0;
  for (int i = 0; i < 500; ++i) {
    const std::size_t offset = up_to(secret.size() + 10);
    Bytes out(up_to(i % 2 == 0 ? 100 : 3 * kSegment));
    const std::size_t expected = offset >= secret.size() ? 0 : std::min(out.size(), secret.size() - offset);
    INFO(offset << " " << out.size());
    REQUIRE(reader.read(offset, out) == expected);
    CHECK(std::ranges::equal(ByteView{out}.first(expected),
                             ByteView{secret}.subspan(std::min(offset, secret.size()), expected)));
    if (expected != 0 && offset / kSegment != (offset + expected - 1) / kSegment) ++across;
  }
  CHECK(across > 50);
}

TEST_CASE("reading behind the end of a stream gives nothing") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  for (const std::size_t size : {std::size_t{0}, std::size_t{5}, kSegment}) {
    const Bytes sealed = sealed_stream(vault, pattern(size), kNoContext);
    StreamReader reader = test::reader_of(vault, sealed, kNoContext);
    CHECK(reader.size() == size);
    Bytes out(10);
    CHECK(reader.read(size, out) == 0);
    CHECK(reader.read(~std::uint64_t{0}, out) == 0);
    CHECK(reader.read(0, {}) == 0);
    CHECK(reader.read(0, out) == std::min<std::size_t>(size, 10));
  }
}

TEST_CASE("a reader looks at the header, the last segment and those that are read, and asks the token once") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes sealed = sealed_stream(vault, pattern(5 * kSegment), kNoContext);
  std::vector<std::uint64_t> asked;
  StreamReader reader{vault, kNoContext, sealed.size(), [&](std::uint64_t offset, std::span<std::byte> out) {
                        asked.push_back(offset);
                        std::ranges::copy(ByteView{sealed}.subspan(offset, out.size()), out.begin());
                      }};
  ring.provider->fail(true);
  const auto segment = [](std::size_t index) { return kStreamHeader + index * kSealedSegment; };
  CHECK(asked == std::vector<std::uint64_t>{0, segment(4)});
  Bytes out(10);
  CHECK(reader.read(4 * kSegment, out) == 10);
  CHECK(asked.size() == 2);
  CHECK(reader.read(2 * kSegment + 7, out) == 10);
  CHECK(reader.read(2 * kSegment + 17, out) == 10);
  CHECK(reader.read(3 * kSegment - 5, out) == 10);
  CHECK(asked == std::vector<std::uint64_t>{0, segment(4), segment(2), segment(3)});
}

TEST_CASE("a reader does not come about if the end is missing") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes sealed = sealed_stream(vault, pattern(3 * kSegment + 9), kNoContext);
  for (const std::size_t size :
       {kStreamHeader + 3 * kSealedSegment, kStreamHeader + 2 * kSealedSegment, kStreamHeader + kSealedSegment,
        sealed.size() - 1, kStreamHeader + kSealedSegment + 3}) {
    INFO(size);
    CHECK(test::code_thrown([&] { (void)test::reader_of(vault, ByteView{sealed}.first(size), kNoContext); }) ==
          ErrorCode::Open);
  }
  CHECK(test::code_thrown([&] { (void)test::reader_of(vault, ByteView{sealed}.first(137), kNoContext); }) ==
        ErrorCode::Format);
}

TEST_CASE("a reader refuses an altered segment and still reads the others") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes secret = pattern(3 * kSegment);
  const Bytes altered =
      test::with_flipped_bit(sealed_stream(vault, secret, kNoContext), (kStreamHeader + kSealedSegment + 20) * 8);
  StreamReader reader = test::reader_of(vault, altered, kNoContext);
  Bytes out(100);
  for (int i = 0; i < 2; ++i) {
    CHECK(reader.read(0, out) == 100);
    CHECK(std::ranges::equal(out, ByteView{secret}.first(100)));
    std::ranges::fill(out, std::byte{0xee});
    CHECK(test::code_thrown([&] { (void)reader.read(kSegment + 1, out); }) == ErrorCode::Open);
    CHECK(out == Bytes(100, std::byte{0xee}));
    CHECK(reader.read(2 * kSegment, out) == 100);
  }
  CHECK(ring.events->count(Event::Kind::OpenRefused) == 2);
}

TEST_CASE("what a reader's source throws reaches the caller, and can be tried again") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes secret = pattern(3 * kSegment), sealed = sealed_stream(vault, secret, kNoContext);
  bool broken = false;
  StreamReader reader{vault, kNoContext, sealed.size(), [&](std::uint64_t offset, std::span<std::byte> out) {
                        if (broken) throw std::runtime_error("the network is gone");
                        std::ranges::copy(ByteView{sealed}.subspan(offset, out.size()), out.begin());
                      }};
  Bytes out(50);
  broken = true;
  CHECK_THROWS_WITH(reader.read(kSegment, out), "the network is gone");
  broken = false;
  CHECK(reader.read(kSegment, out) == 50);
  CHECK(std::ranges::equal(out, ByteView{secret}.subspan(kSegment, 50)));
}
