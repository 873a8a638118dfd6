#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "bench/measure.hpp"

/// What is measured, by what it needs.
namespace bench {

/// Data keys that are wrapped each time: against the token.
void token_rows(Table& table);
/// Data keys that are reused: against the cipher.
void data_key_rows(Table& table);

/// The token that examples/with_tokens.sh makes, and its driver.
inline const std::string kToken = "hsm1";
[[nodiscard]] std::filesystem::path softhsm();
[[nodiscard]] std::string pin();

/// SoftHSM behind a driver that takes a millisecond more for each call that works with a key.
[[nodiscard]] hsmseal::DriverOptions slow_driver();
/// How often a function of the slow driver was called.
[[nodiscard]] unsigned long calls_of_slow_driver(const char* function);

/// The token on that driver, not connected yet.
[[nodiscard]] std::shared_ptr<hsmseal::KeyProvider> provider_on(const hsmseal::DriverOptions& driver,
                                                                hsmseal::HangPolicy policy, std::size_t sessions);

/// A new ring with one set on the token.
[[nodiscard]] hsmseal::KeyRing ring_on(const hsmseal::DriverOptions& driver, hsmseal::HangPolicy policy,
                                       std::size_t sessions);

/// Seals 64 bytes with a context of 32.
[[nodiscard]] Worker sealing(const hsmseal::EnvelopeEncryptor& vault);
/// Opens one such envelope again and again.
[[nodiscard]] Worker opening(const hsmseal::EnvelopeEncryptor& vault);

inline constexpr std::size_t kSecretBytes = 64, kContextBytes = 32;

}  // namespace bench
