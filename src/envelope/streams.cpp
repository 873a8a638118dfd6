#include <hsmseal/stream.hpp>

#include <algorithm>
#include <istream>
#include <ostream>
#include <utility>

#include <hsmseal/error.hpp>

#include "envelope/opening_stream.hpp"
#include "envelope/sealing_stream.hpp"

namespace hsmseal {
namespace {

/// Lets calls through until one of them fails, or is the last.
class Calls {
 public:
  template <typename Call>
  void run(const Call& call) {
    run_last(call);
    over_ = false;
  }
  template <typename Call>
  void run_last(const Call& call) {
    if (over_) throw InvalidArgumentError("this stream is finished, or failed before; begin another one");
    over_ = true;
    call();
  }

 private:
  bool over_ = false;
};

template <typename Stream>
void put(Stream& stream, ByteView bytes) {
  while (!bytes.empty()) {
    const std::span<std::byte> room = stream.room();
    const std::size_t size = std::min(room.size(), bytes.size());
    envelope::copy_bytes(bytes.first(size), room);
    stream.filled(size);
    bytes = bytes.subspan(size);
  }
}

/// Reads straight into the segments. Looks one byte ahead, since the last segment is another than those before it.
template <typename Stream>
std::uint64_t run(Stream& stream, std::istream& in, std::ostream& out) {
  constexpr auto kEnd = std::istream::traits_type::eof();
  const auto check = [](bool works, const char* what) {
    if (!works) throw InvalidArgumentError(std::string{what} + "; what was written so far is not whole");
  };
  check(in.good(), "the input stream cannot be read");
  while (in.peek() != kEnd) {
    const std::span<std::byte> room = stream.room();
    in.read(reinterpret_cast<char*>(room.data()), static_cast<std::streamsize>(room.size()));
    stream.filled(static_cast<std::size_t>(in.gcount()));
  }
  check(in.eof() && !in.bad(), "reading the input stream failed");
  stream.finish();
  check(!out.flush().fail(), "writing to the output stream failed");
  return stream.plain_bytes();
}

StreamSink sink_to(std::ostream& out) {
  return [&out](ByteView bytes) {
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!out) throw InvalidArgumentError("writing to the output stream failed; what was written so far is not whole");
  };
}

}  // namespace

struct StreamSealer::State {
  envelope::SealingStream stream;
  Calls calls = {};
};

StreamSealer::StreamSealer(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink,
                           StreamOptions options)
    : state_(new State{{encryptor, context, std::move(sink), options}}) {}
StreamSealer::StreamSealer(StreamSealer&& other) noexcept = default;
StreamSealer& StreamSealer::operator=(StreamSealer&& other) noexcept = default;
StreamSealer::~StreamSealer() = default;

void StreamSealer::write(ByteView plaintext) {
  state_->calls.run([&] { put(state_->stream, plaintext); });
}

void StreamSealer::finish() {
  state_->calls.run_last([&] { state_->stream.finish(); });
}

struct StreamOpener::State {
  envelope::OpeningStream stream;
  Calls calls = {};
};

StreamOpener::StreamOpener(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink,
                           StreamOptions options)
    : state_(new State{{encryptor, context, std::move(sink), options}}) {}
StreamOpener::StreamOpener(StreamOpener&& other) noexcept = default;
StreamOpener& StreamOpener::operator=(StreamOpener&& other) noexcept = default;
StreamOpener::~StreamOpener() = default;

void StreamOpener::write(ByteView sealed) {
  state_->calls.run([&] { put(state_->stream, sealed); });
}

void StreamOpener::finish() {
  state_->calls.run_last([&] { state_->stream.finish(); });
}

std::uint64_t seal_stream(const EnvelopeEncryptor& encryptor, std::istream& in, std::ostream& out, ContextView context,
                          StreamOptions options) {
  envelope::SealingStream stream{encryptor, context, sink_to(out), options};
  return run(stream, in, out);
}

std::uint64_t open_stream(const EnvelopeEncryptor& encryptor, std::istream& in, std::ostream& out, ContextView context,
                          StreamOptions options) {
  envelope::OpeningStream stream{encryptor, context, sink_to(out), options};
  return run(stream, in, out);
}

}  // namespace hsmseal
