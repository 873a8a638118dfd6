#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include <hsmseal/secret_bytes.hpp>

#include "ring/body.hpp"

namespace hsmseal::ring {

/// Tells a ring's key from another without showing it, src/FORMAT.md section 6.4.
[[nodiscard]] std::array<std::byte, 32> key_check(const SecretBytes& ring_key);

/// A key that the ring had before, src/FORMAT.md section 6.2: the first has index 0.
///
/// @param present  the key that the record's sets hold; it has the index behind the last.
/// @returns nothing if there is no such key, or something on the way to it does not open.
[[nodiscard]] std::optional<SecretBytes> former_ring_key(const Body& body, const SecretBytes& present,
                                                         std::size_t index);

/// Whether the present key or one before it has this check: whether a host that remembers it may follow the record.
[[nodiscard]] bool leads_to(const Body& body, const SecretBytes& present, const std::array<std::byte, 32>& check);

/// What becomes the item `index` of Body::former_ring_keys when the ring gets another key.
[[nodiscard]] Bytes wrap_former_ring_key(const SecretBytes& former, const SecretBytes& next, const RingId& ring,
                                         std::size_t index);

}  // namespace hsmseal::ring
