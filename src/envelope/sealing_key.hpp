#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <hsmseal/data_key_policy.hpp>

#include "envelope/data_key.hpp"
#include "envelope/key_memory.hpp"
#include "envelope/wrapped_key.hpp"

namespace hsmseal::envelope {

/// A data key that seals many secrets, wrapped once under the active set.
///
/// Thread safety: all members may run concurrently.
class SealingKey {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// Draws a data key and wraps it.
  /// @param padded  whether what is sealed with it is.
  [[nodiscard]] static std::shared_ptr<SealingKey> make(ring::RingCore& ring, KeyMemory& memory, DataKeyPolicy policy,
                                                        bool padded);

  /// Takes one of the secrets that this key may still seal.
  /// @returns false if it is used up or too old: then it is over for good.
  [[nodiscard]] bool take(Time now) noexcept {
    return now < expires_ && left_.fetch_sub(1, std::memory_order_relaxed) > 0;
  }
  /// Whether take() may succeed.
  [[nodiscard]] bool usable(Time now) const noexcept {
    return now < expires_ && left_.load(std::memory_order_relaxed) > 0;
  }

  [[nodiscard]] PayloadKeyView key() const noexcept { return PayloadKeyView{place_.bytes()}; }
  /// The fields of every envelope that is sealed with it, up to the nonce, and the same as bytes.
  [[nodiscard]] const wire::Envelope& envelope() const noexcept { return envelope_; }
  [[nodiscard]] ByteView start() const noexcept { return start_; }
  [[nodiscard]] const RingId& ring() const noexcept { return ring_; }
  [[nodiscard]] Version version() const noexcept { return envelope_.version; }
  [[nodiscard]] const std::string& token() const noexcept { return token_; }

 private:
  SealingKey(const WrappedKey& key, KeyMemory::Place place, DataKeyPolicy policy, bool padded, Time now);

  const KeyMemory::Place place_;
  const RingId ring_;
  const std::string token_;  ///< for events
  wire::Envelope envelope_;  ///< without views
  Bytes start_;
  const Time expires_;
  alignas(64) std::atomic<std::int64_t> left_;  ///< below 0: how many came too late
};

}  // namespace hsmseal::envelope
