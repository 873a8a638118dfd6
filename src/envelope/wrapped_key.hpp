#pragma once

#include <utility>

#include <hsmseal/error.hpp>

#include "envelope/wire.hpp"
#include "ring/ring_core.hpp"

/// Data keys on their way into a token and out of it.
namespace hsmseal::envelope {

/// The fields of an envelope that a set and the encryptor's options give.
[[nodiscard]] wire::Envelope header_for(const ring::ConnectedSet& set, Suite suite, bool padded);

/// Runs `work` with the active set, and again if another set became active meanwhile: what is returned after a change
/// of sets never names the older one.
template <typename Work>
auto with_active_set(ring::RingCore& ring, const Work& work) {
  for (;;) {
    const ring::ConnectedSet set = ring.active_for_sealing();
    auto result = work(set);
    if (ring.active_for_sealing().set().version == set.set().version) return result;
  }
}

/// Runs `work` and tells the observer if the envelope was refused.
template <typename Work>
auto telling_refusals(const ring::RingCore& ring, const ring::ConnectedSet& set, const Work& work) {
  try {
    return work();
  } catch (const OpenError&) {
    ring.tell(Event::Kind::OpenRefused, set.ring(), set.set().version, set.set().key.token);
    throw;
  }
}

/// A provider's wrap result must have the size that its set's profile says, or the envelope could not be read again.
/// @throws WrongKeyError
void check_wrapped(const ring::ConnectedSet& set, const Bytes& wrapped, std::size_t plain_size);

struct WrappedKey {
  ring::ConnectedSet set;
  Bytes wrapped;
};

/// Wraps a data key under the active set.
[[nodiscard]] WrappedKey wrap_data_key(ring::RingCore& ring, const SecretBytes& data_key, Suite suite);

/// What the set cannot have wrapped does not reach its token.
/// @throws OpenError
void check_fits(const ring::ConnectedSet& set, const wire::Envelope& envelope);

/// Unwraps the data key of an envelope under the set that it names.
/// @throws OpenError  it is not one. Besides: as KeyWrapper::unwrap().
[[nodiscard]] SecretBytes unwrap_data_key(const ring::ConnectedSet& set, const wire::Envelope& envelope);

}  // namespace hsmseal::envelope
