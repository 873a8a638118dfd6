#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <p11-kit/pkcs11.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "support/ring_parts.hpp"
#include "token/in_threads.hpp"

namespace hsmseal::test {

/// A ring on a token behind the faulty driver, with all of the library between, and a clock that stands still.
class FaultyRing {
 public:
  explicit FaultyRing(HangPolicy policy = HangPolicy::Isolated, std::chrono::milliseconds keep_alive = {})
      : binding_(hsm.binding("one")) {
    binding_.hang_policy = policy;
    binding_.limits.keep_alive = keep_alive;
  }

  /// Another user of the same driver and token, as if configured by somebody else.
  [[nodiscard]] std::shared_ptr<KeyProvider> provider() { return provider(binding_); }
  [[nodiscard]] std::shared_ptr<KeyProvider> provider(const TokenBinding& binding) {
    Host host = hsm.bare_host();
    host.token("one", binding);
    return pkcs11_provider(host, {.observer = events, .clock = [this] {
                                    return std::chrono::steady_clock::time_point{std::chrono::milliseconds{passed}};
                                  }});
  }
  [[nodiscard]] const TokenBinding& binding() const { return binding_; }

  [[nodiscard]] KeyRing create() { return KeyRing::create(store, provider(), {.token = "one"}, RingPin::in_process()); }
  [[nodiscard]] KeyRing open() { return open(binding_); }
  [[nodiscard]] KeyRing open(const TokenBinding& binding) {
    return KeyRing::open(store, provider(binding), RingPin::in_process());
  }
  /// The ring as a host sees it that has a driver of its own, without faults.
  [[nodiscard]] KeyRing elsewhere() {
    return KeyRing::open(store, pkcs11_provider(other_driver().host()), RingPin::in_process());
  }
  /// Keys of the ring in the token, as another host sees them.
  [[nodiscard]] std::size_t keys_in_token(const KeyRing& ring) {
    return pkcs11_provider(other_driver().host())->find_keys(ring.id(), "one").size();
  }

  [[nodiscard]] long count(Event::Kind kind) const {
    const auto kinds = events->kinds();
    return std::count(kinds.begin(), kinds.end(), kind);
  }

  FaultyHsm hsm;
  std::shared_ptr<Recorder> events = std::make_shared<Recorder>();
  std::shared_ptr<RingStore> store = memory_ring_store();
  std::atomic<std::int64_t> passed = 3'600'000;  ///< milliseconds, on the provider's clock

 private:
  const FaultyHsm& other_driver() {
    if (!other_) other_ = std::make_unique<FaultyHsm>(hsm.shared_tokens());
    return *other_;
  }

  std::unique_ptr<FaultyHsm> other_;
  TokenBinding binding_;
};

inline HangPolicy both_policies() { return GENERATE(HangPolicy::Direct, HangPolicy::Isolated); }

inline bool comes_back(const EnvelopeEncryptor& vault, const std::string& text = "a secret") {
  return vault.open(vault.seal(bytes_of(text), kNoContext), kNoContext).text() == text;
}

/// Seals and opens `rounds` secrets in each thread. @returns how many came back as they were.
inline std::size_t come_back(const EnvelopeEncryptor& vault, std::size_t threads, std::size_t rounds) {
  std::atomic<std::size_t> whole = 0;
  in_threads(threads, [&](std::size_t thread) {
    for (std::size_t i = 0; i < rounds; ++i) {
      if (comes_back(vault, std::to_string(thread) + " " + std::to_string(i))) ++whole;
    }
  });
  return whole;
}

/// An envelope that its key does not open, though it looks like one.
inline Bytes corrupted(const EnvelopeEncryptor& vault) {
  Bytes sealed = vault.seal(bytes_of("a secret"), kNoContext);
  sealed[40] ^= std::byte{1};  // in the wrapped key
  return sealed;
}

}  // namespace hsmseal::test
