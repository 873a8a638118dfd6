#include "envelope/opening_stream.hpp"

#include <algorithm>
#include <utility>

#include "envelope/sealing_stream.hpp"

namespace hsmseal::envelope {

OpeningStream::OpeningStream(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink,
                             StreamOptions options)
    : encryptor_(checked(encryptor, sink, options)),
      aad_(segment_aad(EncryptorParts::handle(encryptor).id(), context)),
      options_(options),
      sink_(std::move(sink)) {}

std::span<std::byte> OpeningStream::room() {
  if (!segments_) return std::span{start_}.subspan(start_size_);
  return telling_refusals(EncryptorParts::ring(encryptor_), segments_->set, [&] { return segments_->line.room(); });
}

void OpeningStream::filled(std::size_t bytes) {
  if (segments_) return segments_->line.filled(bytes);
  start_size_ += bytes;
  if (start_size_ == start_.size()) begin();
}

/// Only with all of the start, or the end: what is no stream for its length is refused before the token is asked.
void OpeningStream::begin() {
  const wire::Envelope header = wire::read_stream(ByteView{start_}.first(start_size_));
  segments_.emplace(open_start(encryptor_, header), aad_,
                    SegmentLine::Options{.work = SegmentLine::Work::Open, .threads = options_.threads}, sink_);
  std::ranges::copy(header.payload, segments_->line.room().begin());
  segments_->line.filled(header.payload.size());
}

void OpeningStream::finish() {
  if (!segments_) begin();
  telling_refusals(EncryptorParts::ring(encryptor_), segments_->set, [&] { segments_->line.finish(); });
  EncryptorParts::tell(encryptor_, Event::Kind::Opened, segments_->set);
}

}  // namespace hsmseal::envelope
