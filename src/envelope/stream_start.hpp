#pragma once

#include <hsmseal/stream.hpp>

#include "envelope/encryptor_parts.hpp"
#include "envelope/stream_key.hpp"
#include "envelope/wire.hpp"
#include "envelope/wrapped_key.hpp"

namespace hsmseal::envelope {

/// Who sealed a stream, and its key.
struct StreamStart {
  ring::ConnectedSet set;
  StreamKey key;
};

/// A new stream under the active set.
struct NewStream {
  StreamStart start;
  Bytes header;
};

/// @throws as EnvelopeEncryptor::seal()
[[nodiscard]] NewStream begin_stream(const EnvelopeEncryptor& encryptor);

/// @param header  see wire::read_stream().
/// @throws as EnvelopeEncryptor::open(), whose observer is told of an OpenError.
[[nodiscard]] StreamStart open_start(const EnvelopeEncryptor& encryptor, const wire::Envelope& header);

/// @throws InvalidArgumentError  the encryptor seals in other ways than streams.
void check_makes_streams(const EnvelopeEncryptor& encryptor);

}  // namespace hsmseal::envelope
