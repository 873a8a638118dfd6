#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/rewrap.hpp>

#include "rewrap/memory_rows.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_parts.hpp"
#include "support/softhsm.hpp"

namespace hsmseal::test {

inline Context context_of(std::string_view key) { return Context{}.add("row", key); }

inline Row MemoryRows::row_of(const std::string& key, const Bytes& value) const {
  Row row{.key = key, .value = value};
  if (knows_contexts) row.context = context_of(key).encoded();
  return row;
}

/// Time that passes when somebody waits, and not otherwise.
struct HandClock {
  std::chrono::steady_clock::time_point now{std::chrono::hours{1}};
  std::chrono::nanoseconds slept{0};
  std::size_t sleeps = 0;
  std::function<void()> on_sleep;
};

/// An application's vault: a ring, and rows that are sealed under its sets. Every second one is in the text form.
struct Vault {
  explicit Vault(EnvelopeOptions options = {}) : envelopes(options) {}

  RingParts parts;
  EnvelopeOptions envelopes;
  KeyRing ring = parts.create({}, {.max_staleness = std::chrono::milliseconds{1},
                                   .removal_grace = std::chrono::milliseconds{2},
                                   .quarantine = std::chrono::milliseconds{3}});
  std::shared_ptr<MemoryRows> rows = std::make_shared<MemoryRows>();
  std::shared_ptr<HandClock> time = std::make_shared<HandClock>();

  [[nodiscard]] static std::string key(int number) { return fmt::format("row-{:05}", number); }
  [[nodiscard]] static std::string secret(const std::string& key) { return "secret of " + key; }

  /// What the application would store.
  [[nodiscard]] Bytes sealed(const std::string& key, const std::string& text) const {
    const EnvelopeEncryptor vault{ring, envelopes};
    if ((key.back() - '0') % 2 == 0) return vault.seal(bytes_of(text), context_of(key));
    const std::string form = vault.seal_text(text, context_of(key));
    return {bytes_of(form).begin(), bytes_of(form).end()};
  }
  void fill(int count) {
    for (int i = 0; i < count; ++i) rows->put(key(i), sealed(key(i), secret(key(i))));
  }
  /// Adds a set, which is the active one then.
  Version rotate() { return ring.add({.token = "t"}); }

  [[nodiscard]] std::string opened(const std::string& key) const {
    const EnvelopeEncryptor vault{ring};
    const Bytes& value = rows->values.at(key);
    const std::string_view text{reinterpret_cast<const char*>(value.data()), value.size()};
    const SecretBytes secret =
        is_sealed(value) ? vault.open(value, context_of(key)) : vault.open_text(text, context_of(key));
    return std::string{secret.text()};
  }
  /// How many rows there are. Fails the test unless all hold what they were filled with, under this set.
  [[nodiscard]] std::size_t opened_under(Version version) const {
    for (const auto& [key, value] : rows->values) {
      CAPTURE(key);
      REQUIRE(opened(key) == secret(key));
    }
    REQUIRE(rows->census(ring.id()).may_need(version) == rows->values.size());
    return rows->values.size();
  }

  /// Options whose time is the test's.
  [[nodiscard]] RewrapOptions options() const {
    RewrapOptions options;
    options.batch = 7;
    options.envelopes = envelopes;
    options.clock = [time = time] { return time->now; };
    options.sleep = [time = time](std::chrono::nanoseconds pause, const std::stop_token&) {
      time->now += pause;
      time->slept += pause;
      ++time->sleeps;
      if (time->on_sleep) time->on_sleep();
    };
    return options;
  }
  [[nodiscard]] RewrapReport run(RewrapOptions options, const std::stop_token& stop = {}) const {
    return Rewrapper{ring, rows, std::move(options)}.run(stop);
  }
  [[nodiscard]] RewrapReport run() const { return run(options()); }
};

inline Bytes bytes(std::string_view text) { return {bytes_of(text).begin(), bytes_of(text).end()}; }

}  // namespace hsmseal::test

namespace Catch {
template <>
struct StringMaker<hsmseal::RewrapVerdict> {
  static std::string convert(hsmseal::RewrapVerdict verdict) {
    switch (verdict) {
      case hsmseal::RewrapVerdict::Done:
        return "Done";
      case hsmseal::RewrapVerdict::RowsLeft:
        return "RowsLeft";
      case hsmseal::RewrapVerdict::Failing:
        return "Failing";
      case hsmseal::RewrapVerdict::Cancelled:
        return "Cancelled";
    }
    return "no verdict";
  }
};
}  // namespace Catch
