#include "envelope/sealing_stream.hpp"

#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

namespace hsmseal::envelope {
namespace {

constexpr std::size_t kMostThreads = 64;

}  // namespace

const EnvelopeEncryptor& checked(const EnvelopeEncryptor& encryptor, const StreamSink& sink, StreamOptions options) {
  check_makes_streams(encryptor);
  if (!sink) throw InvalidArgumentError("a stream needs a sink for what comes out of it");
  if (options.threads < 1 || options.threads > kMostThreads) {
    throw InvalidArgumentError(fmt::format("a stream takes 1 to {} threads, not {}", kMostThreads, options.threads));
  }
  return encryptor;
}

SealingStream::SealingStream(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink,
                             StreamOptions options)
    : encryptor_(checked(encryptor, sink, options)),
      sink_(std::move(sink)),
      stream_(begin_stream(encryptor)),
      line_(stream_.start.key, segment_aad(stream_.start.set.ring(), context),
            {.work = SegmentLine::Work::Seal, .threads = options.threads}, [this](ByteView segment) { put(segment); }) {
}

/// The header goes out with the first segment, so that nothing is written before there is something to write.
void SealingStream::put(ByteView segment) {
  if (!stream_.header.empty()) {
    sink_(stream_.header);
    stream_.header.clear();
  }
  sink_(segment);
}

void SealingStream::finish() {
  line_.finish();
  EncryptorParts::tell(encryptor_, Event::Kind::Sealed, stream_.start.set);
}

}  // namespace hsmseal::envelope
