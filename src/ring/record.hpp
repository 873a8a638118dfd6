#pragma once

#include <optional>

#include <hsmseal/ring_pin.hpp>
#include <hsmseal/ring_store.hpp>

#include "ring/snapshot.hpp"

namespace hsmseal::ring {

/// The record of a body, held to the rules that its readers will hold it to.
/// @throws InvalidArgumentError  no host could read it again.
[[nodiscard]] RingRecord record_of(const Body& body, const SecretBytes& ring_key);

/// A record that is a ring's by its form; not verified yet.
struct ParsedRecord {
  Body body;
  RingRecord record;
};

/// @param seen  what this host had seen before the record was read.
/// @throws WrongRingError, RingTamperedError, StoreError  the last if the format is a later version's.
[[nodiscard]] ParsedRecord parse(RingRecord record, const std::optional<PinnedRing>& seen);

/// That this key made the record's MAC.
/// @throws RingTamperedError  it did not.
void check_mac(const RingRecord& record, const SecretBytes& ring_key);

/// Any set's key gives the ring key; the active one is asked first, then the newer before the older.
/// @throws RingTamperedError  no set's copy of it opens.
/// @throws TokenError, KeyNotFoundError, WrongKeyError, InvalidArgumentError  no set's key answers: the first reason.
[[nodiscard]] SecretBytes find_ring_key(const Body& body, const Wrappers& wrappers);

/// The ring key from one set. @throws OpenError  the set's copy does not open.
[[nodiscard]] SecretBytes unwrap_ring_key(KeyWrapper& wrapper, const RingId& ring, const CredentialSet& set);

/// A set's own copy of the ring key, unwrapped again before anybody depends on it.
/// @throws WrongKeyError  it does not come back.
[[nodiscard]] Bytes wrap_ring_key(CountedWrapper& wrapper, const SecretBytes& ring_key, const RingId& ring,
                                  const CredentialSet& set);

}  // namespace hsmseal::ring
