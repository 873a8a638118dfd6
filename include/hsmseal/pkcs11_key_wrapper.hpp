#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include <hsmseal/export.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/observer.hpp>
#include <hsmseal/ring_options.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal {

/// What a forked child does with tokens that its parent uses.
enum class ForkPolicy {
  Refuse,     ///< every use is a TokenError
  StartAnew,  ///< at its first use the child starts the driver and logs in by itself. What it inherited is left alone
};

/// When a token that fails is left alone.
struct CircuitBreaker {
  unsigned failures = 5;  ///< after how many operations in a row that failed for the token's sake; at least 1
  std::chrono::milliseconds pause{
      1'000};  ///< for how long; then one operation tries, and others fail at once meanwhile
  std::chrono::milliseconds longest_pause{30'000};  ///< the pause doubles with each try that fails, up to this
};

/// How a provider behaves in this process.
struct Pkcs11Options {
  /// Is told of losses, recoveries and refusals; null: nobody is.
  std::shared_ptr<Observer> observer = {};
  /// A child that starts anew should have been forked by a process of one thread, as POSIX says of all libraries.
  ForkPolicy after_fork = ForkPolicy::Refuse;
  /// For each token.
  CircuitBreaker circuit = {};
  /// The clock that times restarts of drivers and the circuit breaker; replaced in tests.
  std::function<std::chrono::steady_clock::time_point()> clock = time_since_boot;
};

/// A provider of keys that live in PKCS#11 tokens.
///
/// Nothing is loaded until a key is used. Each token then has one session that keeps the login, and up to
/// SessionLimits::max_sessions that work, each for one thread at a time; threads wait for a free one in the order they
/// came, up to SessionLimits::session_wait (then TokenUnavailableError). The first use of a token or a key takes as
/// long as the driver's start, the PIN source and the login do. Threads that come meanwhile for the same key wait for
/// it and share its failure; for another key of the token they wait, then try themselves.
///
/// What is lost comes back by itself, with the mildest means that helps: a new session; a new login, with keys looked up
/// and proved again; the token looked for in all slots; the driver restarted, if DriverRestart allows. Threads that see
/// one loss cause one recovery and share its outcome. An operation is tried once more after it, inside its Deadline, since
/// wrapping and unwrapping change nothing. Bytes that do not open, a wrong PIN and a wrong key recover nothing. A token
/// that keeps failing is left alone for a while (CircuitBreaker), and its users get a TokenUnavailableError at once.
///
/// Before a key is used for the first time, and again after each login, the token's label and serial are compared with those the set was added
/// with (before any PIN is sent), the key is found by its CKA_ID, and its proof is unwrapped; before it wraps for the
/// first time, a round trip shows that it unwraps what it wraps. An operation is two calls of the driver; with AES-CBC and
/// HMAC four.
///
/// Keys are AES-256, private, sensitive, not extractable, for encryption and decryption only; beside one that wraps with
/// AES-CBC and HMAC there is a generic secret that signs only. Adopted keys are held to the same, but for what
/// AdoptionPolicy accepts. What a set wraps with is found when it is added, see SetSpec::algorithm and SetSpec::gcm.
///
/// @param host  copied.
/// @throws InvalidArgumentError  an option is out of range.
/// Thread safety: as KeyProvider says.
/// Conformance: trusts the token to keep keys inside, and with AES-GCM to refuse ciphertext whose tag is wrong, which is
/// tried when a set is added; MACs are compared on the host.
[[nodiscard]] HSMSEAL_API std::shared_ptr<KeyProvider> pkcs11_provider(Host host, Pkcs11Options options = {});

}  // namespace hsmseal
