#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <p11-kit/pkcs11.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/observer.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "support/ring_parts.hpp"

namespace hsmseal::test {

/// The clock of a provider, which stands still until the test moves it.
class StandingClock {
 public:
  void move(std::chrono::milliseconds by) { now_->fetch_add(by.count()); }
  [[nodiscard]] std::function<std::chrono::steady_clock::time_point()> ask() const {
    return [now = now_] { return std::chrono::steady_clock::time_point{std::chrono::milliseconds{*now}}; };
  }

 private:
  std::shared_ptr<std::atomic<std::int64_t>> now_ = std::make_shared<std::atomic<std::int64_t>>(86'400'000);
};

/// What differs from one scene to another.
struct VaultSetup {
  std::vector<std::string> faults = {};  ///< directives that hold from before the driver is loaded
  std::function<void(TokenBinding&)> binding = [](TokenBinding&) {};
  std::function<void(DriverOptions&)> driver = [](DriverOptions&) {};
  Pkcs11Options options = {};
  std::chrono::milliseconds deadline{5'000};
  std::chrono::milliseconds ring_deadline{5'000};
};

/// The whole library in front of the faulty driver: a ring whose set is on the token "one", and an envelope under it.
class FaultyVault {
 public:
  explicit FaultyVault(VaultSetup with = {}) : setup(std::move(with)) {
    for (const auto& fault : setup.faults) hsm.apply(fault);
    setup.options.observer = recorder;
    setup.options.clock = clock.ask();
    ring = std::make_unique<KeyRing>(
        KeyRing::create(store, provider(), {.token = "one"}, pin, {.deadline = setup.ring_deadline}));
    vault = std::make_unique<EnvelopeEncryptor>(*ring, EnvelopeOptions{.deadline = setup.deadline});
    sealed = vault->seal(bytes_of("kept"), kNoContext);
    REQUIRE(opens());
    for (const auto& fault : setup.faults) {
      const std::string word = fault.substr(0, fault.find(' '));
      fired_at_start[word] = hsm.fired(word);
    }
    hsm.reset();
  }

  [[nodiscard]] Host host() const {
    DriverOptions driver = hsm.driver();
    setup.driver(driver);
    TokenBinding binding = hsm.binding("one");
    binding.driver = "this";
    setup.binding(binding);
    Host host;
    host.driver("this", driver);
    host.token("one", binding);
    return host;
  }
  [[nodiscard]] std::shared_ptr<KeyProvider> provider() const { return pkcs11_provider(host(), setup.options); }
  /// The same ring with connections of its own, as after a start of the program.
  [[nodiscard]] EnvelopeEncryptor another() const {
    return EnvelopeEncryptor{KeyRing::open(store, provider(), pin, {.deadline = setup.ring_deadline}),
                             {.deadline = setup.deadline}};
  }

  /// Opens what was sealed at the beginning.
  [[nodiscard]] bool opens() const { return opens_with(*vault); }
  [[nodiscard]] bool opens_with(const EnvelopeEncryptor& other) const {
    return other.open(sealed, kNoContext).text() == "kept";
  }
  [[nodiscard]] bool seals_and_opens() const {
    return opens() && vault->open(vault->seal(bytes_of("new"), kNoContext), kNoContext).text() == "new";
  }
  /// For threads, in which nothing may be thrown: whether it opens.
  [[nodiscard]] bool tries() const noexcept {
    try {
      return opens();
    } catch (const std::exception&) {
      return false;
    }
  }

  [[nodiscard]] long events(Event::Kind kind) const { return std::ranges::count(recorder->kinds(), kind); }

  VaultSetup setup;
  FaultyHsm hsm;
  std::map<std::string, unsigned long> fired_at_start;  ///< of VaultSetup::faults, by their words
  StandingClock clock;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::shared_ptr<RingStore> store = memory_ring_store();
  RingPin pin = RingPin::in_process();
  std::unique_ptr<KeyRing> ring;
  std::unique_ptr<EnvelopeEncryptor> vault;
  Bytes sealed;
};

/// How long something took.
template <typename Work>
std::chrono::milliseconds time_of(const Work& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
}

/// Waits for what other threads do, two seconds at most. @returns whether it came.
template <typename Condition>
bool eventually(const Condition& condition) {
  for (int looks = 0; looks < 400; ++looks) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  return condition();
}

}  // namespace hsmseal::test
