#include <array>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <dlfcn.h>

#include "bench/rows.hpp"

namespace bench {

using namespace hsmseal;

std::filesystem::path softhsm() {
  return Host{}.driver_for({.driver = "softhsm2", .select = {.label = kToken}}).library;
}

std::string pin() {
  std::ifstream file{kToken + ".pin"};
  std::string text;
  if (!std::getline(file, text)) throw std::runtime_error("no PIN: run this by examples/with_tokens.sh");
  return text;
}

DriverOptions slow_driver() {
  static const std::filesystem::path script = std::filesystem::absolute("slow.script");
  std::ofstream file{script};
  for (const char* function : {"C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"}) {
    file << "delay " << function << " 1000\n";
  }
  return {.library = HSMSEAL_FAULTYHSM_LIBRARY,
          .environment = {{"FAULTYHSM_REAL_MODULE", softhsm().string()}, {"FAULTYHSM_SCRIPT", script.string()}}};
}

unsigned long calls_of_slow_driver(const char* function) {
  void* const library = dlopen(HSMSEAL_FAULTYHSM_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) throw std::runtime_error("the slow driver is not loaded");
  return reinterpret_cast<unsigned long (*)(const char*)>(dlsym(library, "faultyhsm_calls"))(function);
}

std::shared_ptr<KeyProvider> provider_on(const DriverOptions& driver, HangPolicy policy, std::size_t sessions) {
  Host host;
  host.driver("used", driver);
  host.token(kToken, {.driver = "used",
                      .select = {.label = kToken},
                      .pin = PinSource::file(kToken + ".pin"),
                      .limits = {.max_sessions = sessions},
                      .hang_policy = policy});
  return pkcs11_provider(host);
}

KeyRing ring_on(const DriverOptions& driver, HangPolicy policy, std::size_t sessions) {
  return KeyRing::create(memory_ring_store(), provider_on(driver, policy, sessions), {.token = kToken},
                         RingPin::in_process());
}

namespace {

const Bytes kSecret(kSecretBytes, std::byte{1}), kContext(kContextBytes, std::byte{2});

}  // namespace

Worker sealing(const EnvelopeEncryptor& vault) {
  return [vault](std::size_t) -> Operation {
    return [vault] {
      const Bytes sealed = vault.seal(kSecret, ContextView::raw(kContext));
      if (sealed.size() < kSecretBytes) throw std::logic_error("not sealed");
    };
  };
}

Worker opening(const EnvelopeEncryptor& vault) {
  return [vault](std::size_t) -> Operation {
    return [vault, sealed = vault.seal(kSecret, ContextView::raw(kContext))] {
      if (vault.open(sealed, ContextView::raw(kContext)).size() != kSecretBytes) throw std::logic_error("not opened");
    };
  };
}

}  // namespace bench
