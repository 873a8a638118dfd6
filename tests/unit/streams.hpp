#pragma once

#include <algorithm>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include <hsmseal/error.hpp>
#include <hsmseal/stream.hpp>

#include "envelope/stream_layout.hpp"
#include "helpers.hpp"

namespace hsmseal::test {

constexpr std::size_t kSegment = envelope::kSegmentBytes;
constexpr std::size_t kSealedSegment = envelope::kSealedSegmentBytes;
constexpr std::size_t kStreamHeader = 122;  ///< before the segments, of a set with IVs of 12 bytes

/// Bytes that differ from one segment to the next.
inline Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 89 + i / 251);
  return bytes;
}

/// A sink that keeps what it gets.
inline StreamSink into(Bytes& bytes) {
  return [&bytes](ByteView more) { bytes.insert(bytes.end(), more.begin(), more.end()); };
}

/// Puts bytes into a sealer or an opener, in chunks of one size.
template <typename Stream>
void write_in_chunks(Stream& stream, ByteView bytes, std::size_t chunk) {
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(chunk, bytes.size()))) {
    stream.write(bytes.first(std::min(chunk, bytes.size())));
  }
  stream.finish();
}

inline Bytes sealed_stream(const EnvelopeEncryptor& vault, ByteView secret, ContextView context,
                           StreamOptions options = {}) {
  Bytes sealed;
  StreamSealer sealer{vault, context, into(sealed), options};
  write_in_chunks(sealer, secret, 100'000);
  return sealed;
}

/// How a stream can be opened. Each returns the plaintext.
struct StreamWay {
  const char* name;
  std::function<Bytes(const EnvelopeEncryptor&, ByteView, ContextView)> open;
};

inline Bytes opened_in_chunks(const EnvelopeEncryptor& vault, ByteView sealed, ContextView context, std::size_t chunk,
                              std::size_t threads) {
  Bytes opened;
  StreamOpener opener{vault, context, into(opened), {.threads = threads}};
  write_in_chunks(opener, sealed, chunk);
  return opened;
}

inline Bytes opened_by_iostream(const EnvelopeEncryptor& vault, ByteView sealed, ContextView context) {
  std::istringstream in{std::string{reinterpret_cast<const char*>(sealed.data()), sealed.size()}};
  std::ostringstream out;
  const std::uint64_t size = open_stream(vault, in, out, context, {.threads = 2});
  REQUIRE(size == out.str().size());
  return copy_of(bytes_of(out.str()));
}

/// A reader of bytes in memory, which must outlive it.
inline StreamReader reader_of(const EnvelopeEncryptor& vault, ByteView sealed, ContextView context) {
  return {vault, context, sealed.size(), [sealed](std::uint64_t offset, std::span<std::byte> out) {
            REQUIRE(offset + out.size() <= sealed.size());
            std::ranges::copy(sealed.subspan(offset, out.size()), out.begin());
          }};
}

/// From the end to the beginning, in pieces that are not those of the segments.
inline Bytes opened_by_reader(const EnvelopeEncryptor& vault, ByteView sealed, ContextView context) {
  StreamReader reader = reader_of(vault, sealed, context);
  Bytes opened(reader.size());
  constexpr std::size_t kPiece = 50'001;
  for (std::size_t end = opened.size(); end != 0;) {
    const std::size_t begin = end - std::min(kPiece, end);
    const std::size_t size = reader.read(begin, std::span{opened}.subspan(begin, end - begin));
    REQUIRE(size == end - begin);
    end = begin;
  }
  return opened;
}

inline const std::vector<StreamWay>& stream_ways() {
  static const std::vector<StreamWay> ways = {
      {"in memory", [](const auto& vault, ByteView sealed,
                       ContextView context) { return copy_of(vault.open(sealed, context).view()); }},
      {"in chunks", [](const auto& vault, ByteView sealed,
                       ContextView context) { return opened_in_chunks(vault, sealed, context, 1000, 1); }},
      {"by three threads", [](const auto& vault, ByteView sealed,
                              ContextView context) { return opened_in_chunks(vault, sealed, context, 70'000, 3); }},
      {"by iostreams", opened_by_iostream},
      {"backwards", opened_by_reader},
  };
  return ways;
}

/// The code of the error that `call` throws; zero if it throws none.
inline ErrorCode code_thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode{0};
}

}  // namespace hsmseal::test
