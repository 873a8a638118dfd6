#pragma once

#include <memory>

#include <hsmseal/export.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal {

/// A provider of keys that live in PKCS#11 tokens.
///
/// Nothing is loaded until a key is used. Each token then has one session that keeps the login, and up to
/// SessionLimits::max_sessions that work, each for one thread at a time; threads wait for a free one in the order they
/// came, up to SessionLimits::session_wait (then TokenUnavailableError). The first use of a token or a key takes as
/// long as the driver's start, the PIN source and the login do. Threads that come meanwhile for the same key wait for
/// it and share its failure; for another key of the token they wait, then try themselves.
///
/// Before a key is used for the first time, the token's label and serial are compared with those the set was added
/// with (before any PIN is sent), the key is found by its CKA_ID, and its proof is unwrapped; before it wraps for the
/// first time, a round trip shows that it unwraps what it wraps.
///
/// Keys are AES-256, private, sensitive, not extractable, for encryption and decryption only; adopted keys are held to
/// the same, but for what AdoptionPolicy accepts.
///
/// @param host  copied.
/// Thread safety: as KeyProvider says.
/// Conformance: trusts the token to keep keys inside, and to refuse ciphertext whose tag is wrong; the latter is tried
/// when a set is added.
[[nodiscard]] HSMSEAL_API std::shared_ptr<KeyProvider> pkcs11_provider(Host host);

}  // namespace hsmseal
