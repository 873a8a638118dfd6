#pragma once

#include <span>

#include "envelope/segment_line.hpp"
#include "envelope/stream_start.hpp"

namespace hsmseal::envelope {

/// Takes plaintext and makes a stream of it.
class SealingStream {
 public:
  /// @throws as StreamSealer
  SealingStream(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink, StreamOptions options);

  /// See SegmentLine.
  [[nodiscard]] std::span<std::byte> room() { return line_.room(); }
  void filled(std::size_t bytes) noexcept { line_.filled(bytes); }
  void finish();
  [[nodiscard]] std::uint64_t plain_bytes() const noexcept { return line_.plain_bytes(); }

 private:
  void put(ByteView segment);

  const EnvelopeEncryptor encryptor_;
  const StreamSink sink_;
  NewStream stream_;
  SegmentLine line_;
};

/// @returns the encryptor.
/// @throws InvalidArgumentError  no stream can be made with these.
[[nodiscard]] const EnvelopeEncryptor& checked(const EnvelopeEncryptor& encryptor, const StreamSink& sink,
                                               StreamOptions options);

}  // namespace hsmseal::envelope
