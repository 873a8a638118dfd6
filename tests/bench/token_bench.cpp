// What hsmseal costs on top of the token, side by side in one run:
//
//   sh examples/with_tokens.sh build/tests/token_bench --benchmark_enable_random_interleaving=true
//      --benchmark_repetitions=15 --benchmark_report_aggregates_only=true
//
// `sh cmake/setup.sh bench` does that. Needs the token hsm1 and its PIN, as the examples do. Compare medians of one run.

#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/pkcs11_session.hpp>

namespace {

using namespace hsmseal;

constexpr std::size_t kSecretBytes = 32;

/// The path of SoftHSM on this host.
std::filesystem::path softhsm() {
  return Host{}.driver_for({.driver = "softhsm2", .select = {.label = "hsm1"}}).library;
}

/// The real driver, or the one that takes a millisecond for each call that works with a key.
DriverOptions slow_driver() {
  std::ofstream{"slow.script"} << "delay C_Encrypt 1000\ndelay C_EncryptInit 1000\n";
  return {.library = HSMSEAL_FAULTYHSM_LIBRARY,
          .environment = {{"FAULTYHSM_REAL_MODULE", softhsm().string()},
                          {"FAULTYHSM_SCRIPT", std::filesystem::absolute("slow.script").string()}}};
}

EnvelopeEncryptor encryptor(HangPolicy policy, const DriverOptions& driver, std::size_t sessions) {
  Host host;
  host.driver("used", driver);
  host.token("hsm1", {.driver = "used",
                      .select = {.label = "hsm1"},
                      .pin = PinSource::file("hsm1.pin"),
                      .limits = {.max_sessions = sessions},
                      .hang_policy = policy});
  return EnvelopeEncryptor{
      KeyRing::create(memory_ring_store(), pkcs11_provider(host), {.token = "hsm1"}, RingPin::in_process())};
}

/// The two calls that every seal needs, and nothing else.
class BareToken {
 public:
  BareToken() {
    encryptor_ = std::make_unique<EnvelopeEncryptor>(encryptor(HangPolicy::Direct, {.library = softhsm()}, 1));
    static_cast<void>(encryptor_->seal(std::array<std::byte, 1>{}, kNoContext));  // which logs in
    session_ =
        std::make_unique<Pkcs11Session>(Pkcs11Module::load({.library = softhsm()}), TokenSelector{.label = "hsm1"});
    key_ = session_->generate_aes_key({.id = Bytes(16, std::byte{7}), .label = "bench"}).value;
    void* const library = dlopen(softhsm().c_str(), RTLD_NOW);
    reinterpret_cast<CK_C_GetFunctionList>(dlsym(library, "C_GetFunctionList"))(&list_);
    if (list_->C_OpenSession(session_->token().slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &handle_) !=
        CKR_OK) {
      throw std::runtime_error("no session");
    }
  }

  void encrypt_once() {
    std::array<CK_BYTE, 12> iv{};
    std::array<CK_BYTE, 60> aad{};
    std::array<CK_BYTE, kSecretBytes> key{};
    std::array<CK_BYTE, 96> out{};
    iv[0] = static_cast<CK_BYTE>(++count_);
    CK_GCM_PARAMS gcm{iv.data(), iv.size(), iv.size() * 8, aad.data(), aad.size(), 128};
    CK_MECHANISM mechanism{CKM_AES_GCM, &gcm, sizeof gcm};
    CK_ULONG size = out.size();
    if (list_->C_EncryptInit(handle_, &mechanism, key_) != CKR_OK ||
        list_->C_Encrypt(handle_, key.data(), key.size(), out.data(), &size) != CKR_OK) {
      throw std::runtime_error("the token does not encrypt");
    }
    benchmark::DoNotOptimize(out);
  }

 private:
  std::unique_ptr<EnvelopeEncryptor> encryptor_;
  std::unique_ptr<Pkcs11Session> session_;
  CK_FUNCTION_LIST* list_ = nullptr;
  CK_SESSION_HANDLE handle_ = 0;
  CK_OBJECT_HANDLE key_ = 0;
  unsigned count_ = 0;
};

void bare_calls(benchmark::State& state) {
  static BareToken token;
  for (auto _ : state) token.encrypt_once();
}
BENCHMARK(bare_calls)->UseRealTime();

const EnvelopeEncryptor& vault(HangPolicy policy) {
  static const EnvelopeEncryptor direct = encryptor(HangPolicy::Direct, {.library = softhsm()}, 8);
  static const EnvelopeEncryptor isolated = encryptor(HangPolicy::Isolated, {.library = softhsm()}, 8);
  return policy == HangPolicy::Direct ? direct : isolated;
}

void seal(benchmark::State& state, HangPolicy policy) {
  const Bytes secret(kSecretBytes);
  for (auto _ : state) benchmark::DoNotOptimize(vault(policy).seal(secret, kNoContext));
}
BENCHMARK_CAPTURE(seal, direct, HangPolicy::Direct)->UseRealTime();
BENCHMARK_CAPTURE(seal, isolated, HangPolicy::Isolated)->UseRealTime();

void open(benchmark::State& state, HangPolicy policy) {
  const Bytes sealed = vault(policy).seal(Bytes(kSecretBytes), kNoContext);
  for (auto _ : state) benchmark::DoNotOptimize(vault(policy).open(sealed, kNoContext));
}
BENCHMARK_CAPTURE(open, direct, HangPolicy::Direct)->UseRealTime();
BENCHMARK_CAPTURE(open, isolated, HangPolicy::Isolated)->UseRealTime();

/// Seals by as many threads as there are sessions, on a token that takes 1 ms for each of the two calls. `fraction` is
/// of what the sessions could do at most.
void throughput(benchmark::State& state, HangPolicy policy) {
  const auto sessions = static_cast<std::size_t>(state.range(0));
  const EnvelopeEncryptor slow = encryptor(policy, slow_driver(), sessions);
  const Bytes secret(kSecretBytes);
  constexpr int kEach = 100;
  for (auto _ : state) {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < sessions; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < kEach; ++n) benchmark::DoNotOptimize(slow.seal(secret, kNoContext));
      });
    }
  }
  const auto sealed = static_cast<double>(state.iterations()) * static_cast<double>(sessions) * kEach;
  state.counters["seals_per_second"] = benchmark::Counter(sealed, benchmark::Counter::kIsRate);
  state.counters["fraction"] =
      benchmark::Counter(sealed * 0.002 / static_cast<double>(sessions), benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(throughput, direct, HangPolicy::Direct)->Arg(1)->Arg(4)->Arg(16)->Arg(64)->UseRealTime();
BENCHMARK_CAPTURE(throughput, isolated, HangPolicy::Isolated)->Arg(1)->Arg(4)->Arg(16)->Arg(64)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
