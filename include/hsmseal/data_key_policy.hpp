#pragma once

#include <chrono>
#include <cstdint>

#include <hsmseal/export.hpp>

namespace hsmseal {

/// How many secrets an encryptor seals under one data key.
///
/// A data key of its own for each secret is the default: each seal asks the token, and so does each open. A data key for
/// many secrets asks it once for all of them, and what was opened once opens again without it. What that costs:
///
/// * While such a key is in use, the process's memory holds it. Who reads that memory, or learns the key elsewhere, opens
///   every envelope that was sealed under it: up to `max_secrets`, without the token and without a trace in its log.
/// * A data key that sealed as many secrets as it may, or is too old, is not used any more, and is wiped when the next one
///   takes its place.
/// * An envelope whose data key is kept opens while the token is away, and after somebody locked its PIN.
/// * Two copies of one running process (a virtual machine that is restored from a snapshot twice, or cloned) may draw the
///   same nonces. Under a data key that both go on with, that shows the difference of two secrets and lets others forge
///   envelopes. Such hosts must keep to per_secret(), or restart the process first. Forked children are safe: they begin
///   with nothing.
///
/// The ring's usage count (RingSettings::usage_hard_limit) counts data keys, not secrets.
class HSMSEAL_API DataKeyPolicy {
 public:
  /// A data key for each secret: one wrap for each seal, one unwrap for each open.
  [[nodiscard]] static DataKeyPolicy per_secret() noexcept { return DataKeyPolicy{0, std::chrono::seconds{0}}; }

  /// A data key for up to `max_secrets`, for up to `max_age`. It is given up earlier when another set becomes active.
  ///
  /// @param max_secrets  1 to 2^32. That is what NIST SP 800-38D section 8.3 allows under one key with random nonces of 96
  ///        bits; with the default the chance that any two are equal is below 2^-56.
  /// @param max_age  1 second to 24 hours, by RingOptions::clock. Also how long a data key is kept that was opened.
  /// @throws InvalidArgumentError
  [[nodiscard]] static DataKeyPolicy reuse(std::uint64_t max_secrets = std::uint64_t{1} << 20,
                                           std::chrono::seconds max_age = std::chrono::hours{1});

  /// Whether it is reuse().
  [[nodiscard]] bool reuses() const noexcept { return max_secrets_ != 0; }
  /// How many secrets a data key seals; 0 for per_secret().
  [[nodiscard]] std::uint64_t max_secrets() const noexcept { return max_secrets_; }
  /// How long it does; 0 for per_secret().
  [[nodiscard]] std::chrono::seconds max_age() const noexcept { return max_age_; }

 private:
  DataKeyPolicy(std::uint64_t max_secrets, std::chrono::seconds max_age) noexcept
      : max_secrets_(max_secrets), max_age_(max_age) {}

  std::uint64_t max_secrets_;
  std::chrono::seconds max_age_;
};

}  // namespace hsmseal
