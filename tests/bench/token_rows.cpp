#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "bench/floor_token.hpp"
#include "bench/rows.hpp"

namespace bench {
namespace {

using namespace hsmseal;

enum class Direction { Encrypt, Decrypt };

/// Floors keep their sessions from one round to the next, as the pool does.
class Floors {
 public:
  Floors(std::filesystem::path driver, std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) {
      floors_.push_back(std::make_shared<FloorToken>(driver, kToken, pin()));
    }
  }

  [[nodiscard]] Side side(Direction direction, std::size_t threads) const {
    const bool encrypts = direction == Direction::Encrypt;
    return {encrypts ? "C_EncryptInit + C_Encrypt" : "C_DecryptInit + C_Decrypt", threads,
            [floors = floors_, encrypts](std::size_t thread) -> Operation {
              const auto floor = floors[thread];
              if (encrypts) return [floor] { floor->encrypt(); };
              return [floor] { floor->decrypt(); };
            }};
  }

 private:
  std::vector<std::shared_ptr<FloorToken>> floors_;
};

constexpr double kSealTarget = 0.92, kOpenTarget = 0.95;

void per_secret_rows(Table& table) {
  constexpr std::size_t kMostThreads = 2;
  const KeyRing direct = ring_on({.library = softhsm()}, HangPolicy::Direct, 8);
  const EnvelopeEncryptor vault{direct}, isolated{ring_on({.library = softhsm()}, HangPolicy::Isolated, 8)};
  static_cast<void>(vault.seal(Bytes(1), kNoContext));  // logs in
  const Floors floors{softhsm(), kMostThreads};
  for (std::size_t threads = 1; threads <= kMostThreads; ++threads) {
    const Side encrypt = floors.side(Direction::Encrypt, threads), decrypt = floors.side(Direction::Decrypt, threads);
    table.compare({"seal, data key per secret", threads, sealing(vault)}, encrypt, kSealTarget);
    table.compare({"open, data key per secret", threads, opening(vault)}, decrypt, kOpenTarget);
    // What leaving a driver that hangs costs: two changes of threads, whatever the token takes.
    table.compare({"seal, data key per secret, calls isolated", threads, sealing(isolated)}, encrypt);
    table.compare({"open, data key per secret, calls isolated", threads, opening(isolated)}, decrypt);
  }
}

/// What a program waits for before its first secret is sealed: the record, the login, the key and its proof.
void start_up() {
  const auto store = memory_ring_store();
  const auto provider = [] { return provider_on({.library = softhsm()}, HangPolicy::Isolated, 8); };
  static_cast<void>(KeyRing::create(store, provider(), {.token = kToken}, RingPin::in_process()));
  std::vector<double> times;
  for (int i = 0; i < 9; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const EnvelopeEncryptor vault{KeyRing::open(store, provider(), RingPin::in_process())};
    static_cast<void>(vault.seal(Bytes(kSecretBytes), kNoContext));
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  fmt::print("from opening the ring to the first seal: {:.1f} ms\n", median(times));
}

/// A token in a network: its sessions wait, the host does not.
void slow_token_rows(Table& table) {
  struct Load {
    std::size_t sessions;
    double target;
  };
  for (const Load load : {Load{1, 0.95}, Load{4, 0.95}, Load{16, 0.93}, Load{64, 0.80}}) {
    const double floor = static_cast<double>(load.sessions) / 0.002;
    for (const HangPolicy policy : {HangPolicy::Direct, HangPolicy::Isolated}) {
      const EnvelopeEncryptor vault{ring_on(slow_driver(), policy, load.sessions)};
      const std::string calls = policy == HangPolicy::Direct ? "" : ", calls isolated";
      table.compare({"seal, data key per secret, 1 ms a call" + calls, load.sessions, sealing(vault)},
                    "sessions / 2 ms", floor, load.target);
    }
    // What that driver gives at most: its delays are the system's, which are longer than they should be.
    const Floors floors{HSMSEAL_FAULTYHSM_LIBRARY, load.sessions};
    table.compare(floors.side(Direction::Encrypt, load.sessions), "sessions / 2 ms", floor);
  }
}

/// Many secrets under few data keys, opened at once.
void batch_row(Table& table) {
  constexpr std::size_t kSecrets = 10'000, kPerKey = 1'000, kSessions = 8;
  const KeyRing ring = ring_on(slow_driver(), HangPolicy::Direct, kSessions);
  const EnvelopeEncryptor sealer{ring, {.data_keys = DataKeyPolicy::reuse(kPerKey)}}, vault{ring};
  const Bytes secret(kSecretBytes);
  std::vector<Bytes> sealed;
  for (SealResult& one : sealer.seal_many(std::vector<SealItem>(kSecrets, {secret, kNoContext}))) {
    sealed.push_back(std::move(one).value());
  }
  std::vector<OpenItem> items;
  for (const Bytes& one : sealed) items.push_back({one, kNoContext});
  static_cast<void>(vault.open_many(std::span{items}.first(1)));
  const auto before = calls_of_slow_driver("C_Decrypt");
  std::size_t opened = 0;
  for (const OpenResult& one : vault.open_many(items)) opened += one.ok() ? 1 : 0;
  const auto unwraps = calls_of_slow_driver("C_Decrypt") - before;
  fmt::print("open_many: {} secrets under {} data keys opened with {} unwraps\n", opened, kSecrets / kPerKey, unwraps);
  table.compare({"open_many of 10,000 under 10 data keys, 1 ms a call", 1,
                 [&](std::size_t) -> Operation {
                   return [&] {
                     for (const OpenResult& one : vault.open_many(items)) static_cast<void>(one.value());
                   };
                 }},
                "an unwrap for each, 8 sessions", kSessions / 0.002 / kSecrets);
}

}  // namespace

void token_rows(Table& table) {
  start_up();
  per_secret_rows(table);
  slow_token_rows(table);
  batch_row(table);
}

}  // namespace bench
