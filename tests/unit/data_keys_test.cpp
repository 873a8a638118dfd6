#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>

#include "envelope/wire.hpp"
#include "helpers.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/ring_parts.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::error_of;
using test::in_threads;

namespace {

/// A ring on keys in memory whose clock stands still until it is moved, and an encryptor that reuses data keys.
struct Vault {
  explicit Vault(EnvelopeOptions with = {.data_keys = DataKeyPolicy::reuse()}) : options(with) {}

  [[nodiscard]] EnvelopeEncryptor per_secret() const { return EnvelopeEncryptor{ring}; }
  [[nodiscard]] int wraps_of(const std::function<void()>& work) const {
    const int before = parts.provider->wraps();
    work();
    return parts.provider->wraps() - before;
  }
  [[nodiscard]] int unwraps_of(const std::function<void()>& work) const {
    const int before = parts.provider->unwraps();
    work();
    return parts.provider->unwraps() - before;
  }
  Version add_set() { return ring.add({.token = "t"}); }
  void remove(Version version) {
    parts.store->clock += RingSettings{}.removal_grace;
    ring.remove_without_census(version);
  }

  EnvelopeOptions options;
  test::RingParts parts;
  std::atomic<std::int64_t> seconds = 1'000;
  std::shared_ptr<test::Recorder> events = std::make_shared<test::Recorder>();
  std::chrono::milliseconds keep_sealing{0};
  KeyRing ring = parts.create({.observer = events, .clock = [this] {
                                 return std::chrono::steady_clock::time_point{std::chrono::seconds{seconds}};
                               }});
  EnvelopeEncryptor encryptor{ring, options};
};

EnvelopeOptions reusing(std::uint64_t secrets, std::chrono::seconds age = 1h) {
  return {.data_keys = DataKeyPolicy::reuse(secrets, age)};
}

Bytes seal(const EnvelopeEncryptor& encryptor, const std::string& text = "secret") {
  return encryptor.seal(bytes_of(text), kNoContext);
}
std::string open(const EnvelopeEncryptor& encryptor, ByteView sealed) {
  return std::string{encryptor.open(sealed, kNoContext).text()};
}

/// What all envelopes of one data key have in common.
std::string data_key_of(ByteView sealed) { return test::hex(wire::through_wrapped(sealed, wire::read(sealed))); }
std::string nonce_of(ByteView sealed) { return test::hex(wire::read(sealed).nonce); }

}  // namespace

TEST_CASE("a policy for data keys has bounds") {
  CHECK_FALSE(DataKeyPolicy::per_secret().reuses());
  CHECK(DataKeyPolicy::reuse().max_secrets() == 1U << 20);
  CHECK(DataKeyPolicy::reuse().max_age() == 1h);
  CHECK(DataKeyPolicy::reuse(1, 1s).reuses());
  CHECK(DataKeyPolicy::reuse(std::uint64_t{1} << 32, 24h).max_age() == 24h);
  CHECK_THROWS_AS(DataKeyPolicy::reuse(0), InvalidArgumentError);
  CHECK_THROWS_AS(DataKeyPolicy::reuse((std::uint64_t{1} << 32) + 1), InvalidArgumentError);
  CHECK_THROWS_AS(DataKeyPolicy::reuse(1, 0s), InvalidArgumentError);
  CHECK_THROWS_AS(DataKeyPolicy::reuse(1, 24h + 1s), InvalidArgumentError);
}

TEST_CASE("an encryptor refuses to reuse data keys where there are none, and to keep too many") {
  const Vault vault;
  const auto made_with = [&](const EnvelopeOptions& options) {
    return [&vault, options] { return EnvelopeEncryptor{vault.ring, options}; };
  };
  CHECK_NAMES(
      test::message_of<InvalidArgumentError>(made_with({.suite = Suite::Token, .data_keys = DataKeyPolicy::reuse()})),
      "Suite::Token");
  CHECK_NAMES(test::message_of<InvalidArgumentError>(
                  made_with({.data_keys = DataKeyPolicy::reuse(), .opened_data_keys = (1U << 20) + 1})),
              "1048576");
}

TEST_CASE("many secrets are sealed under one data key, each under a nonce of its own") {
  const Vault vault;
  std::vector<Bytes> sealed;
  CHECK(vault.wraps_of([&] {
    for (int i = 0; i < 1000; ++i) sealed.push_back(seal(vault.encryptor, std::to_string(i)));
  }) == 1);
  std::set<std::string> keys, nonces;
  for (const Bytes& one : sealed) {
    keys.insert(data_key_of(one));
    nonces.insert(nonce_of(one));
  }
  CHECK(keys.size() == 1);
  CHECK(nonces.size() == 1000);
  CHECK(std::ranges::count(vault.events->kinds(), Event::Kind::Sealed) == 1000);
  // They are envelopes like any others.
  CHECK(vault.unwraps_of([&] {
    for (int i = 0; i < 1000; i += 100) {
      CHECK(open(vault.per_secret(), sealed[static_cast<std::size_t>(i)]) == std::to_string(i));
    }
  }) == 10);
}

TEST_CASE("secrets of all sizes come back from under a data key that is reused, padded or not") {
  const Context context = Context{}.add("record", "42");
  for (const Padding padding : {Padding::none(), Padding::to_multiple_of(64)}) {
    const Vault vault{{.padding = padding, .data_keys = DataKeyPolicy::reuse()}};
    for (const std::size_t size : {0U, 1U, 63U, 64U, 4095U, 4096U, 4097U, 100'000U}) {
      CAPTURE(size, padding.bucket());
      const std::string secret(size, 's');
      const Bytes sealed = vault.encryptor.seal(bytes_of(secret), context);
      if (padding.bucket() == 0) CHECK(sealed.size() == size + 138);
      CHECK(vault.encryptor.open(sealed, context).text() == secret);
      CHECK(vault.per_secret().open(sealed, context).text() == secret);
      CHECK_THROWS_AS(vault.encryptor.open(sealed, kNoContext), OpenError);
    }
  }
}

TEST_CASE("a data key seals no more secrets than it may, and no fewer") {
  const Vault vault{reusing(10)};
  std::map<std::string, int> secrets;
  CHECK(vault.wraps_of([&] {
    for (int i = 0; i < 35; ++i) ++secrets[data_key_of(seal(vault.encryptor))];
  }) == 4);
  std::multiset<int> counts;
  for (const auto& [key, count] : secrets) counts.insert(count);
  CHECK(counts == std::multiset<int>{5, 10, 10, 10});
}

TEST_CASE("threads that seal at once use each data key for exactly as many secrets as it may seal") {
  constexpr std::size_t kThreads = 8, kEach = 500;
  constexpr std::uint64_t kPerKey = 100;
  const Vault vault{reusing(kPerKey)};
  std::mutex mutex;
  std::map<std::string, std::uint64_t> secrets;
  std::set<std::string> nonces;
  CHECK(vault.wraps_of([&] {
    in_threads(kThreads, [&](std::size_t) {
      for (std::size_t i = 0; i < kEach; ++i) {
        const Bytes sealed = seal(vault.encryptor);
        const std::scoped_lock lock{mutex};
        ++secrets[data_key_of(sealed)];
        nonces.insert(nonce_of(sealed));
      }
    });
  }) == kThreads * kEach / kPerKey);
  CHECK(secrets.size() == kThreads * kEach / kPerKey);
  for (const auto& [key, count] : secrets) CHECK(count == kPerKey);
  CHECK(nonces.size() == kThreads * kEach);
}

TEST_CASE("a data key is not used when it has reached its age") {
  Vault vault{reusing(1000, 60s)};
  const std::string first = data_key_of(seal(vault.encryptor));
  vault.seconds += 59;
  CHECK(data_key_of(seal(vault.encryptor)) == first);
  vault.seconds += 1;
  CHECK(data_key_of(seal(vault.encryptor)) != first);
}

TEST_CASE("no thread uses a data key that has reached its age, while the time goes on") {
  constexpr std::int64_t kAge = 10;
  Vault vault{reusing(1U << 20, std::chrono::seconds{kAge})};
  struct Use {
    std::int64_t begun, ended;
  };
  std::mutex mutex;
  std::map<std::string, std::vector<Use>> uses;
  std::size_t count = 0;
  std::atomic<bool> over = false;
  test::Threads threads;
  const test::SetAtEnd end{over};
  for (int i = 0; i < 4; ++i) {
    threads.start([&] {
      while (!over) {
        const std::int64_t begun = vault.seconds;
        const Bytes sealed = seal(vault.encryptor);
        const std::int64_t ended = vault.seconds;
        const std::scoped_lock lock{mutex};
        uses[data_key_of(sealed)].push_back({begun, ended});
        ++count;
      }
    });
  }
  // The time goes on when something was sealed.
  std::size_t keys = 0, sealed = 0;
  for (std::size_t before = 0; keys < 50 && !threads.failed(); std::this_thread::yield()) {
    {
      const std::scoped_lock lock{mutex};
      keys = uses.size();
      sealed = count;
    }
    if (sealed == before) continue;
    before = sealed;
    ++vault.seconds;
  }
  over = true;
  threads.join();
  for (const auto& [key, all] : uses) {
    std::int64_t made_by = all.front().ended, last_begun = 0;
    for (const Use& use : all) {
      made_by = std::min(made_by, use.ended);
      last_begun = std::max(last_begun, use.begun);
    }
    CHECK(last_begun < made_by + kAge);
  }
}

TEST_CASE("a data key is given up when another set becomes active, and not for other changes of the ring") {
  Vault vault;
  const Bytes first = seal(vault.encryptor);
  vault.ring.add({.token = "t"}, Activation::Later);
  vault.ring.amend(1, {.description = "another"});
  CHECK(data_key_of(seal(vault.encryptor)) == data_key_of(first));
  vault.ring.activate(2);
  const Bytes second = seal(vault.encryptor);
  CHECK(inspect(second).version == 2);
  CHECK(open(vault.encryptor, first) == "secret");
  CHECK(open(vault.encryptor, second) == "secret");
}

TEST_CASE("what threads seal after a change of the active set does not name the older one") {
  Vault vault;
  std::atomic<Version> active = 1;
  std::atomic<bool> over = false;
  std::atomic<int> older = 0, sealed = 0;
  test::Threads threads;
  const test::SetAtEnd end{over};
  for (int i = 0; i < 4; ++i) {
    threads.start([&] {
      while (!over) {
        const Version at_least = active;
        if (inspect(seal(vault.encryptor)).version < at_least) ++older;
        ++sealed;
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    const int before = sealed;
    while (sealed < before + 20 && !threads.failed()) std::this_thread::yield();
    active = vault.add_set();
  }
  over = true;
  threads.join();
  CHECK(older == 0);
  CHECK(sealed >= 400);
}

TEST_CASE("a data key that is reused does not get around a store that cannot be read") {
  Vault vault;
  static_cast<void>(seal(vault.encryptor));
  vault.parts.store->on_load = [] { throw StoreError("away"); };
  vault.seconds += 4;
  static_cast<void>(seal(vault.encryptor));
  vault.seconds += 1;
  CHECK_THROWS_AS(seal(vault.encryptor), RingStaleError);
  vault.parts.store->on_load = nullptr;
  vault.seconds += 1;
  CHECK(vault.wraps_of([&] { static_cast<void>(seal(vault.encryptor)); }) == 0);
}

TEST_CASE("a data key goes on sealing for as long as the host wants to without the store") {
  Vault vault;
  std::atomic<std::int64_t>& seconds = vault.seconds;
  const KeyRing patient =
      vault.parts.open({.keep_sealing = 60s,
                        .clock = [&] { return std::chrono::steady_clock::time_point{std::chrono::seconds{seconds}}; }});
  const EnvelopeEncryptor encryptor{patient, vault.options};
  const std::string key = data_key_of(seal(encryptor));
  vault.parts.store->on_load = [] { throw StoreError("away"); };
  vault.seconds += 59;
  CHECK(data_key_of(seal(encryptor)) == key);
  CHECK(data_key_of(seal(encryptor)) == key);
  vault.seconds += 1;
  CHECK_THROWS_AS(seal(encryptor), RingStaleError);
}

TEST_CASE("a data key seals while the token is away, and the next one needs it") {
  const Vault vault{reusing(2)};
  static_cast<void>(seal(vault.encryptor));
  vault.parts.provider->fail(true);
  static_cast<void>(seal(vault.encryptor));
  CHECK(error_of<TokenError>([&] { return seal(vault.encryptor); }).retryable());
  vault.parts.provider->fail(false);
  CHECK(open(vault.encryptor, seal(vault.encryptor)) == "secret");
}

TEST_CASE("copies of an encryptor share their data keys, and two encryptors do not") {
  const Vault vault;
  const EnvelopeEncryptor copy = vault.encryptor;
  const EnvelopeEncryptor other{vault.ring, vault.options};
  const std::string key = data_key_of(seal(vault.encryptor));
  CHECK(data_key_of(seal(copy)) == key);
  CHECK(data_key_of(seal(other)) != key);
}

TEST_CASE("a ring that was opened for salvage seals nothing under a data key that is reused") {
  Vault vault;
  const Bytes sealed = seal(vault.encryptor);
  const EnvelopeEncryptor salvaging{KeyRing::open_for_salvage(vault.parts.store, vault.parts.provider, vault.ring.id()),
                                    vault.options};
  CHECK_THROWS_AS(seal(salvaging), InvalidArgumentError);
  CHECK(open(salvaging, sealed) == "secret");
  CHECK(vault.unwraps_of([&] { CHECK(open(salvaging, sealed) == "secret"); }) == 0);
}

TEST_CASE("a forked child seals under another data key and opens nothing without the token") {
  const Vault vault;
  const Bytes sealed = seal(vault.encryptor);
  CHECK(open(vault.encryptor, sealed) == "secret");
  const std::string key = data_key_of(sealed);
  CHECK(test::exit_status_of([&] {
          const int unwraps = vault.parts.provider->unwraps();
          const bool opens =
              open(vault.encryptor, sealed) == "secret" && vault.parts.provider->unwraps() == unwraps + 1;
          const Bytes own = seal(vault.encryptor);
          return opens && data_key_of(own) != key && open(vault.encryptor, own) == "secret";
        }) == 0);
  CHECK(data_key_of(seal(vault.encryptor)) == key);
  CHECK(vault.unwraps_of([&] { CHECK(open(vault.encryptor, sealed) == "secret"); }) == 0);
}
