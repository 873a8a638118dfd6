#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "support/ring_parts.hpp"
#include "support/software_provider.hpp"

namespace hsmseal::test {

/// A provider on its way to a software token: tokens can be missing or hold another key, and a test can look on.
class HookedProvider final : public KeyProvider {
 public:
  explicit HookedProvider(std::shared_ptr<SoftwareProvider> inner) : inner_(std::move(inner)) {}

  [[nodiscard]] KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
    KeyDescription key = inner_->provision(spec, ring, version);
    if (after_provision) after_provision();
    return key;
  }
  [[nodiscard]] std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override {
    return std::make_shared<Wrapper>(*this, key, version);
  }
  [[nodiscard]] std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
    return inner_->find_keys(ring, token);
  }
  void destroy(const KeyDescription& key) override {
    if (before_destroy) before_destroy(key);
    check_there(key);
    inner_->destroy(key);
  }

  std::set<std::string> missing = {};           ///< aliases of tokens that do not hold the keys they should
  std::map<std::string, Bytes> exchanged = {};  ///< the key that answers for every key of a token
  std::function<void()> after_provision, before_wrap;
  std::function<void(const KeyDescription&)> before_destroy;

 private:
  class Wrapper final : public KeyWrapper {
   public:
    Wrapper(HookedProvider& provider, const KeyDescription& key, Version version) : provider_(provider), key_(key) {
      const auto other = provider.exchanged.find(key.token);
      if (other != provider.exchanged.end()) key_.key_id = other->second;
      inner_ = provider.inner_->connect(key_, version);
    }
    Bytes wrap(ByteView key, ByteView aad) override {
      provider_.check_there(key_);
      if (provider_.before_wrap) provider_.before_wrap();
      return inner_->wrap(key, aad);
    }
    SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
      provider_.check_there(key_);
      return inner_->unwrap(wrapped, aad);
    }

   private:
    HookedProvider& provider_;  ///< outlives the ring in every test
    KeyDescription key_;
    std::shared_ptr<KeyWrapper> inner_;
  };

  void check_there(const KeyDescription& key) const {
    if (missing.contains(key.token)) throw KeyNotFoundError("token '" + key.token + "' has no such key");
  }

  const std::shared_ptr<SoftwareProvider> inner_;
};

/// A ring that several hosts share, each with a pin of its own, and the clocks of hosts and store, which stand still.
struct RingHosts {
  std::shared_ptr<OpenStore> store = std::make_shared<OpenStore>();
  std::shared_ptr<SoftwareProvider> token = std::make_shared<SoftwareProvider>();
  std::shared_ptr<HookedProvider> provider = std::make_shared<HookedProvider>(token);
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();  ///< of the host that made the ring

  [[nodiscard]] RingOptions options(std::shared_ptr<Observer> observer = nullptr) const {
    return {.observer = std::move(observer), .clock = [this] {
              return std::chrono::steady_clock::time_point{std::chrono::hours{1}} + std::chrono::milliseconds{passed};
            }};
  }
  KeyRing create(const RingSettings& settings = {}) {
    return KeyRing::create(store, provider, {.token = "t", .description = "first"}, RingPin::in_process(),
                           options(recorder), settings);
  }
  /// Another host.
  [[nodiscard]] KeyRing join(std::shared_ptr<Observer> observer = nullptr) const {
    return KeyRing::open(store, provider, RingPin::in_process(), options(std::move(observer)));
  }
  /// On the clocks of all hosts and of the store.
  void pass(std::chrono::milliseconds time) {
    passed += time.count();
    store->clock += time;
  }

  std::atomic<std::int64_t> passed = 0;  ///< milliseconds, on the hosts' clocks
};

inline std::uint64_t none_left(Version) { return 0; }

inline std::string seal(const KeyRing& ring, const std::string& secret = "x") {
  return EnvelopeEncryptor{ring}.seal_text(secret, kNoContext);
}

inline std::string open(const KeyRing& ring, const std::string& sealed) {
  return std::string{EnvelopeEncryptor{ring}.open_text(sealed, kNoContext).text()};
}

/// Which set seals, as envelopes tell it.
inline Version sealing_version(const KeyRing& ring) { return inspect_text(seal(ring)).version; }

}  // namespace hsmseal::test
