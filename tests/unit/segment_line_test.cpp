#include "envelope/segment_line.hpp"

#include <algorithm>
#include <string>

#include <hsmseal/error.hpp>

#include "streams.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using envelope::SegmentLine;
using envelope::SegmentPlace;
using test::kSealedSegment;
using test::kSegment;

namespace {

const RingId kRing{};
const Bytes kNonce(12, std::byte{7});

envelope::StreamKey key() { return {SecretBytes{Bytes(32, std::byte{9})}, kRing, kNonce}; }

Bytes aad() { return envelope::segment_aad(kRing, kNoContext); }

void put(SegmentLine& line, ByteView bytes) {
  while (!bytes.empty()) {
    const auto room = line.room();
    const std::size_t size = std::min(room.size(), bytes.size());
    std::ranges::copy(bytes.first(size), room.begin());
    line.filled(size);
    bytes = bytes.subspan(size);
  }
}

}  // namespace

TEST_CASE("a stream of too many segments is not sealed") {
  for (const std::size_t threads : {1U, 3U}) {
    Bytes sealed;
    SegmentLine line{key(), aad(), {.threads = threads, .most_segments = 3}, test::into(sealed)};
    put(line, Bytes(3 * kSegment));
    line.finish();
    CHECK(sealed.size() == 3 * kSealedSegment);
    CHECK(line.plain_bytes() == 3 * kSegment);

    SegmentLine longer{key(), aad(), {.threads = threads, .most_segments = 3}, test::into(sealed)};
    const std::string message = test::message_of<InvalidArgumentError>([&] {
      put(longer, Bytes(3 * kSegment + 1));
      longer.finish();
    });
    CHECK_NAMES(message, "at most 2^48 bytes");
  }
}

TEST_CASE("a stream of too many segments is not opened") {
  Bytes sealed;
  SegmentLine line{key(), aad(), {}, test::into(sealed)};
  put(line, Bytes(4 * kSegment));
  line.finish();
  for (const std::size_t threads : {1U, 3U}) {
    for (const std::uint64_t most : {4U, 3U}) {
      Bytes opened;
      SegmentLine opening{key(),
                          aad(),
                          {.work = SegmentLine::Work::Open, .threads = threads, .most_segments = most},
                          test::into(opened)};
      const auto error = test::code_thrown([&] {
        put(opening, sealed);
        opening.finish();
      });
      CHECK(error == (most == 4 ? ErrorCode{0} : ErrorCode::Open));
      CHECK(opened.size() == most * kSegment);
    }
  }
}

TEST_CASE("segments come out in their order, and no more are in memory than were made") {
  for (const std::size_t threads : {1U, 2U, 4U, 9U}) {
    std::size_t in = 0, out = 0, most_behind = 0;
    envelope::SegmentCipher cipher{key(), aad()};
    SegmentLine line{key(), aad(), {.threads = threads}, [&](ByteView segment) {
                       CHECK(segment.size() == kSealedSegment);
                       Bytes copy = test::copy_of(segment);
                       const std::span text = std::span{copy}.first(kSegment);
                       const SegmentPlace place{.index = out, .is_last = out == 99};
                       cipher.decrypt(place, text, std::span{copy}.last<16>());
                       CHECK(text[0] == static_cast<std::byte>(out));
                       ++out;
                     }};
    for (; in < 100; ++in) {
      put(line, Bytes(kSegment, static_cast<std::byte>(in)));
      most_behind = std::max(most_behind, in + 1 - out);
    }
    line.finish();
    CHECK(out == 100);
    CHECK(most_behind <= (threads == 1 ? 1 : 4 * threads));
  }
}

TEST_CASE("a place in a stream has a nonce of its own") {
  envelope::SegmentCipher cipher{key(), aad()};
  std::set<std::string> tags;
  std::size_t made = 0;
  for (const std::uint64_t index : {0ULL, 1ULL, 255ULL, 256ULL, 65535ULL, 65536ULL, 0xffffffULL, 0xffffffffULL}) {
    for (const bool is_last : {false, true}) {
      std::array<std::byte, 16> tag{};
      cipher.encrypt({index, is_last}, {}, tag);
      tags.insert(test::hex(tag));
      ++made;
    }
  }
  CHECK(tags.size() == made);
}

TEST_CASE("a stream's size tells how it is cut") {
  using namespace envelope;
  CHECK(segments_in(16) == 1);
  CHECK(segments_in(kSealedSegment) == 1);
  CHECK(segments_in(kSealedSegment + 1) == 2);
  for (const std::uint64_t size :
       {0ULL, 1ULL, 65535ULL, 65536ULL, 65537ULL, 131072ULL, 131073ULL, 1ULL << 40, 1ULL << 48}) {
    CHECK(plain_bytes_in(sealed_bytes_of(size)) == size);
  }
  CHECK(segments_in(sealed_bytes_of(std::uint64_t{1} << 48)) == kMostSegments);
  CHECK(can_be_last(0, 16));
  CHECK_FALSE(can_be_last(0, 15));
  CHECK_FALSE(can_be_last(1, 16));
  CHECK(can_be_last(1, 17));
  CHECK(can_be_last(1, kSealedSegment));
  CHECK_FALSE(can_be_last(1, kSealedSegment + 1));
}
