#include <hsmseal/pkcs11_key_wrapper.hpp>

#include <utility>

#include <hsmseal/error.hpp>

#include "keywrap/described_wrapper.hpp"
#include "keywrap/key_destroyer.hpp"
#include "keywrap/key_finder.hpp"
#include "keywrap/key_maker.hpp"
#include "keywrap/tokens.hpp"

namespace hsmseal {
namespace {

using keywrap::DescribedWrapper;
using keywrap::Tokens;

class Pkcs11Provider final : public KeyProvider {
 public:
  Pkcs11Provider(Host host, Pkcs11Options options)
      : tokens_(std::make_shared<Tokens>(std::move(host), std::move(options))) {}

  [[nodiscard]] KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
    const auto token = tokens_->find(spec.token);
    return token->run([token, spec, ring, version] { return keywrap::make_or_adopt_key(*token, spec, ring, version); });
  }

  [[nodiscard]] std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override {
    return std::make_shared<DescribedWrapper>(tokens_, key, version);
  }

  [[nodiscard]] std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
    return keywrap::find_ring_keys(token.empty() ? tokens_->all() : std::vector{tokens_->find(token)}, ring);
  }

  void destroy(const KeyDescription& key) override {
    const auto token = tokens_->find(key.token);
    token->run([token, key] {
      keywrap::destroy_described_key(*token, key);
      return true;
    });
  }

 private:
  std::shared_ptr<Tokens> tokens_;
};

void check_options(const Pkcs11Options& options) {
  if (!options.clock) throw InvalidArgumentError("a provider needs a clock");
  const CircuitBreaker& circuit = options.circuit;
  if (circuit.failures >= 1 && circuit.pause.count() >= 1 && circuit.pause <= circuit.longest_pause) return;
  throw InvalidArgumentError(
      "a circuit breaker needs at least 1 failure, and a pause of at least 1 ms and at most the longest one");
}

}  // namespace

std::shared_ptr<KeyProvider> pkcs11_provider(Host host, Pkcs11Options options) {
  check_options(options);
  return std::make_shared<Pkcs11Provider>(std::move(host), std::move(options));
}

}  // namespace hsmseal
