#include "envelope/wire.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/stream.hpp>

#include "core/binding.hpp"
#include "core/wrap_rules.hpp"
#include "envelope/stream_layout.hpp"

namespace hsmseal {
namespace wire {
namespace {

constexpr std::string_view kMagic = "HSE1";
constexpr std::uint8_t kPaddedFlag = 1;

/// Takes fields off the front of untrusted bytes, and never more than there are.
class Reader {
 public:
  explicit Reader(ByteView bytes) noexcept : rest_(bytes) {}

  ByteView take(std::size_t size) {
    if (size > rest_.size()) throw FormatError("not an envelope: cut short");
    const ByteView field = rest_.first(size);
    rest_ = rest_.subspan(size);
    return field;
  }

  std::uint32_t number(std::size_t size) {
    std::uint32_t value = 0;
    for (const std::byte byte : take(size)) value = value << 8 | std::to_integer<std::uint32_t>(byte);
    return value;
  }

  [[nodiscard]] ByteView rest() const noexcept { return rest_; }

 private:
  ByteView rest_;
};

Suite suite_from(std::uint32_t number) {
  if (number == static_cast<std::uint32_t>(Suite::DataKey)) return Suite::DataKey;
  if (number == static_cast<std::uint32_t>(Suite::Token)) return Suite::Token;
  if (number == static_cast<std::uint32_t>(Suite::Stream)) return Suite::Stream;
  throw FormatError(fmt::format("envelope suite {} is not known to this version of hsmseal", number));
}

WrapAlgorithm algorithm_from(std::uint32_t number) {
  if (number == static_cast<std::uint32_t>(WrapAlgorithm::Aes256Gcm)) return WrapAlgorithm::Aes256Gcm;
  if (number == static_cast<std::uint32_t>(WrapAlgorithm::Aes256CbcHmac)) return WrapAlgorithm::Aes256CbcHmac;
  throw FormatError(fmt::format("envelope wrap algorithm {} is not known to this version of hsmseal", number));
}

}  // namespace

std::uint8_t flags_of(const Envelope& envelope) noexcept { return envelope.padded ? kPaddedFlag : 0; }

Envelope read(ByteView sealed) {
  if (sealed.size() > kMaxEnvelopeBytes) {
    throw FormatError(
        fmt::format("not an envelope: longer than {} bytes; a stream is opened piece by piece, see hsmseal/stream.hpp",
                    kMaxEnvelopeBytes));
  }
  Reader reader{sealed};
  if (!std::ranges::equal(reader.take(kMagic.size()), bytes_of(kMagic))) {
    throw FormatError("not an envelope: it does not start with HSE1");
  }
  Envelope envelope;
  envelope.suite = suite_from(reader.number(1));
  envelope.algorithm = algorithm_from(reader.number(1));
  if (envelope.suite == Suite::Token && envelope.algorithm != WrapAlgorithm::Aes256Gcm) {
    throw FormatError("not an envelope: what is sealed in the token is sealed with AES-GCM");
  }
  const std::uint32_t flags = reader.number(1);
  if ((flags & ~std::uint32_t{kPaddedFlag}) != 0) throw FormatError("envelope flags are not known to this version");
  envelope.padded = flags != 0;
  if (envelope.padded && envelope.suite == Suite::Stream) throw FormatError("not an envelope: streams are not padded");
  if (reader.number(1) != 0) throw FormatError("not an envelope: a reserved byte is not zero");
  std::ranges::copy(reader.take(envelope.ring_prefix.size()), envelope.ring_prefix.begin());
  envelope.version = reader.number(4);
  if (envelope.version == 0) throw FormatError("not an envelope: credential set 0 does not exist");
  const std::size_t wrapped_size = reader.number(2);
  const bool size_fits = envelope.suite == Suite::Token
                             ? core::is_iv_size(envelope.algorithm, wrapped_size)
                             : core::is_wrapped_size(envelope.algorithm, wrapped_size, kDataKeyBytes);
  if (!size_fits) throw FormatError("not an envelope: its wrapped data key or IV has another size");
  envelope.wrapped = reader.take(wrapped_size);
  if (envelope.suite != Suite::Token) {
    envelope.commitment = reader.take(kCommitmentBytes);
    envelope.nonce = reader.take(kNonceBytes);
  }
  envelope.payload = reader.rest();
  if (envelope.payload.size() < kTagBytes) throw FormatError("not an envelope: cut short");
  return envelope;
}

Envelope read_stream(ByteView start) {
  const Envelope envelope = read(start);
  if (envelope.suite != Suite::Stream) {
    throw FormatError("an envelope, but not a stream: it is opened as a whole, see EnvelopeEncryptor::open()");
  }
  return envelope;
}

std::size_t header_bytes(const Envelope& envelope) noexcept {
  return kStartBytes + envelope.wrapped.size() + envelope.commitment.size() + envelope.nonce.size();
}

std::optional<Start> read_start(ByteView start) {
  if (start.size() < kStartBytes || !is_sealed(start)) return std::nullopt;
  Reader reader{start};
  constexpr std::size_t kSuiteAlgorithmFlagsAndZero = 4;
  static_cast<void>(reader.take(kMagic.size() + kSuiteAlgorithmFlagsAndZero));
  Start read;
  std::ranges::copy(reader.take(read.ring_prefix.size()), read.ring_prefix.begin());
  read.version = reader.number(4);
  if (read.version == 0) return std::nullopt;
  return read;
}

ByteView through_wrapped(ByteView sealed, const Envelope& envelope) noexcept {
  return sealed.first(kStartBytes + envelope.wrapped.size());
}

Bytes write_start(const Envelope& envelope) {
  core::Binding bytes{kMagic};
  bytes.append(static_cast<std::uint8_t>(envelope.suite))
      .append(static_cast<std::uint8_t>(envelope.algorithm))
      .append(flags_of(envelope))
      .append(std::uint8_t{0})
      .append(ByteView{envelope.ring_prefix})
      .append(envelope.version)
      .append(static_cast<std::uint16_t>(envelope.wrapped.size()))
      .append(envelope.wrapped)
      .append(envelope.commitment);
  return bytes.take();
}

Bytes write_rest(ByteView start, ByteView nonce, ByteView ciphertext, ByteView tag) {
  Bytes sealed;
  sealed.reserve(start.size() + nonce.size() + ciphertext.size() + tag.size());
  for (const ByteView part : {start, nonce, ciphertext, tag}) sealed.insert(sealed.end(), part.begin(), part.end());
  return sealed;
}

Bytes write(const Envelope& envelope) {
  return write_rest(write_start(envelope), envelope.nonce, envelope.payload, {});
}

EnvelopeHeader header_of(const Envelope& envelope, std::uint64_t payload_bytes) {
  const bool is_stream = envelope.suite == Suite::Stream;
  const std::uint64_t secret_bytes = is_stream ? envelope::plain_bytes_in(payload_bytes) : payload_bytes - kTagBytes;
  return {.format = 1,
          .suite = envelope.suite,
          .algorithm = envelope.algorithm,
          .padded = envelope.padded,
          .ring_prefix = envelope.ring_prefix,
          .version = envelope.version,
          .secret_bytes = secret_bytes};
}

}  // namespace wire

EnvelopeHeader inspect(ByteView sealed) {
  const wire::Envelope envelope = wire::read(sealed);
  return wire::header_of(envelope, envelope.payload.size());
}

EnvelopeHeader inspect_stream(ByteView start, std::uint64_t sealed_bytes) {
  if (sealed_bytes < start.size()) {
    throw InvalidArgumentError(fmt::format("a stream of {} bytes does not begin with {}", sealed_bytes, start.size()));
  }
  const wire::Envelope envelope = wire::read_stream(start);
  return wire::header_of(envelope, sealed_bytes - wire::header_bytes(envelope));
}

bool is_stream(ByteView start) noexcept {
  return is_sealed(start) && start.size() > wire::kMagic.size() &&
         start[wire::kMagic.size()] == static_cast<std::byte>(Suite::Stream);
}

bool is_sealed(ByteView bytes) noexcept {
  const ByteView magic = bytes_of(wire::kMagic);
  return bytes.size() >= magic.size() && std::ranges::equal(bytes.first(magic.size()), magic);
}

}  // namespace hsmseal
