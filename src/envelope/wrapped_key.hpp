#pragma once

#include <hsmseal/error.hpp>

#include "envelope/wire.hpp"
#include "ring/ring_core.hpp"

/// Data keys on their way into a token and out of it.
namespace hsmseal::envelope {

/// The fields of an envelope that a set and the encryptor's options give.
[[nodiscard]] wire::Envelope header_for(const ring::ConnectedSet& set, Suite suite, bool padded);

/// Runs `work` and tells the observer if the envelope was refused.
template <typename Work>
auto telling_refusals(const ring::RingCore& ring, const ring::ConnectedSet& set, const Work& work) {
  try {
    return work();
  } catch (const OpenError&) {
    ring.tell(Event::Kind::OpenRefused, set.set());
    throw;
  }
}

struct WrappedKey {
  ring::ConnectedSet set;
  Bytes wrapped;
};

/// Wraps a data key under the active set.
[[nodiscard]] WrappedKey wrap_data_key(ring::RingCore& ring, const SecretBytes& data_key, Suite suite);

/// Unwraps the data key of an envelope under the set that it names.
/// @throws OpenError  it is not one. Besides: as KeyWrapper::unwrap().
[[nodiscard]] SecretBytes unwrap_data_key(const ring::ConnectedSet& set, const wire::Envelope& envelope);

}  // namespace hsmseal::envelope
