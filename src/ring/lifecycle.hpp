#pragma once

#include <vector>

#include "ring/ring_core.hpp"

/// What an operator does with credential sets; KeyRing's members of the same names say what each promises.
namespace hsmseal::ring {

Version add(RingCore& ring, const SetSpec& spec, Activation activation);
void activate(RingCore& ring, Version version);
void verify(RingCore& ring, Version version);
void amend(RingCore& ring, Version version, const SetChange& change);
/// @param census  null: nobody counts.
void remove(RingCore& ring, Version version, const Census& census);
void restore(RingCore& ring, Version version);
void purge(RingCore& ring, Version version, const Census& census);
void destroy_key(RingCore& ring, Version version, const Census& census, Confirmation confirmation);
[[nodiscard]] std::vector<FoundKey> orphans(RingCore& ring);

}  // namespace hsmseal::ring
