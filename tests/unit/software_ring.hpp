#pragma once

#include <map>
#include <memory>
#include <stdexcept>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "support/hurried_clock.hpp"
#include "support/software_provider.hpp"

namespace hsmseal::test {

/// Counts events by their kind.
class EventCounter final : public Observer {
 public:
  void on_event(const Event& event) noexcept override {
    ++counts_[event.kind];
    last_ = event;
  }
  [[nodiscard]] int count(Event::Kind kind) const { return counts_.contains(kind) ? counts_.at(kind) : 0; }
  [[nodiscard]] const Event& last() const { return last_; }

 private:
  std::map<Event::Kind, int> counts_;
  Event last_{};
};

/// A ring in memory under keys in memory, with one active set.
struct SoftwareRing {
  SetSpec spec = {.token = "software"};  ///< of every set
  std::shared_ptr<SoftwareProvider> provider = std::make_shared<SoftwareProvider>();
  std::shared_ptr<EventCounter> events = std::make_shared<EventCounter>();
  KeyRing ring = KeyRing::create(memory_ring_store(), provider, spec, RingPin::in_process(),
                                 {.observer = events, .clock = hurried_clock()});

  Version add_set() { return ring.add(spec); }

  /// Uses up a version, as an add() does that fails.
  void skip_version() {
    provider->fail(true);
    try {
      add_set();
    } catch (const TokenError&) {
      provider->fail(false);
      return;
    }
    throw std::logic_error("a failing token took a new key");
  }

  [[nodiscard]] EnvelopeEncryptor encryptor(EnvelopeOptions options = {}) const {
    return EnvelopeEncryptor{ring, options};
  }
  [[nodiscard]] EnvelopeEncryptor in_token(Padding padding = Padding::none()) const {
    return encryptor({.suite = Suite::Token, .padding = padding});
  }
};

}  // namespace hsmseal::test
