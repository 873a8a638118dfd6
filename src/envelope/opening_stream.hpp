#pragma once

#include <array>
#include <optional>
#include <span>
#include <utility>

#include "envelope/segment_line.hpp"
#include "envelope/stream_start.hpp"

namespace hsmseal::envelope {

/// Takes a stream and makes plaintext of it.
class OpeningStream {
 public:
  /// @throws as StreamOpener
  OpeningStream(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink, StreamOptions options);

  /// Where the next bytes go, never empty. Only for callers that have more bytes.
  [[nodiscard]] std::span<std::byte> room();
  void filled(std::size_t bytes);
  void finish();
  [[nodiscard]] std::uint64_t plain_bytes() const noexcept { return segments_ ? segments_->line.plain_bytes() : 0; }

 private:
  void begin();

  /// What there is once the header has been read.
  struct Segments {
    Segments(StreamStart start, const Bytes& aad, SegmentLine::Options options, StreamSink sink)
        : set(std::move(start.set)), line(start.key, aad, options, std::move(sink)) {}
    ring::ConnectedSet set;
    SegmentLine line;
  };

  const EnvelopeEncryptor encryptor_;
  const Bytes aad_;
  const StreamOptions options_;
  StreamSink sink_;
  std::array<std::byte, kStreamStartBytes> start_{};
  std::size_t start_size_ = 0;
  std::optional<Segments> segments_;
};

}  // namespace hsmseal::envelope
