#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include <hsmseal/secret_bytes.hpp>

#include "ring/body.hpp"

/// The ring's own keys, the present one and those before it: src/FORMAT.md sections 6.2 and 6.4.
namespace hsmseal::ring {

/// Tells one ring key from another without showing it.
[[nodiscard]] std::array<std::byte, 32> key_check(const SecretBytes& ring_key);

/// One key under the key that follows it.
/// @param index  the place in Body::former_ring_keys.
[[nodiscard]] Bytes wrap_former_ring_key(const SecretBytes& former, const SecretBytes& next, const RingId& ring,
                                         std::size_t index);

/// One step back.
/// @param next   the key after key number `index`, which there is.
/// @returns nothing if the link does not open.
[[nodiscard]] std::optional<SecretBytes> ring_key_before(const Body& body, const SecretBytes& next, std::size_t index);

/// The ring's key number `index`, found from the present one backwards.
/// @returns nothing if a link of the chain does not open, or there is no such key.
[[nodiscard]] std::optional<SecretBytes> former_ring_key(const Body& body, const SecretBytes& present,
                                                         std::size_t index);

}  // namespace hsmseal::ring
