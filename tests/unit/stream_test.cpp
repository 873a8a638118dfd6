#include <hsmseal/stream.hpp>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/resource.h>

#include "envelope/wire.hpp"
#include "envelope/wrapped_key.hpp"
#include "software_ring.hpp"
#include "streams.hpp"
#include "support/catch.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using test::code_thrown;
using test::hex;
using test::kSealedSegment;
using test::kSegment;
using test::kStreamHeader;
using test::message_of;
using test::pattern;
using test::sealed_stream;
using test::SoftwareRing;

namespace {

/// Sizes at the borders of segments.
const std::vector<std::size_t> kSizes = {0,
                                         1,
                                         15,
                                         16,
                                         17,
                                         kSegment - 1,
                                         kSegment,
                                         kSegment + 1,
                                         kSealedSegment,
                                         2 * kSegment - 1,
                                         2 * kSegment,
                                         2 * kSegment + 1,
                                         9 * kSegment + 12345};

Context record(const std::string& id) { return Context{}.add("record", id); }

std::string as_text(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// An input that gives so many bytes, then fails as a disk does.
class FailingInput final : public std::streambuf {
 public:
  explicit FailingInput(std::size_t size) : rest_(size) {}

 protected:
  int_type underflow() override {
    if (rest_ == 0) throw std::runtime_error("the disk is broken");
    const std::size_t size = std::min(rest_, buffer_.size());
    rest_ -= size;
    setg(buffer_.data(), buffer_.data(), buffer_.data() + size);
    return traits_type::to_int_type(buffer_[0]);
  }

 private:
  std::string buffer_ = std::string(1000, 'x');
  std::size_t rest_;
};

/// An output that takes so many bytes and no more.
class FullOutput final : public std::streambuf {
 public:
  explicit FullOutput(std::streamsize room) : room_(room) {}

 protected:
  std::streamsize xsputn(const char*, std::streamsize size) override {
    const std::streamsize taken = std::min(size, room_);
    room_ -= taken;
    return taken;
  }

 private:
  std::streamsize room_;
};

SecretBytes data_key_of(const KeyRing& ring, ByteView sealed) {
  return envelope::unwrap_data_key(ring::CoreOf::handle(ring).active(), wire::read(sealed));
}

}  // namespace

TEST_CASE("streams of all sizes at the borders of segments come back, in whatever way") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  for (const std::size_t size : kSizes) {
    const Bytes secret = pattern(size);
    for (const std::size_t threads : {1U, 2U, 4U}) {
      const Bytes sealed = sealed_stream(vault, secret, record("1"), {.threads = threads});
      CHECK(sealed.size() == kStreamHeader + envelope::sealed_bytes_of(size));
      CHECK(inspect(sealed).secret_bytes == size);
      CHECK(is_stream(sealed));
      for (const auto& way : test::stream_ways()) {
        INFO(size << " bytes, " << threads << " threads, opened " << way.name);
        CHECK(way.open(vault, sealed, record("1")) == secret);
      }
    }
  }
}

TEST_CASE("an encryptor seals streams in memory, and opens, rewraps and reseals them like other envelopes") {
  SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor({.suite = Suite::Stream});
  const Bytes secret = pattern(kSegment + 5);
  const Bytes sealed = vault.seal(secret, record("1"));
  CHECK(inspect(sealed).suite == Suite::Stream);
  for (const auto& way : test::stream_ways()) CHECK(way.open(vault, sealed, record("1")) == secret);
  CHECK(vault.open_text(vault.seal_text("hunter2", kNoContext), kNoContext).text() == "hunter2");
  ring.add_set();
  CHECK(vault.needs_rewrap(sealed));
  for (const Bytes& moved : {vault.rewrap(sealed), vault.rewrap(sealed, record("1"))}) {
    CHECK_FALSE(vault.needs_rewrap(moved));
    CHECK(std::ranges::equal(ByteView{moved}.subspan(78), ByteView{sealed}.subspan(78)));
    CHECK(test::copy_of(vault.open(moved, record("1")).view()) == secret);
  }
  CHECK(message_of<OpenError>([&] { (void)vault.rewrap(sealed, record("2")); }) == OpenError().what());
  const Bytes anew = vault.reseal(sealed, record("1"));
  CHECK(data_key_of(ring.ring, anew).view().size() == 32);
  CHECK(hex(wire::read(anew).commitment) != hex(wire::read(sealed).commitment));
  CHECK(test::copy_of(vault.open(anew, record("1")).view()) == secret);
}

TEST_CASE("each stream has a data key of its own") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes secret = pattern(10);
  std::set<std::string> seen;
  std::size_t made = 0;
  for (int i = 0; i < 3; ++i) {
    const Bytes whole = ring.encryptor({.suite = Suite::Stream}).seal(secret, kNoContext);
    for (const Bytes& sealed : {sealed_stream(vault, secret, kNoContext), vault.seal(secret, kNoContext), whole}) {
      seen.insert(hex(data_key_of(ring.ring, sealed).view()));
      seen.insert(hex(wire::read(sealed).nonce));
      seen.insert(hex(wire::read(sealed).payload));
      made += 3;
    }
  }
  CHECK(seen.size() == made);
}

TEST_CASE("a stream names the set that was active when it began") {
  SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  Bytes sealed;
  StreamSealer sealer{vault, kNoContext, test::into(sealed)};
  sealer.write(pattern(kSegment + 1));
  const Version next = ring.add_set();
  sealer.write(pattern(100));
  sealer.finish();
  CHECK(inspect(sealed).version == next - 1);
  CHECK(vault.open(sealed, kNoContext).size() == kSegment + 101);
  CHECK(vault.needs_rewrap(sealed));
}

TEST_CASE("a stream's token is asked at its beginning alone") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  Bytes sealed, opened;
  StreamSealer sealer{vault, kNoContext, test::into(sealed)};
  ring.provider->fail(true);
  test::write_in_chunks(sealer, pattern(3 * kSegment), 1000);
  CHECK(code_thrown([&] { (void)sealed_stream(vault, {}, kNoContext); }) == ErrorCode::Token);

  StreamOpener opener{vault, kNoContext, test::into(opened)};
  opener.write(ByteView{sealed}.first(kStreamStartBytes - 1));
  CHECK(code_thrown([&] { opener.write(ByteView{sealed}.subspan(kStreamStartBytes - 1)); }) == ErrorCode::Token);
  CHECK(opened.empty());
  ring.provider->fail(false);
  StreamOpener again{vault, kNoContext, test::into(opened)};
  again.write(ByteView{sealed}.first(kStreamStartBytes));
  ring.provider->fail(true);
  test::write_in_chunks(again, ByteView{sealed}.subspan(kStreamStartBytes), 5000);
  CHECK(opened == pattern(3 * kSegment));
}

TEST_CASE("observers are told of streams as of other envelopes") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const auto count = [&](Event::Kind kind) { return ring.events->count(kind); };
  const Bytes sealed = sealed_stream(vault, pattern(kSegment * 2), record("1"));
  CHECK(count(Event::Kind::Sealed) == 1);
  int opened = 0, refused = 0;
  for (const auto& way : test::stream_ways()) {
    INFO(way.name);
    CHECK(way.open(vault, sealed, record("1")).size() == kSegment * 2);
    CHECK(count(Event::Kind::Opened) == ++opened);
    CHECK(code_thrown([&] { (void)way.open(vault, sealed, record("2")); }) == ErrorCode::Open);
    CHECK(count(Event::Kind::OpenRefused) == ++refused);
  }
  (void)rewrap_stream_start(vault, ByteView{sealed}.first(kStreamStartBytes));
  CHECK(count(Event::Kind::Rewrapped) == 1);
}

TEST_CASE("a stream that failed or is finished takes nothing more") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  Bytes sealed;
  StreamSealer sealer{vault, kNoContext, test::into(sealed)};
  sealer.finish();
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { sealer.write(pattern(1)); }), "finished, or failed before");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { sealer.finish(); }), "finished, or failed before");
  CHECK(vault.open(sealed, kNoContext).empty());

  StreamSealer broken{vault, kNoContext, [](ByteView) { throw std::runtime_error("the sink is full"); }};
  CHECK_THROWS_WITH(broken.write(pattern(2 * kSegment)), "the sink is full");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { broken.finish(); }), "finished, or failed before");
  StreamSealer moved = std::move(broken);
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { moved.write({}); }), "finished, or failed before");
}

TEST_CASE("what a sink throws ends the stream, however many threads work on it") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes sealed = sealed_stream(vault, pattern(20 * kSegment), kNoContext);
  for (const std::size_t threads : {1U, 2U, 4U}) {
    std::size_t taken = 0;
    const StreamSink sink = [&](ByteView) {
      if (++taken == 3) throw std::runtime_error("the sink is full");
    };
    StreamOpener opener{vault, kNoContext, sink, {.threads = threads}};
    CHECK_THROWS_WITH(test::write_in_chunks(opener, sealed, 1000), "the sink is full");
    CHECK(taken == 3);
    StreamSealer sealer{vault, kNoContext, [&](ByteView) { throw std::runtime_error("no"); }, {.threads = threads}};
    CHECK_THROWS_WITH(test::write_in_chunks(sealer, pattern(20 * kSegment), 1000), "no");
  }
}

TEST_CASE("a stream left without an end does not open") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  Bytes sealed;
  {
    StreamSealer sealer{vault, kNoContext, test::into(sealed), {.threads = 2}};
    sealer.write(pattern(30 * kSegment));
  }
  REQUIRE(sealed.size() > kStreamHeader + kSealedSegment);
  for (const auto& way : test::stream_ways()) {
    INFO(way.name);
    CHECK(code_thrown([&] { (void)way.open(vault, sealed, kNoContext); }) == ErrorCode::Open);
  }
}

TEST_CASE("files are sealed and opened as iostreams") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const test::ScratchDirectory scratch;
  const auto path = [&](const char* name) { return (scratch.path() / name).string(); };
  const Bytes secret = pattern(3 * kSegment + 77);
  std::ofstream(path("plain"), std::ios::binary) << as_text(secret);
  {
    std::ifstream in(path("plain"), std::ios::binary);
    std::ofstream out(path("sealed"), std::ios::binary);
    CHECK(seal_stream(vault, in, out, record("1"), {.threads = 2}) == secret.size());
  }
  std::ifstream in(path("sealed"), std::ios::binary);
  std::ostringstream out;
  CHECK(open_stream(vault, in, out, record("1")) == secret.size());
  CHECK(out.str() == as_text(secret));
}

TEST_CASE("input and output that fail are told of, and never taken for an end") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  std::ostringstream out;
  std::ifstream missing("/nonexistent");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return seal_stream(vault, missing, out, kNoContext); }),
              "cannot be read");
  CHECK(out.str().empty());

  FailingInput disk{100'000};
  std::istream broken{&disk};
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return seal_stream(vault, broken, out, kNoContext); }),
              "reading the input stream failed");
  CHECK(code_thrown([&] { (void)vault.open(bytes_of(out.str()), kNoContext); }) == ErrorCode::Open);

  for (const std::streamsize room : {0, 121, 122, 130, 200, 70'000}) {
    INFO(room);
    FullOutput full{room};
    std::ostream into_full{&full};
    std::istringstream in{std::string(100'000, 'x')};
    CHECK_NAMES(message_of<InvalidArgumentError>([&] { return seal_stream(vault, in, into_full, kNoContext); }),
                "writing to the output stream failed");
  }
}

TEST_CASE("what does not make streams says so") {
  const SoftwareRing ring;
  Bytes bytes;
  const auto refused = [&](const EnvelopeEncryptor& vault, StreamOptions options) {
    const std::string message = message_of<InvalidArgumentError>([&] {
      StreamSealer{vault, kNoContext, test::into(bytes), options};
    });
    CHECK(message_of<InvalidArgumentError>([&] {
            StreamOpener{vault, kNoContext, test::into(bytes), options};
          }) == message);
    return message;
  };
  CHECK_NAMES(refused(ring.encryptor(), {.threads = 0}), "1 to 64 threads, not 0");
  CHECK_NAMES(refused(ring.encryptor(), {.threads = 65}), "1 to 64 threads, not 65");
  CHECK_NAMES(refused(ring.encryptor({.padding = Padding::to_multiple_of(64)}), {}), "streams are not padded");
  CHECK_NAMES(refused(ring.in_token(), {}), "Suite::Token");
  CHECK_NAMES(message_of<InvalidArgumentError>(
                  [&] { return ring.encryptor({.suite = Suite::Stream, .padding = Padding::to_multiple_of(64)}); }),
              "streams are not padded");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { StreamSealer{ring.encryptor(), kNoContext, nullptr}; }), "a sink");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] {
                StreamReader{ring.encryptor(), kNoContext, 500, nullptr};
              }),
              "reads at an offset");
}

TEST_CASE("another envelope is not opened as a stream, and says how it is opened") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  const Bytes envelope = vault.seal(pattern(1000), kNoContext);
  CHECK_FALSE(is_stream(envelope));
  const auto& ways = test::stream_ways();
  for (auto way = ways.begin() + 1; way != ways.end(); ++way) {
    INFO(way->name);
    CHECK_NAMES(message_of<FormatError>([&] { return way->open(vault, envelope, kNoContext); }),
                "EnvelopeEncryptor::open()");
  }
  CHECK_NAMES(message_of<FormatError>([&] { return rewrap_stream_start(vault, envelope); }), "not a stream");
  CHECK_NAMES(message_of<FormatError>([&] { return inspect_stream(envelope, envelope.size()); }), "not a stream");
}

TEST_CASE("a stream that is too long to be opened in memory says how it is opened") {
  const SoftwareRing ring;
  Bytes sealed = sealed_stream(ring.encryptor(), pattern(10), kNoContext);
  sealed.resize(kMaxEnvelopeBytes + 1);
  CHECK_NAMES(message_of<FormatError>([&] { return ring.encryptor().open(sealed, kNoContext); }), "stream.hpp");
  CHECK(inspect_stream(ByteView{sealed}.first(kStreamStartBytes), std::uint64_t{1} << 40).secret_bytes > 1U << 30);
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return inspect_stream(sealed, 200); }), "does not begin with");
}

TEST_CASE("256 MiB pass through a few segments of memory") {
  const SoftwareRing ring;
  const EnvelopeEncryptor vault = ring.encryptor();
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  const Bytes chunk = pattern(kChunk);
  std::size_t most = 0;
  std::uint64_t sealed_bytes = 0, opened_bytes = 0;
  const std::size_t before = secret_memory().reserved;
  const auto watch = [&] { most = std::max(most, secret_memory().reserved - before); };
  StreamOpener opener{vault, kNoContext, [&](ByteView bytes) { opened_bytes += bytes.size(); }, {.threads = 2}};
  StreamSealer sealer{vault,
                      kNoContext,
                      [&](ByteView bytes) {
                        sealed_bytes += bytes.size();
                        watch();
                        opener.write(bytes);
                      },
                      {.threads = 2}};
  rusage at_start{}, at_end{};
  REQUIRE(::getrusage(RUSAGE_SELF, &at_start) == 0);
  for (int i = 0; i < 256; ++i) sealer.write(chunk);
  sealer.finish();
  opener.finish();
  REQUIRE(::getrusage(RUSAGE_SELF, &at_end) == 0);
  CHECK(opened_bytes == 256 * kChunk);
  CHECK(sealed_bytes == kStreamHeader + envelope::sealed_bytes_of(256 * kChunk));
  CHECK(most > kSegment);
  CHECK(most <= 2 * 8 * (kSealedSegment + 4096) + 64 * 4096);
  const long grown = at_end.ru_maxrss - at_start.ru_maxrss;  // in KiB
  CHECK(grown < 32 * 1024);
}
