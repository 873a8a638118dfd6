// Many secrets at once, and data keys that are reused, on a token that is counted and fails.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "fault/faulty_vault.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::FaultFor;
using test::FaultyVault;

namespace {

constexpr std::size_t kSessions = 4;

test::VaultSetup setup(HangPolicy policy, std::chrono::milliseconds deadline = 5s) {
  return {.binding =
              [policy](TokenBinding& binding) {
                binding.hang_policy = policy;
                binding.limits.max_sessions = kSessions;
              },
          .deadline = deadline};
}

std::vector<SealItem> secrets(std::size_t count) { return {count, {bytes_of("a secret"), kNoContext}}; }

std::vector<Bytes> sealed_by(const EnvelopeEncryptor& encryptor, std::size_t count) {
  std::vector<Bytes> all;
  for (SealResult& result : encryptor.seal_many(secrets(count))) all.push_back(std::move(result).value());
  return all;
}

std::vector<OpenItem> to_open(const std::vector<Bytes>& sealed) {
  std::vector<OpenItem> items;
  for (const Bytes& one : sealed) items.push_back({one, kNoContext});
  return items;
}

template <typename Results>
std::ptrdiff_t good(const Results& results) {
  return std::ranges::count_if(results, [](const auto& result) { return result.ok(); });
}

EnvelopeEncryptor reusing(const FaultyVault& vault, std::uint64_t secrets_per_key) {
  return EnvelopeEncryptor{*vault.ring, {.data_keys = DataKeyPolicy::reuse(secrets_per_key)}};
}

HangPolicy both() { return GENERATE(HangPolicy::Direct, HangPolicy::Isolated); }

}  // namespace

TEST_CASE("10,000 secrets under 10 data keys take 10 wraps and 10 unwraps") {
  const FaultyVault vault{setup(both())};
  vault.hsm.reset();
  const auto sealed = sealed_by(reusing(vault, 1000), 10'000);
  CHECK(vault.hsm.calls("C_Encrypt") == 10);
  vault.hsm.reset();
  CHECK(good(vault.vault->open_many(to_open(sealed))) == 10'000);
  CHECK(vault.hsm.calls("C_Decrypt") == 10);
  CHECK(vault.hsm.calls_total() <= 20 + 3 * kSessions);  // and sessions that were opened for it
  const EnvelopeEncryptor reader = reusing(vault, 1);
  CHECK(good(reader.open_many(to_open(sealed))) == 10'000);
  vault.hsm.reset();
  CHECK(good(reader.open_many(to_open(sealed))) == 10'000);
  CHECK(vault.hsm.calls_total() == 0);
}

TEST_CASE("a batch works in all sessions of the pool at once") {
  const FaultyVault vault{setup(both())};
  const FaultFor slow{vault.hsm, "delay C_Encrypt 20000"};
  vault.hsm.reset();
  CHECK(good(vault.vault->seal_many(secrets(40))) == 40);
  CHECK(vault.hsm.calls("C_Encrypt") == 40);
  CHECK(vault.hsm.open_sessions() == kSessions + 1);
  CHECK(vault.hsm.threads_in_one_session() == 0);
}

TEST_CASE("a token that is lost in the middle of a batch comes back for the rest of it") {
  const FaultyVault vault{setup(both())};
  const auto sealed = sealed_by(*vault.vault, 60);
  vault.hsm.apply("kill all skip=40 times=1");
  CHECK(good(vault.vault->seal_many(secrets(60))) == 60);
  CHECK(vault.hsm.fired("kill") == 1);
  vault.hsm.apply("kill all skip=40 times=1");
  CHECK(good(vault.vault->open_many(to_open(sealed))) == 60);
  CHECK(vault.hsm.fired("kill") == 2);
  CHECK(vault.events(Event::Kind::TokenRecovered) >= 1);
}

TEST_CASE("a token that stays away in the middle of a batch fails the items that are left, and no others") {
  FaultyVault vault{setup(both(), 1s)};
  vault.hsm.apply("removed skip=40");
  const auto results = vault.vault->seal_many(secrets(60));
  CHECK(results.size() == 60);
  CHECK(good(results) > 0);
  CHECK(good(results) < 60);
  for (const SealResult& result : results) {
    if (result.ok()) continue;
    CHECK((result.code() == ErrorCode::Token || result.code() == ErrorCode::TokenUnavailable));
  }
  CHECK(vault.hsm.fired("removed") > 0);
  vault.hsm.apply("removed off");
  vault.clock.move(1h);  // past the pauses of the circuit
  CHECK(test::eventually([&] { return good(vault.vault->seal_many(secrets(1))) == 1; }));
}

TEST_CASE("a batch has one deadline for all of its items") {
  const FaultyVault vault{setup(both(), 400ms)};
  const FaultFor slow{vault.hsm, "delay C_Encrypt 50000"};
  const auto results = vault.vault->seal_many(secrets(400));
  CHECK(good(results) > 0);
  CHECK(good(results) < 100);  // 8 in each session would be on time
  std::size_t late = 0;
  for (const SealResult& result : results) {
    if (!result.ok() && result.code() == ErrorCode::TokenUnavailable) ++late;
  }
  CHECK(late + static_cast<std::size_t>(good(results)) == 400);
}

TEST_CASE("a data key is not made twice by threads that need one at once on a slow token") {
  const FaultyVault vault{setup(both())};
  const EnvelopeEncryptor encryptor = reusing(vault, 1000);
  const FaultFor slow{vault.hsm, "delay C_Encrypt 50000"};
  vault.hsm.reset();
  std::vector<std::thread> threads;
  std::atomic<int> sealed = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { sealed += encryptor.seal(bytes_of("x"), kNoContext).empty() ? 0 : 1; });
  }
  for (auto& thread : threads) thread.join();
  CHECK(sealed == 8);
  CHECK(vault.hsm.calls("C_Encrypt") == 1);
}

TEST_CASE("data keys that are kept seal and open while the token is away") {
  const FaultyVault vault{setup(HangPolicy::Direct)};
  const EnvelopeEncryptor encryptor = reusing(vault, 1000);
  const Bytes sealed = encryptor.seal(bytes_of("kept"), kNoContext);
  REQUIRE(encryptor.open(sealed, kNoContext).text() == "kept");
  const FaultFor away{vault.hsm, "removed"};
  CHECK_FALSE(vault.tries());
  CHECK(encryptor.open(encryptor.seal(bytes_of("new"), kNoContext), kNoContext).text() == "new");
}
