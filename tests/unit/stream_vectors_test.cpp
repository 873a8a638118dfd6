// Streams that another implementation of src/FORMAT.md made: tests/vectors/envelopes_v1.json.
#include <string>

#include <hsmseal/envelope.hpp>

#include "envelope/segment_line.hpp"
#include "envelope/stream_key.hpp"
#include "streams.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace hsmseal;
using nlohmann::json;
using test::bytes_at;
using test::hex;
using test::Vectors;

namespace {

ContextView context_of(const Bytes& bytes) { return bytes.empty() ? ContextView{kNoContext} : ContextView::raw(bytes); }

struct Reader {
  std::shared_ptr<test::VectorProvider> provider = std::make_shared<test::VectorProvider>(Vectors::instance());
  EnvelopeEncryptor vault{test::open_ring(Vectors::instance(), "ring-6", provider)};
};

bool is_stream_entry(const json& entry) {
  if (!entry.contains("sealed")) return false;
  const Bytes sealed = bytes_at(entry, "sealed");
  return is_stream(sealed);
}

RingId ring_of(const json& entry) {
  RingId ring;
  const json& kek = Vectors::instance().list("keks").at(entry.at("kek").get<std::size_t>());
  std::ranges::copy(bytes_at(kek, "ring_id"), ring.bytes.begin());
  return ring;
}

/// What the library makes of a plaintext with the keys of an entry, with some threads; 0: in memory.
Bytes sealed_again(const json& entry, ByteView plaintext, std::size_t threads) {
  const Bytes sealed = bytes_at(entry, "sealed"), context = bytes_at(entry, "context");
  const wire::Envelope header = wire::read(sealed);
  const envelope::StreamKey key{SecretBytes{bytes_at(entry, "data_key")}, ring_of(entry), header.nonce};
  CHECK(hex(key.commitment()) == hex(header.commitment));
  const Bytes aad = envelope::segment_aad(ring_of(entry), context_of(context));
  if (threads == 0) return envelope::seal_segments(envelope::SegmentCipher{key, aad}, plaintext);
  Bytes again;
  envelope::SegmentLine line{key, aad, {.threads = threads}, test::into(again)};
  while (!plaintext.empty()) {
    const auto room = line.room();
    const std::size_t size = std::min({room.size(), plaintext.size(), std::size_t{40'000}});
    std::ranges::copy(plaintext.first(size), room.begin());
    line.filled(size);
    plaintext = plaintext.subspan(size);
  }
  line.finish();
  return again;
}

}  // namespace

TEST_CASE("every stream of the vectors opens to its secret, in whatever way") {
  const Reader reader;
  std::size_t ran = 0;
  for (const json& entry : Vectors::instance().list("streams")) {
    const Bytes sealed = bytes_at(entry, "sealed"), context = bytes_at(entry, "context");
    CHECK(inspect(sealed).suite == Suite::Stream);
    CHECK(inspect(sealed).secret_bytes == entry.at("secret_bytes"));
    CHECK(inspect_stream(ByteView{sealed}.first(kStreamStartBytes), sealed.size()) == inspect(sealed));
    for (const auto& way : test::stream_ways()) {
      INFO(entry.at("name") << " " << way.name);
      const Bytes secret = way.open(reader.vault, sealed, context_of(context));
      CHECK(secret.size() == entry.at("secret_bytes"));
      CHECK(hex(crypto::sha256(secret)) == entry.at("secret_sha256").get<std::string>());
      ++ran;
    }
  }
  CHECK(ran >= 9 * 5);
}

TEST_CASE("short streams of the vectors open to their secrets, in whatever way") {
  const Reader reader;
  std::size_t ran = 0;
  for (const json& entry : Vectors::instance().list("valid")) {
    if (!is_stream_entry(entry)) continue;
    const Bytes sealed = bytes_at(entry, "sealed"), context = bytes_at(entry, "context");
    for (const auto& way : test::stream_ways()) {
      INFO(entry.at("name") << " " << way.name);
      CHECK(hex(way.open(reader.vault, sealed, context_of(context))) == entry.at("secret").get<std::string>());
      ++ran;
    }
  }
  CHECK(ran >= 10 * 5);
}

TEST_CASE("the library seals the streams of the vectors to the same bytes, with any number of threads") {
  const Reader reader;
  std::size_t ran = 0;
  for (const char* list : {"streams", "valid"}) {
    for (const json& entry : Vectors::instance().list(list)) {
      if (!is_stream_entry(entry)) continue;
      const Bytes sealed = bytes_at(entry, "sealed"), context = bytes_at(entry, "context");
      const SecretBytes secret = reader.vault.open(sealed, context_of(context));
      const ByteView payload = wire::read(sealed).payload;
      for (std::size_t threads = 0; threads <= 4; ++threads) {
        INFO(entry.at("name") << " " << threads);
        const Bytes again = sealed_again(entry, secret.view(), threads);
        CHECK(std::ranges::equal(again, payload));
        ++ran;
      }
    }
  }
  CHECK(ran >= 19 * 5);
}

TEST_CASE("every invalid stream of the vectors is refused with the error it names, in whatever way") {
  const Reader reader;
  std::size_t ran = 0;
  for (const json& entry : Vectors::instance().list("invalid")) {
    if (!is_stream_entry(entry)) continue;
    const Bytes sealed = bytes_at(entry, "sealed"), context = bytes_at(entry, "context");
    const auto expected = test::code_of(entry.at("error").get<std::string>());
    for (const auto& way : test::stream_ways()) {
      INFO(entry.at("name") << " " << way.name);
      CHECK(test::code_thrown([&] { (void)way.open(reader.vault, sealed, context_of(context)); }) == expected);
      ++ran;
    }
  }
  CHECK(ran >= 50 * 5);
}

TEST_CASE("the start of a stream of the vectors is rewrapped") {
  const Reader reader;
  std::size_t ran = 0;
  for (const json& entry : Vectors::instance().list("streams")) {
    INFO(entry.at("name"));
    Bytes sealed = bytes_at(entry, "sealed");
    const Bytes context = bytes_at(entry, "context");
    const StreamRewrap rewrap = rewrap_stream_start(reader.vault, ByteView{sealed}.first(kStreamStartBytes));
    CHECK(rewrap.replaced == 18 + wire::read(sealed).wrapped.size());
    sealed.erase(sealed.begin(), sealed.begin() + static_cast<std::ptrdiff_t>(rewrap.replaced));
    sealed.insert(sealed.begin(), rewrap.start.begin(), rewrap.start.end());
    CHECK_FALSE(reader.vault.needs_rewrap(sealed));
    const Bytes secret = test::opened_in_chunks(reader.vault, sealed, context_of(context), 10'000, 1);
    CHECK(hex(crypto::sha256(secret)) == entry.at("secret_sha256").get<std::string>());
    ++ran;
  }
  CHECK(ran >= 9);
}
