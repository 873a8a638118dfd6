#include <algorithm>
#include <optional>
#include <utility>

#include <hsmseal/error.hpp>
#include <hsmseal/stream.hpp>

#include "envelope/stream_key.hpp"
#include "envelope/stream_start.hpp"

namespace hsmseal {

using envelope::kSealedSegmentBytes;
using envelope::kSegmentBytes;
using envelope::SegmentPlace;

struct StreamReader::State {
  State(const EnvelopeEncryptor& vault, ContextView context, std::uint64_t sealed_bytes, ReadAt read)
      : encryptor(vault), read_at(std::move(read)) {
    envelope::check_makes_streams(vault);
    if (!read_at) throw InvalidArgumentError("a reader of streams needs a function that reads at an offset");
    Bytes start(std::min(sealed_bytes, std::uint64_t{kStreamStartBytes}));
    read_at(0, start);
    const wire::Envelope fields = wire::read_stream(start);
    header_bytes = wire::header_bytes(fields);
    payload_bytes = sealed_bytes - header_bytes;
    envelope::StreamStart opened = envelope::open_start(vault, fields);
    cipher.emplace(opened.key, envelope::segment_aad(opened.set.ring(), context));
    set.emplace(std::move(opened.set));
    open_segment(envelope::segments_in(payload_bytes) - 1);
    envelope::EncryptorParts::tell(encryptor, Event::Kind::Opened, *set);
  }

  [[nodiscard]] std::uint64_t size() const noexcept { return envelope::plain_bytes_in(payload_bytes); }

  /// Afterwards `segment` holds this one's plaintext.
  void open_segment(std::uint64_t index) {
    if (opened_index == index) return;
    opened_index.reset();
    const std::uint64_t offset = index * kSealedSegmentBytes;
    const auto sealed = std::min<std::uint64_t>(payload_bytes - offset, kSealedSegmentBytes);
    const SegmentPlace place{.index = index, .is_last = offset + sealed == payload_bytes};
    envelope::telling_refusals(envelope::EncryptorParts::ring(encryptor), *set, [&] {
      if (place.is_last && !envelope::can_be_last(index, sealed)) throw OpenError();
      if (index >= envelope::kMostSegments) throw OpenError();
      const auto bytes = segment.writable().first(sealed);
      read_at(header_bytes + offset, bytes);
      text_bytes = sealed - wire::kTagBytes;
      cipher->decrypt(place, bytes.first(text_bytes), bytes.subspan(text_bytes).first<wire::kTagBytes>());
    });
    opened_index = index;
  }

  std::size_t read(std::uint64_t offset, std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size() && offset < size()) {
      open_segment(offset / kSegmentBytes);
      const ByteView text = segment.view().first(text_bytes).subspan(offset % kSegmentBytes);
      const std::size_t count = std::min(text.size(), out.size() - done);
      envelope::copy_bytes(text.first(count), out.subspan(done));
      done += count;
      offset += count;
    }
    return done;
  }

  const EnvelopeEncryptor encryptor;
  const ReadAt read_at;
  std::size_t header_bytes = 0;
  std::uint64_t payload_bytes = 0;
  std::optional<ring::ConnectedSet> set;
  std::optional<envelope::SegmentCipher> cipher;
  SecretBytes segment{kSealedSegmentBytes};  ///< the one opened last
  std::optional<std::uint64_t> opened_index;
  std::size_t text_bytes = 0;  ///< of it
};

StreamReader::StreamReader(const EnvelopeEncryptor& encryptor, ContextView context, std::uint64_t sealed_bytes,
                           ReadAt read_at)
    : state_(std::make_unique<State>(encryptor, context, sealed_bytes, std::move(read_at))) {}
StreamReader::StreamReader(StreamReader&& other) noexcept = default;
StreamReader& StreamReader::operator=(StreamReader&& other) noexcept = default;
StreamReader::~StreamReader() = default;

std::uint64_t StreamReader::size() const noexcept { return state_->size(); }

std::size_t StreamReader::read(std::uint64_t offset, std::span<std::byte> out) { return state_->read(offset, out); }

}  // namespace hsmseal
