#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/faultyhsm.hpp"

using namespace hsmseal;

TEST_CASE("with every database and file gone, the tokens alone open the envelopes of three sets") {
  const test::FaultyHsm first{{"one", "two"}};
  const auto context = Context{}.add("record", "42");
  std::vector<std::string> envelopes;
  std::vector<Bytes> in_token;
  RingId id;
  {
    KeyRing ring =
        KeyRing::create(memory_ring_store(), pkcs11_provider(first.host()), {.token = "one"}, RingPin::in_process());
    id = ring.id();
    for (const std::string token : {"two", "one", ""}) {
      envelopes.push_back(EnvelopeEncryptor{ring}.seal_text("secret " + std::to_string(envelopes.size()), context));
      in_token.push_back(EnvelopeEncryptor{ring, {.suite = Suite::Token}}.seal(bytes_of("in the token"), context));
      if (!token.empty()) ring.add({.token = token});
    }
    CHECK(ring.list().size() == 3);
  }
  // Another process, which has the tokens, their PINs and the envelopes.
  const test::FaultyHsm second{first.shared_tokens()};
  const KeyRing salvaged = KeyRing::salvage_from_token(pkcs11_provider(second.host()), "", id);
  CHECK(salvaged.list().size() == 3);
  const EnvelopeEncryptor vault{salvaged};
  for (std::size_t i = 0; i < envelopes.size(); ++i) {
    CHECK(inspect_text(envelopes[i]).version == i + 1);
    CHECK(vault.open_text(envelopes[i], context).text() == "secret " + std::to_string(i));
    CHECK(vault.open(in_token[i], context).text() == "in the token");
    CHECK_THROWS_AS(vault.open_text(envelopes[i], Context{}.add("record", "43")), OpenError);
  }
  CHECK(second.calls("C_Login") == 2);
  CHECK(second.calls("C_EncryptInit") == 0);
  CHECK_THROWS_AS(vault.seal_text("new", context), InvalidArgumentError);

  // One token has the sets on it, and no others.
  const KeyRing half = KeyRing::salvage_from_token(pkcs11_provider(second.host()), "two", id);
  REQUIRE(half.list().size() == 1);
  CHECK(EnvelopeEncryptor{half}.open_text(envelopes[1], context).text() == "secret 1");
  CHECK_THROWS_AS(EnvelopeEncryptor{half}.open_text(envelopes[0], context), UnknownVersionError);
  CHECK_THROWS_AS(KeyRing::salvage_from_token(pkcs11_provider(second.host()), "", RingId{}), KeyNotFoundError);
}

TEST_CASE("a set is moved to another name of its token, and to no other token") {
  // What an operator does after an HSM was moved: the set's key is the same, the binding's alias is not.
  const test::FaultyHsm hsm{{"one", "two"}};
  Host host = hsm.bare_host();
  host.token("old name", hsm.binding("one")).token("new name", hsm.binding("one")).token("two", hsm.binding("two"));
  KeyRing ring =
      KeyRing::create(memory_ring_store(), pkcs11_provider(host), {.token = "old name"}, RingPin::in_process());
  const std::string sealed = EnvelopeEncryptor{ring}.seal_text("hunter2", kNoContext);
  ring.amend(1, {.token = "new name"});
  CHECK(ring.find(1)->key.token == "new name");
  CHECK(EnvelopeEncryptor{ring}.open_text(sealed, kNoContext).text() == "hunter2");
  const TokenInfo two = hsm.module()->token({.label = "two"});
  CHECK_THROWS_AS(ring.amend(1, {.token = "two"}), WrongKeyError);
  CHECK_THROWS_AS(ring.amend(1, {.token = "two", .token_label = two.label, .token_serial = two.serial}),
                  KeyNotFoundError);
  CHECK_THROWS_AS(ring.amend(1, {.token = "nowhere"}), InvalidArgumentError);
  CHECK(ring.find(1)->key.token == "new name");
}
