#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/faultyhsm.hpp"
#include "support/ring_parts.hpp"

using namespace hsmseal;
using nlohmann::json;

namespace {

/// Two tokens behind a driver that counts C_Login, whose PINs are counted when they are asked for.
struct WatchedTokens {
  test::FaultyHsm hsm;
  std::map<std::string, int> pins_asked = {};

  std::shared_ptr<KeyProvider> provider() {
    Host host = hsm.bare_host();
    for (const char* label : {"one", "two"}) {
      TokenBinding binding = hsm.binding(label);
      binding.pin = PinSource::callback([this, label = std::string{label}](const TokenSelector&) {
        ++pins_asked[label];
        return SecretBytes::from_text(hsm.tokens().pin(label));
      });
      host.token(label, std::move(binding));
    }
    return pkcs11_provider(std::move(host));
  }
};

struct Forgery {
  std::string what;
  std::function<void(json& set, const TokenInfo& other)> forge;
  ErrorCode refused;
  unsigned long logins;
  std::map<std::string, int> pins;
};

const std::vector<Forgery>& forgeries() {
  static const auto to_alias = [](json& set, const TokenInfo&) { set["token"]["alias"] = "two"; };
  static const auto to_token = [](json& set, const TokenInfo& other) {
    set["token"] = {{"alias", "two"}, {"label", other.label}, {"serial", other.serial}};
  };
  static const std::vector<Forgery> all{
      {"another alias", to_alias, ErrorCode::WrongKey, 0, {}},
      {"another label", [](json& set, const TokenInfo&) { set["token"]["label"] = "two"; }, ErrorCode::WrongKey, 0, {}},
      {"another serial number",
       [](json& set, const TokenInfo& other) { set["token"]["serial"] = other.serial; },
       ErrorCode::WrongKey,
       0,
       {}},
      {"an alias that is not bound here",
       [](json& set, const TokenInfo&) { set["token"]["alias"] = "three"; },
       ErrorCode::InvalidArgument,
       0,
       {}},
      {"another key",
       [](json& set, const TokenInfo&) { set["key_id"] = "00112233"; },
       ErrorCode::KeyNotFound,
       1,
       {{"one", 1}}},
      // A token of this host gets its own PIN from this host's own binding, and no other.
      {"another token, named in full", to_token, ErrorCode::KeyNotFound, 1, {{"two", 1}}},
  };
  return all;
}

/// Writes a changed body into the store, as somebody does who has the database and no key.
void forge(test::OpenStore& store, const Forgery& forgery, const TokenInfo& other) {
  json body = json::parse(store.record->body);
  forgery.forge(body["sets"][0], other);
  store.record->body = body.dump();
}

template <typename Work>
ErrorCode refusal_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.code();
  }
  throw std::logic_error("it was not refused");
}

}  // namespace

TEST_CASE("who points a set elsewhere in the database gets an error and no PIN from a host that starts") {
  for (const Forgery& forgery : forgeries()) {
    INFO(forgery.what);
    const auto store = std::make_shared<test::OpenStore>();
    const RingPin pin = RingPin::in_process();
    WatchedTokens maker{test::FaultyHsm{std::vector<std::string>{"one", "two"}}};
    static_cast<void>(KeyRing::create(store, maker.provider(), {.token = "one"}, pin));
    CHECK(maker.hsm.calls("C_Login") == 1);
    forge(*store, forgery, maker.hsm.module()->token({.label = "two"}));
    WatchedTokens starting{test::FaultyHsm{maker.hsm.shared_tokens()}};
    CHECK(refusal_of([&] { return KeyRing::open(store, starting.provider(), pin); }) == forgery.refused);
    CHECK(starting.hsm.calls("C_Login") == forgery.logins);
    CHECK(starting.pins_asked == forgery.pins);
    CHECK(starting.hsm.calls("C_EncryptInit") == 0);
  }
}

TEST_CASE("who points a set elsewhere in the database gets an error and no call to the token from a running host") {
  const auto store = std::make_shared<test::OpenStore>();
  WatchedTokens tokens{test::FaultyHsm{std::vector<std::string>{"one", "two"}}};
  auto ring = KeyRing::create(store, tokens.provider(), {.token = "one"}, RingPin::in_process());
  const EnvelopeEncryptor vault{ring};
  const std::string sealed = vault.seal_text("hunter2", kNoContext);
  const TokenInfo two = tokens.hsm.module()->token({.label = "two"});
  const auto good = store->record;
  for (const Forgery& forgery : forgeries()) {
    INFO(forgery.what);
    store->record = good;
    forge(*store, forgery, two);
    tokens.hsm.reset();
    CHECK(refusal_of([&] { ring.refresh(); }) == ErrorCode::RingTampered);
    CHECK(tokens.hsm.calls_total() == 0);
    CHECK(vault.open_text(sealed, kNoContext).text() == "hunter2");
  }
  CHECK(tokens.pins_asked == std::map<std::string, int>{{"one", 1}});
}
