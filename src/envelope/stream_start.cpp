#include "envelope/stream_start.hpp"

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "crypto/crypto.hpp"

namespace hsmseal {
namespace envelope {

NewStream begin_stream(const EnvelopeEncryptor& encryptor) {
  const Deadline deadline{EncryptorParts::options(encryptor).deadline};
  const SecretBytes data_key = crypto::random_secret(wire::kDataKeyBytes);
  const auto nonce = crypto::random_array<wire::kNonceBytes>();
  const WrappedKey wrapped = wrap_data_key(EncryptorParts::ring(encryptor), data_key, Suite::Stream);
  StreamKey key{data_key, wrapped.set.ring(), nonce};
  wire::Envelope header = header_for(wrapped.set, Suite::Stream, false);
  header.wrapped = wrapped.wrapped;
  header.commitment = key.commitment();
  header.nonce = nonce;
  return {{wrapped.set, std::move(key)}, wire::write(header)};
}

StreamStart open_start(const EnvelopeEncryptor& encryptor, const wire::Envelope& header) {
  const Deadline deadline{EncryptorParts::options(encryptor).deadline};
  ring::RingCore& ring = EncryptorParts::ring(encryptor);
  const ring::ConnectedSet set = ring.named_by_envelope(header.ring_prefix, header.version);
  return telling_refusals(ring, set, [&] {
    StreamKey key{unwrap_data_key(set, header), set.ring(), header.nonce};
    key.check_commitment(header.commitment);
    return StreamStart{set, std::move(key)};
  });
}

void check_makes_streams(const EnvelopeEncryptor& encryptor) {
  const EnvelopeOptions& options = EncryptorParts::options(encryptor);
  if (options.suite == Suite::Token) {
    throw InvalidArgumentError("a stream has a data key on the host, which Suite::Token rules out");
  }
  if (options.padding.bucket() != 0) throw InvalidArgumentError("streams are not padded");
}

}  // namespace envelope

StreamRewrap rewrap_stream_start(const EnvelopeEncryptor& encryptor, ByteView start) {
  using envelope::EncryptorParts;
  const Deadline deadline{EncryptorParts::options(encryptor).deadline};
  ring::RingCore& ring = EncryptorParts::ring(encryptor);
  wire::Envelope header = wire::read_stream(start);
  const std::size_t replaced = wire::kStartBytes + header.wrapped.size();
  const ring::ConnectedSet old_set = ring.named_by_envelope(header.ring_prefix, header.version);
  const SecretBytes data_key = envelope::telling_refusals(ring, old_set, [&] {
    SecretBytes unwrapped = envelope::unwrap_data_key(old_set, header);
    envelope::StreamKey{unwrapped, old_set.ring(), header.nonce}.check_commitment(header.commitment);
    return unwrapped;
  });
  const envelope::WrappedKey wrapped = envelope::wrap_data_key(ring, data_key, Suite::Stream);
  wire::Envelope moved = envelope::header_for(wrapped.set, Suite::Stream, false);
  moved.wrapped = wrapped.wrapped;
  StreamRewrap rewrap{wire::write(moved), replaced};
  EncryptorParts::tell(encryptor, Event::Kind::Rewrapped, wrapped.set);
  return rewrap;
}

}  // namespace hsmseal
