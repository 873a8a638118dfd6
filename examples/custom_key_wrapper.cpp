// The seam between ring and keys: a provider of one's own. This one stands in front of the PKCS#11 provider and keeps a
// tariff: it counts the keys wrapped and unwrapped and refuses more than a quota, as a host would that shares a rented
// HSM. A provider for a key service without PKCS#11 implements the same two interfaces.
//
// Needs a token labelled hsm1 and its PIN in hsm1.pin; `sh examples/with_tokens.sh PROGRAM` makes both.

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

namespace {

struct Meter {
  std::atomic<int> wraps = 0;
  std::atomic<int> unwraps = 0;
  int quota = 0;

  void charge(std::atomic<int>& counter) {
    ++counter;
    if (wraps + unwraps > quota) {
      throw hsmseal::TokenError({.function = "quota", .rv = 0, .rv_name = "", .retryable = false},
                                fmt::format("the quota of {} calls to the HSM is used up", quota));
    }
  }
};

class MeteredWrapper final : public hsmseal::KeyWrapper {
 public:
  MeteredWrapper(std::shared_ptr<hsmseal::KeyWrapper> inner, std::shared_ptr<Meter> meter)
      : inner_(std::move(inner)), meter_(std::move(meter)) {}

  hsmseal::Bytes wrap(hsmseal::ByteView key, hsmseal::ByteView aad) override {
    meter_->charge(meter_->wraps);
    return inner_->wrap(key, aad);
  }

  hsmseal::SecretBytes unwrap(hsmseal::ByteView wrapped, hsmseal::ByteView aad) override {
    meter_->charge(meter_->unwraps);
    return inner_->unwrap(wrapped, aad);
  }

  std::size_t concurrency() const override { return inner_->concurrency(); }

 private:
  std::shared_ptr<hsmseal::KeyWrapper> inner_;
  std::shared_ptr<Meter> meter_;
};

class MeteredProvider final : public hsmseal::KeyProvider {
 public:
  MeteredProvider(std::shared_ptr<hsmseal::KeyProvider> inner, std::shared_ptr<Meter> meter)
      : inner_(std::move(inner)), meter_(std::move(meter)) {}

  hsmseal::KeyDescription provision(const hsmseal::SetSpec& spec, const hsmseal::RingId& ring,
                                    hsmseal::Version version) override {
    return inner_->provision(spec, ring, version);
  }

  std::shared_ptr<hsmseal::KeyWrapper> connect(const hsmseal::KeyDescription& key, hsmseal::Version version) override {
    return std::make_shared<MeteredWrapper>(inner_->connect(key, version), meter_);
  }

  std::vector<hsmseal::FoundKey> find_keys(const hsmseal::RingId& ring, const std::string& token) override {
    return inner_->find_keys(ring, token);
  }

  void destroy(const hsmseal::KeyDescription& key) override { inner_->destroy(key); }

 private:
  std::shared_ptr<hsmseal::KeyProvider> inner_;
  std::shared_ptr<Meter> meter_;
};

}  // namespace

int main() try {
  hsmseal::Host host;
  host.token("hsm1", {.driver = "softhsm2", .select = {.label = "hsm1"}, .pin = hsmseal::PinSource::file("hsm1.pin")});

  auto meter = std::make_shared<Meter>();
  meter->quota = 10;
  auto provider = std::make_shared<MeteredProvider>(hsmseal::pkcs11_provider(host), meter);
  auto ring = hsmseal::KeyRing::create(hsmseal::memory_ring_store(), provider, {.token = "hsm1"},
                                       hsmseal::RingPin::in_process());
  fmt::print("making the ring: {} wrapped, {} unwrapped\n", meter->wraps.load(), meter->unwraps.load());

  const hsmseal::EnvelopeEncryptor vault{ring};
  const auto context = hsmseal::Context{}.add("record", "42");
  int opened = 0;
  try {
    for (;;) {
      const std::string sealed = vault.seal_text("hunter2", context);
      if (vault.open_text(sealed, context).text() == "hunter2") ++opened;
    }
  } catch (const hsmseal::TokenError& error) {
    fmt::print("after {} secrets sealed and opened: {}\n", opened, error.what());
  }
  return opened == 4 ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "custom_key_wrapper: {}\n", error.what());
  return 1;
}
