// Streams that were altered, cut, reordered or extended do not open, and nothing that was not sealed comes out of them.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <hsmseal/stream.hpp>

#include "software_ring.hpp"
#include "streams.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::copy_of;
using test::kSealedSegment;
using test::kSegment;
using test::kStreamHeader;
using test::pattern;
using test::sealed_stream;
using test::SoftwareRing;

namespace {

const Bytes kContext = test::copy_of(bytes_of("record 1"));

ContextView context() { return ContextView::raw(kContext); }

/// What came out of an opener, and the error that it ended with.
struct Outcome {
  Bytes released;
  ErrorCode error{0};
};

Outcome outcome_of(const EnvelopeEncryptor& vault, ByteView sealed, std::size_t threads) {
  Outcome outcome;
  outcome.error = test::code_thrown([&] {
    StreamOpener opener{vault, context(), test::into(outcome.released), {.threads = threads}};
    test::write_in_chunks(opener, sealed, 30'000);
  });
  return outcome;
}

/// A ring, and a stream of some whole segments and a short one.
struct Sample {
  SoftwareRing ring;
  EnvelopeEncryptor vault = ring.encryptor();
  Bytes secret = pattern(3 * kSegment + 100);
  Bytes sealed = sealed_stream(vault, secret, context());

  [[nodiscard]] Bytes header() const { return copy_of(ByteView{sealed}.first(kStreamHeader)); }
  [[nodiscard]] std::vector<Bytes> segments() const {
    std::vector<Bytes> found;
    for (ByteView rest = ByteView{sealed}.subspan(kStreamHeader); !rest.empty();) {
      const ByteView next = rest.first(std::min(rest.size(), kSealedSegment));
      found.push_back(copy_of(next));
      rest = rest.subspan(next.size());
    }
    return found;
  }

  /// In each way the same error, and what was released by then is the beginning of the secret.
  void check_refused(ByteView altered, ErrorCode expected) const {
    for (const auto& way : test::stream_ways()) {
      INFO(way.name);
      CHECK(test::code_thrown([&] { (void)way.open(vault, altered, context()); }) == expected);
    }
    std::set<std::size_t> sizes;
    for (const std::size_t threads : {1U, 2U, 4U}) {
      const Outcome outcome = outcome_of(vault, altered, threads);
      CHECK(outcome.error == expected);
      CHECK(std::ranges::equal(outcome.released, ByteView{secret}.first(outcome.released.size())));
      CHECK(outcome.released.size() % kSegment == 0);
      sizes.insert(outcome.released.size());
    }
    CHECK(sizes.size() == 1);
  }
};

Bytes joined(const Bytes& header, const std::vector<Bytes>& segments) {
  Bytes whole = header;
  for (const Bytes& segment : segments) whole.insert(whole.end(), segment.begin(), segment.end());
  return whole;
}

}  // namespace

TEST_CASE("the sample stream opens, so that what follows means something") {
  const Sample sample;
  CHECK(sample.segments().size() == 4);
  CHECK(joined(sample.header(), sample.segments()) == sample.sealed);
  const Outcome outcome = outcome_of(sample.vault, sample.sealed, 2);
  CHECK(outcome.error == ErrorCode{0});
  CHECK(outcome.released == sample.secret);
}

TEST_CASE("a stream that is cut does not open, wherever the cut is") {
  const Sample sample;
  const std::size_t shortest = kStreamHeader + 16;
  std::set<std::size_t> sizes;
  for (const std::size_t size : {0U, 1U, 4U, 5U, 17U, 18U, 77U, 78U, 109U, 110U, 121U}) sizes.insert(size);
  for (std::size_t segment = 0; segment < 4; ++segment) {
    const std::size_t border = kStreamHeader + segment * kSealedSegment;
    for (std::size_t size = border; size <= border + 18; ++size) sizes.insert(size);
    for (std::size_t less = 1; less <= 18; ++less) sizes.insert(border - less);
    sizes.insert(border + 1000);
  }
  for (std::size_t less = 1; less <= 18; ++less) sizes.insert(sample.sealed.size() - less);
  sizes.erase(sizes.lower_bound(sample.sealed.size()), sizes.end());
  REQUIRE(sizes.size() > 130);
  for (const std::size_t size : sizes) {
    INFO("cut to " << size);
    sample.check_refused(ByteView{sample.sealed}.first(size), size < shortest ? ErrorCode::Format : ErrorCode::Open);
  }
}

TEST_CASE("a stream that was extended does not open") {
  const Sample sample;
  for (const std::size_t more : {1U, 15U, 16U, 17U, 100U, 65535U, 65552U, 70000U}) {
    INFO(more);
    Bytes longer = sample.sealed;
    longer.resize(longer.size() + more);
    sample.check_refused(longer, ErrorCode::Open);
  }
  Bytes twice = sample.sealed;
  twice.insert(twice.end(), sample.sealed.begin(), sample.sealed.end());
  sample.check_refused(twice, ErrorCode::Open);
}

TEST_CASE("segments in another order, missing or twice do not open") {
  const Sample sample;
  const std::vector<Bytes> segments = sample.segments();
  std::size_t tried = 0;
  std::vector<std::size_t> order = {0, 1, 2, 3};
  const auto check = [&](const std::vector<std::size_t>& picked) {
    std::string shown;
    std::vector<Bytes> moved;
    for (const std::size_t i : picked) {
      shown += std::to_string(i) + " ";
      moved.push_back(segments[i]);
    }
    INFO(shown);
    sample.check_refused(joined(sample.header(), moved), ErrorCode::Open);
    ++tried;
  };
  while (std::next_permutation(order.begin(), order.end())) check(order);
  for (std::size_t i = 0; i < 4; ++i) {
    std::vector<std::size_t> fewer = {0, 1, 2, 3}, more = {0, 1, 2, 3};
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    more.insert(more.begin() + static_cast<std::ptrdiff_t>(i), i);
    check(fewer);
    check(more);
  }
  CHECK(tried == 23 + 8);
}

TEST_CASE("a bit that is flipped anywhere in a stream is noticed") {
  const Sample sample;
  std::set<std::size_t> places;
  for (std::size_t i = 0; i < kStreamHeader; ++i) places.insert(i);
  for (std::size_t segment = 0; segment <= 4; ++segment) {
    const std::size_t border = std::min(kStreamHeader + segment * kSealedSegment, sample.sealed.size());
    for (std::size_t before = 1; before <= 17; ++before) places.insert(border - before);
    if (segment < 4) places.insert({border, border + 1, border + 50});
  }
  std::size_t format_errors = 0;
  for (const std::size_t place : places) {
    const Bytes altered = test::with_flipped_bit(sample.sealed, place * 8 + place % 8);
    INFO("byte " << place);
    const Outcome outcome = outcome_of(sample.vault, altered, 2);
    CHECK(outcome.error != ErrorCode{0});
    if (outcome.error == ErrorCode::Format) ++format_errors;
    const auto intact = (std::max(place, kStreamHeader) - kStreamHeader) / kSealedSegment * kSegment;
    CHECK(outcome.released.size() == intact);
    CHECK(std::ranges::equal(outcome.released, ByteView{sample.secret}.first(intact)));
  }
  CHECK(places.size() > 190);
  CHECK(format_errors >= 8);
  CHECK(format_errors < 20);
}

TEST_CASE("every bit of a short stream matters") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes sealed = sealed_stream(vault, pattern(3), context());
  const std::set<ErrorCode> allowed = {ErrorCode::Format, ErrorCode::WrongRing, ErrorCode::UnknownVersion,
                                       ErrorCode::RingOutOfDate, ErrorCode::Open};
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    INFO("bit " << bit);
    const Outcome outcome = outcome_of(vault, test::with_flipped_bit(sealed, bit), 1);
    CHECK(allowed.contains(outcome.error));
    CHECK(outcome.released.empty());
  }
}

TEST_CASE("a stream does not open in another context") {
  const Sample sample;
  const Context other = Context{}.add("record", "2");
  for (const auto& way : test::stream_ways()) {
    INFO(way.name);
    for (const ContextView wrong : {ContextView{kNoContext}, ContextView{other}}) {
      CHECK(test::code_thrown([&] { (void)way.open(sample.vault, sample.sealed, wrong); }) == ErrorCode::Open);
    }
  }
}

TEST_CASE("header, segments and last segment of two streams do not go together") {
  const Sample sample;
  const Bytes other = sealed_stream(sample.vault, sample.secret, context());
  const auto from_other = [&](std::size_t begin, std::size_t size) {
    Bytes mixed = sample.sealed;
    const auto at = static_cast<std::ptrdiff_t>(begin);
    std::copy_n(other.begin() + at, size, mixed.begin() + at);
    return mixed;
  };
  struct Part {
    const char* name;
    std::size_t begin, size;
  };
  const std::size_t last = kStreamHeader + 3 * kSealedSegment;
  for (const Part& part : {Part{"header", 0, kStreamHeader}, Part{"wrapped key", 18, 60}, Part{"commitment", 78, 32},
                           Part{"nonce", 110, 12}, Part{"wrapped key and commitment", 18, 92},
                           Part{"first segment", kStreamHeader, kSealedSegment},
                           Part{"second segment", kStreamHeader + kSealedSegment, kSealedSegment},
                           Part{"last segment", last, sample.sealed.size() - last}}) {
    INFO(part.name);
    sample.check_refused(from_other(part.begin, part.size), ErrorCode::Open);
  }
  CHECK(from_other(0, other.size()) == other);
}

TEST_CASE("an envelope and a stream of one ring do not pass for each other") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  for (const Bytes& sealed : {vault.seal(pattern(100), context()), sealed_stream(vault, pattern(100), context())}) {
    Bytes disguised = sealed;
    disguised[4] = disguised[4] == std::byte{1} ? std::byte{3} : std::byte{1};
    CHECK(test::code_thrown([&] { (void)vault.open(disguised, context()); }) == ErrorCode::Open);
  }
}

TEST_CASE("a stream of another ring is refused for its header, without a token") {
  const Sample sample;
  const SoftwareRing other;
  other.provider->fail(true);
  for (const auto& way : test::stream_ways()) {
    INFO(way.name);
    CHECK(test::code_thrown([&] { (void)way.open(other.encryptor(), sample.sealed, context()); }) ==
          ErrorCode::WrongRing);
  }
}

TEST_CASE("all errors of a stream that does not open are alike") {
  const Sample sample;
  std::set<std::string> messages;
  std::vector<Bytes> altered = {copy_of(ByteView{sample.sealed}.first(kStreamHeader + kSealedSegment)),
                                copy_of(ByteView{sample.sealed}.first(kStreamHeader + kSealedSegment + 16))};
  for (const std::size_t byte : {20U, 77U, 80U, 115U, 200U, 65600U}) {
    altered.push_back(test::with_flipped_bit(sample.sealed, std::size_t{byte} * 8));
  }
  for (const Bytes& bytes : altered) {
    for (const auto& way : test::stream_ways()) {
      messages.insert(test::message_of<OpenError>([&] { return way.open(sample.vault, bytes, context()); }));
    }
  }
  CHECK(messages == std::set<std::string>{OpenError().what()});
}
