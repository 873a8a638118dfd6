#include "stream_file.hpp"

#include <algorithm>
#include <thread>

namespace tool {
namespace {

/// Beyond a few the disk is slower than they are.
hsmseal::StreamOptions options() { return {.threads = std::clamp(std::thread::hardware_concurrency(), 1U, 4U)}; }

template <typename Stream>
std::uint64_t pass(const hsmseal::EnvelopeEncryptor& vault, const std::filesystem::path& input,
                   hsmseal::ContextView context, const Pieces& put) {
  std::uint64_t written = 0;
  const auto counted = [&](hsmseal::ByteView piece) {
    put(piece);
    written += piece.size();
  };
  Stream stream{vault, context, counted, options()};
  read_in_pieces(input, [&](hsmseal::ByteView piece) { stream.write(piece); });
  stream.finish();
  return written;
}

}  // namespace

bool holds_stream(const std::filesystem::path& path) {
  return hsmseal::is_stream(start_of(path, hsmseal::kStreamStartBytes));
}

hsmseal::EnvelopeHeader header_of_stream(const std::filesystem::path& path) {
  const hsmseal::Bytes start = start_of(path, hsmseal::kStreamStartBytes);
  return hsmseal::inspect_stream(start, std::max<std::uint64_t>(size_of(path).value_or(0), start.size()));
}

std::uint64_t seal_stream_file(const hsmseal::EnvelopeEncryptor& vault, const std::filesystem::path& input,
                               hsmseal::ContextView context, const Pieces& put) {
  return pass<hsmseal::StreamSealer>(vault, input, context, put);
}

std::uint64_t open_stream_file(const hsmseal::EnvelopeEncryptor& vault, const std::filesystem::path& input,
                               hsmseal::ContextView context, const Pieces& put) {
  return pass<hsmseal::StreamOpener>(vault, input, context, put);
}

void rewrap_stream_file(const hsmseal::EnvelopeEncryptor& vault, const std::filesystem::path& path) {
  const auto rewrap = hsmseal::rewrap_stream_start(vault, start_of(path, hsmseal::kStreamStartBytes));
  replace_content(path, [&](const Pieces& put) {
    put(rewrap.start);
    read_in_pieces(path, put, rewrap.replaced);
  });
}

}  // namespace tool
