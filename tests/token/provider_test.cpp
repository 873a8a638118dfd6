#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <p11-kit/pkcs11.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "pkcs11/key_policy.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using core::to_hex;
using test::error_of;
using test::FaultyHsm;
using test::message_of;
using test::SoftHsm;

namespace {

const SoftHsm& softhsm() { return SoftHsm::instance(); }

Pkcs11Session logged_in(const std::string& token) {
  Pkcs11Session session{softhsm().module(), {.label = token}};
  session.login(softhsm().binding(token).pin);
  return session;
}

KeyRing create(const std::shared_ptr<RingStore>& store, const Host& host, const SetSpec& first) {
  return KeyRing::create(store, pkcs11_provider(host), first, RingPin::in_process());
}

/// What another process does that has never used the ring's keys.
KeyRing open_anew(const std::shared_ptr<RingStore>& store, const Host& host) {
  return KeyRing::open(store, pkcs11_provider(host), RingPin::in_process());
}

CredentialSet set_of(const KeyRing& ring, Version version) {
  const auto set = ring.find(version);
  REQUIRE(set);
  return *set;
}

/// A random CKA_ID that no other test uses.
Bytes new_id() {
  const auto id = crypto::random_array<8>();
  return {id.begin(), id.end()};
}

/// A key as pkcs11-tool makes it, and the weaknesses it has then.
struct ToolKey {
  std::string options;
  std::set<KeyWeakness> weaknesses;
};

const std::vector<ToolKey>& tool_keys() {
  using enum KeyWeakness;
  // pkcs11-tool lets every secret key wrap and sign, whatever use is asked for.
  static const std::vector<ToolKey> keys = {
      {"", {NotPrivate, NotSensitive, WasExposed, WrapsKeys, SignsOrDerives}},
      {"--sensitive", {NotPrivate, WrapsKeys, SignsOrDerives}},
      {"--private", {NotSensitive, WasExposed, WrapsKeys, SignsOrDerives}},
      {"--sensitive --private", {WrapsKeys, SignsOrDerives}},
      {"--sensitive --private --usage-decrypt", {WrapsKeys, SignsOrDerives}},
      {"--sensitive --private --extractable", {Extractable, WasExposed, WrapsKeys, SignsOrDerives}},
      {"--extractable", {NotPrivate, NotSensitive, Extractable, WasExposed, WrapsKeys, SignsOrDerives}},
  };
  return keys;
}

/// One ring with a set on each of two tokens; the one on "two" is active.
struct TwoSets {
  std::shared_ptr<RingStore> store = memory_ring_store();
  KeyDescription first, second;
  Bytes sealed_under_first;

  TwoSets() {
    auto ring = create(store, softhsm().host(), {.token = "one"});
    sealed_under_first = EnvelopeEncryptor{ring}.seal(bytes_of("secret"), kNoContext);
    ring.add({.token = "two"});
    first = set_of(ring, 1).key;
    second = set_of(ring, 2).key;
  }
};

}  // namespace

TEST_CASE("sets are added on two tokens, and each of them answers") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one", .description = "first"});
  const EnvelopeEncryptor vault{ring};
  const Bytes early = vault.seal(bytes_of("early"), kNoContext);
  CHECK(ring.add({.token = "two", .description = "second"}) == 2);
  const Bytes late = vault.seal(bytes_of("late"), kNoContext);

  REQUIRE(ring.list().size() == 2);
  const CredentialSet one = set_of(ring, 1), two = set_of(ring, 2);
  CHECK(one.state == SetState::Archived);
  CHECK(two.state == SetState::Active);
  for (const CredentialSet& set : {one, two}) {
    CHECK(set.key.token_label == set.key.token);
    CHECK(set.key.token_serial == softhsm().module()->token({.label = set.key.token}).serial);
    CHECK(set.key.key_id == Bytes(set.key.kek_id.bytes.begin(), set.key.kek_id.bytes.end()));
    CHECK(set.key.profile == WrapProfile{});
    CHECK_NOTHROW(ring.verify(set.version));
  }
  CHECK(one.key.kek_id != two.key.kek_id);
  CHECK(inspect(early).version == 1);
  CHECK(inspect(late).version == 2);
  CHECK(vault.open(early, kNoContext).text() == "early");
  CHECK(vault.open(late, kNoContext).text() == "late");
}

TEST_CASE("the label of a new key names its ring and version") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one"});
  const CredentialSet set = ring.active();
  CHECK(set.key.key_label == "hsmseal-" + ring.id().to_string() + "-v1");
  auto session = logged_in("one");
  const auto key = session.find_key({.id = std::nullopt, .label = set.key.key_label});
  REQUIRE(key);
  const KeyAttributes told = session.attributes(*key);
  CHECK(told.id == set.key.key_id);
  CHECK(told.token == true);
  CHECK(told.value_bytes == 32U);
  CHECK(pkcs11::weaknesses(told, KeyUse::EncryptDecrypt, pkcs11::KeyOrigin::Existing).empty());
}

TEST_CASE("a key gets the label that was asked for") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one", .key_label = "Schlüssel für 2026"});
  CHECK(ring.active().key.key_label == "Schlüssel für 2026");
  auto session = logged_in("one");
  CHECK(session.find_key({.id = ring.active().key.key_id, .label = "Schlüssel für 2026"}));
}

TEST_CASE("many keys are made and adopted, and none that is good is refused") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one"});
  for (int i = 0; i < 20; ++i) {
    const std::string token = i % 2 == 0 ? "two" : "one";
    const Version made = ring.add({.token = token});
    CHECK_NOTHROW(ring.verify(made));
    CHECK_NOTHROW(ring.verify(ring.add({.token = token, .adopt_key_id = set_of(ring, made).key.key_id})));
  }
  CHECK(ring.list().size() == 41);
}

TEST_CASE("a key that pkcs11-tool made is refused for what it lacks, and adopted if all of that is accepted") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one"});
  REQUIRE(tool_keys().size() == 7);
  for (const ToolKey& tool_key : tool_keys()) {
    CAPTURE(tool_key.options);
    const Bytes id = new_id();
    softhsm().make_key_with_pkcs11_tool("one", "of-pkcs11-tool", to_hex(id), tool_key.options);
    SetSpec spec{.token = "one", .adopt_key_id = id};
    const auto message = message_of<WrongKeyError>([&] { return ring.add(spec); });
    CHECK_NAMES(message, "CKA_ID " + to_hex(id) + " on token 'one' is not adopted: " +
                             pkcs11::describe(tool_key.weaknesses) + "; accept it by name in AdoptionPolicy");
    for (const KeyWeakness left_out : tool_key.weaknesses) {
      spec.policy.accept = tool_key.weaknesses;
      spec.policy.accept.erase(left_out);
      CHECK_NAMES(message_of<WrongKeyError>([&] { return ring.add(spec); }),
                  "is not adopted: " + pkcs11::describe({left_out}) + "; accept");
    }
    spec.policy.accept = tool_key.weaknesses;
    const Version version = ring.add(spec);
    const CredentialSet set = set_of(ring, version);
    CHECK(set.key.key_id == id);
    CHECK(set.key.key_label == "of-pkcs11-tool");
    CHECK_NOTHROW(ring.verify(version));
    const EnvelopeEncryptor vault{ring};
    const Bytes sealed = vault.seal(bytes_of("secret"), kNoContext);
    CHECK(inspect(sealed).version == version);
    CHECK(vault.open(sealed, kNoContext).text() == "secret");
  }
}

TEST_CASE("a key of another size or that is not there is not adopted") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one"});
  const Bytes small = new_id(), generic = new_id(), none = new_id();
  softhsm().make_key_with_pkcs11_tool("one", "small", to_hex(small), "--sensitive --private", "AES:16");
  softhsm().make_key_with_pkcs11_tool("one", "generic", to_hex(generic), "--sensitive --private", "GENERIC:32");
  const auto accept_all = tool_keys().back().weaknesses;
  for (const Bytes& id : {small, generic}) {
    CHECK_NAMES(message_of<WrongKeyError>(
                    [&] { return ring.add({.token = "one", .adopt_key_id = id, .policy = {accept_all}}); }),
                "CKA_ID " + to_hex(id) + " on token 'one' is not an AES-256 key");
  }
  CHECK_NAMES(message_of<KeyNotFoundError>([&] { return ring.add({.token = "one", .adopt_key_id = none}); }),
              "no key with CKA_ID " + to_hex(none) + " to adopt on token 'one'");
  CHECK_THROWS_AS(ring.add({.token = "one", .adopt_key_id = Bytes{}}), InvalidArgumentError);
  CHECK_THROWS_AS(ring.add({.token = "one", .adopt_key_id = Bytes(256)}), InvalidArgumentError);
  CHECK_THROWS_AS(ring.add({.token = "one", .key_label = std::string(256, 'k')}), InvalidArgumentError);
  CHECK(ring.list().size() == 1);
  // A number taken in vain is not used again.
  CHECK(ring.add({.token = "one"}) > 2);
}

TEST_CASE("an adopted key that another set uses keeps its kek_id") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one"});
  ring.add({.token = "two"});
  const CredentialSet made = set_of(ring, 1);
  const CredentialSet again = set_of(ring, ring.add({.token = "one", .adopt_key_id = made.key.key_id}));
  CHECK(again.key.kek_id == made.key.kek_id);
  CHECK(again.key.proof == made.key.proof);
  CHECK(again.key.key_label == made.key.key_label);
  CHECK(again.wrapped_ring_key != made.wrapped_ring_key);
  CHECK_NOTHROW(ring.verify(again.version));

  const Bytes id = new_id();
  softhsm().make_key_with_pkcs11_tool("two", "new-to-the-ring", to_hex(id), "--sensitive --private");
  const SetSpec foreign{
      .token = "two", .adopt_key_id = id, .policy = {{KeyWeakness::WrapsKeys, KeyWeakness::SignsOrDerives}}};
  const CredentialSet first = set_of(ring, ring.add(foreign)), second = set_of(ring, ring.add(foreign));
  CHECK(first.key.kek_id == second.key.kek_id);
  CHECK(first.key.kek_id != made.key.kek_id);
  CHECK(Bytes(first.key.kek_id.bytes.begin(), first.key.kek_id.bytes.end()) != id);
}

TEST_CASE("a key that is gone is not found, and the message names it") {
  const TwoSets sets;
  softhsm().destroy_key_with_pkcs11_tool("one", to_hex(sets.first.key_id));
  auto ring = open_anew(sets.store, softhsm().host());
  const EnvelopeEncryptor vault{ring};
  const auto message = message_of<KeyNotFoundError>([&] {
    ring.verify(1);
    return 0;
  });
  CHECK_NAMES(message, "CKA_ID " + to_hex(sets.first.key_id));
  CHECK_NAMES(message, sets.first.key_label);
  CHECK_NAMES(message, "token 'one'");
  CHECK_THROWS_AS(vault.open(sets.sealed_under_first, kNoContext), KeyNotFoundError);
  // The other set goes on.
  CHECK_NOTHROW(ring.verify(2));
  CHECK(vault.open(vault.seal(bytes_of("secret"), kNoContext), kNoContext).text() == "secret");
  softhsm().destroy_key_with_pkcs11_tool("two", to_hex(sets.second.key_id));
  CHECK_THROWS_AS(open_anew(sets.store, softhsm().host()), KeyNotFoundError);
}

TEST_CASE("another key under the same id and label is a wrong key, and nothing is sealed under it") {
  const TwoSets sets;
  softhsm().destroy_key_with_pkcs11_tool("two", to_hex(sets.second.key_id));
  softhsm().make_key_with_pkcs11_tool("two", sets.second.key_label, to_hex(sets.second.key_id),
                                      "--sensitive --private");
  auto ring = open_anew(sets.store, softhsm().host());
  CHECK(ring.active().version == 2);
  const auto message = message_of<WrongKeyError>([&] {
    ring.verify(2);
    return 0;
  });
  CHECK_NAMES(message, sets.second.kek_id.to_string());
  CHECK_NAMES(message, "nothing was sealed");
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    CHECK_THROWS_AS((EnvelopeEncryptor{ring, {.suite = suite}}.seal(bytes_of("secret"), kNoContext)), WrongKeyError);
  }
  CHECK_THROWS_AS(EnvelopeEncryptor{ring}.rewrap(sets.sealed_under_first), WrongKeyError);
  CHECK(EnvelopeEncryptor{ring}.open(sets.sealed_under_first, kNoContext).text() == "secret");
}

TEST_CASE("a key that is replaced behind a warm handle is not sealed under") {
  const TwoSets sets;
  auto ring = open_anew(sets.store, softhsm().host());
  const EnvelopeEncryptor vault{ring};
  const Bytes sealed = vault.seal(bytes_of("secret"), kNoContext);
  softhsm().destroy_key_with_pkcs11_tool("two", to_hex(sets.second.key_id));
  softhsm().make_key_with_pkcs11_tool("two", sets.second.key_label, to_hex(sets.second.key_id),
                                      "--sensitive --private");
  CHECK_THROWS_AS(vault.seal(bytes_of("secret"), kNoContext), Error);
  CHECK_THROWS_AS(vault.open(sealed, kNoContext), Error);
  CHECK(vault.open(sets.sealed_under_first, kNoContext).text() == "secret");
}

TEST_CASE("another key under the same label but another id is not taken for the set's") {
  const TwoSets sets;
  softhsm().destroy_key_with_pkcs11_tool("one", to_hex(sets.first.key_id));
  softhsm().make_key_with_pkcs11_tool("one", sets.first.key_label, to_hex(new_id()), "--sensitive --private");
  auto ring = open_anew(sets.store, softhsm().host());
  CHECK_THROWS_AS(ring.verify(1), KeyNotFoundError);
  CHECK_THROWS_AS(EnvelopeEncryptor{ring}.open(sets.sealed_under_first, kNoContext), KeyNotFoundError);
}

TEST_CASE("two keys with a set's id are refused, though one of them is right") {
  const TwoSets sets;
  softhsm().make_key_with_pkcs11_tool("one", "a-second-one", to_hex(sets.first.key_id), "--sensitive --private");
  auto ring = open_anew(sets.store, softhsm().host());
  const auto message = message_of<WrongKeyError>([&] {
    ring.verify(1);
    return 0;
  });
  CHECK_NAMES(message, "more than one key with CKA_ID " + to_hex(sets.first.key_id) + " on token 'one'");
  CHECK_THROWS_AS(EnvelopeEncryptor{ring}.open(sets.sealed_under_first, kNoContext), WrongKeyError);
  CHECK_THROWS_AS(ring.add({.token = "one", .adopt_key_id = sets.first.key_id}), WrongKeyError);
}

TEST_CASE("a token that is missing is unavailable, and the message lists those that are there") {
  Host host;
  TokenBinding gone = softhsm().binding("one");
  gone.select.label = "gone";
  host.token("gone", gone);
  const auto message =
      message_of<TokenUnavailableError>([&] { return create(memory_ring_store(), host, {.token = "gone"}); });
  CHECK_NAMES(message, "no token with label 'gone'");
  CHECK_NAMES(message, "'one' (serial " + softhsm().module()->token({.label = "one"}).serial + ")");
  CHECK_NAMES(message, "check the selector");
}

TEST_CASE("a token that is not bound on this host is named") {
  auto ring = create(memory_ring_store(), softhsm().host(), {.token = "one"});
  const auto message = message_of<InvalidArgumentError>([&] { return ring.add({.token = "elsewhere"}); });
  CHECK(message == "token 'elsewhere' is not bound on this host; add it with Host::token()");
}

TEST_CASE("a token with another serial than the set's is refused before any PIN is sent") {
  const FaultyHsm hsm{{"twin", "twin"}};
  const auto tokens = hsm.module()->tokens();
  REQUIRE(tokens.size() == 2);
  const auto host_with = [&](const TokenInfo& token) {
    Host host = hsm.bare_host();
    TokenBinding binding = hsm.binding("twin");
    binding.select.serial = token.serial;
    host.token("hsm", binding);
    return host;
  };
  const auto store = memory_ring_store();
  { auto ring = create(store, host_with(tokens[0]), {.token = "hsm"}); }
  CHECK(hsm.open_sessions() == 0);
  hsm.reset();
  const auto message = message_of<WrongKeyError>([&] { return open_anew(store, host_with(tokens[1])); });
  CHECK_NAMES(message, "token 'hsm'");
  CHECK_NAMES(message, tokens[0].serial);
  CHECK_NAMES(message, tokens[1].serial);
  CHECK_NAMES(message, "but the set names 'twin'");
  CHECK_NAMES(message, "correct the binding");
  CHECK(hsm.calls("C_Login") == 0);
  CHECK_NOTHROW(open_anew(store, host_with(tokens[0])));
  CHECK(hsm.calls("C_Login") == 1);
}

TEST_CASE("archived sets on tokens that this host does not bind do not stop it from sealing") {
  const TwoSets sets;
  Host host;
  host.token("two", softhsm().binding("two"));
  auto ring = open_anew(sets.store, host);
  const EnvelopeEncryptor vault{ring};
  CHECK(vault.open(vault.seal(bytes_of("secret"), kNoContext), kNoContext).text() == "secret");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return vault.open(sets.sealed_under_first, kNoContext); }),
              "token 'one' is not bound on this host");
  CHECK_THROWS_AS(ring.verify(1), InvalidArgumentError);
  CHECK_NOTHROW(ring.verify(2));
}

TEST_CASE("a host that binds the archived set's token alone opens what that sealed, and seals nothing") {
  const TwoSets sets;
  Host host;
  host.token("one", softhsm().binding("one"));
  auto ring = open_anew(sets.store, host);
  const EnvelopeEncryptor vault{ring};
  CHECK(vault.open(sets.sealed_under_first, kNoContext).text() == "secret");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return vault.seal(bytes_of("secret"), kNoContext); }),
              "token 'two' is not bound on this host");
}

TEST_CASE("a key that was made and does not work is destroyed again") {
  const FaultyHsm hsm;
  auto ring = create(memory_ring_store(), hsm.host(), {.token = "one"});
  hsm.reset();
  hsm.fail_next("C_GetAttributeValue", CKR_FUNCTION_NOT_SUPPORTED);
  CHECK_THROWS_AS(ring.add({.token = "one"}), TokenError);
  CHECK(hsm.calls("C_GenerateKey") == 1);
  CHECK(hsm.calls("C_DestroyObject") == 1);
  for (const char* function : {"C_Encrypt", "C_Decrypt"}) {
    CAPTURE(function);
    hsm.reset();
    hsm.fail_next(function, CKR_FUNCTION_NOT_SUPPORTED, 1000);
    const auto message = message_of<WrongKeyError>([&] { return ring.add({.token = "one"}); });
    CHECK_NAMES(message, "AES-GCM with the caller's IV: gcm-");
    CHECK_NAMES(message, "; AES-CBC with HMAC-SHA-256: cbc-");
    hsm.fail_next(function, CKR_OK, 0);
    CHECK(hsm.calls("C_GenerateKey") == 4);  // one for each form of AES-GCM, two for AES-CBC with HMAC
    CHECK(hsm.calls("C_DestroyObject") >= 4);
    CHECK(pkcs11_provider(hsm.host())->find_keys(ring.id(), "one").size() == 1);
  }
  CHECK(ring.list().size() == 1);
  CHECK_NOTHROW(ring.verify(ring.add({.token = "one"})));
}

TEST_CASE("a key is made in spite of passing trouble") {
  const FaultyHsm hsm;
  auto ring = create(memory_ring_store(), hsm.host(), {.token = "one"});
  for (const char* function : {"C_FindObjectsInit", "C_GetAttributeValue", "C_Encrypt"}) {
    CAPTURE(function);
    hsm.reset();
    hsm.fail_next(function, CKR_DEVICE_ERROR, 3);
    CHECK_NOTHROW(ring.verify(ring.add({.token = "one"})));
    CHECK(hsm.fired("fail") == 3);
    CHECK(hsm.calls("C_GenerateKey") == 1);
    CHECK(hsm.calls("C_DestroyObject") == 0);
  }
  // Nor does one answer that does not pass decide what the set wraps with.
  hsm.fail_next("C_EncryptInit", CKR_MECHANISM_INVALID);
  CHECK(set_of(ring, ring.add({.token = "one"})).key.profile == WrapProfile{});
}

TEST_CASE("a token that uses another IV than the caller's seals nothing on any host") {
  const FaultyHsm hsm;
  const auto store = memory_ring_store();
  KeyRing here = KeyRing::create(store, pkcs11_provider(hsm.host()), {.token = "one"}, RingPin::in_process());
  hsm.apply("gcm_iv replace");
  CHECK_THROWS_AS(here.add({.token = "one", .algorithm = WrapAlgorithm::Aes256Gcm}), WrongKeyError);
  KeyRing there = KeyRing::open(store, pkcs11_provider(hsm.host()), RingPin::in_process());
  const EnvelopeEncryptor vault{there};
  CHECK_THROWS_AS(vault.seal(bytes_of("secret"), kNoContext), WrongKeyError);
  CHECK_THROWS_AS(there.verify(1), WrongKeyError);
  hsm.apply("gcm_iv off");
  CHECK(vault.open(vault.seal(bytes_of("secret"), kNoContext), kNoContext).text() == "secret");
}

TEST_CASE("tokens whose labels change places do not take each other's secrets") {
  const FaultyHsm hsm{{"one", "two"}};
  KeyRing ring =
      KeyRing::create(memory_ring_store(), pkcs11_provider(hsm.host()), {.token = "one"}, RingPin::in_process());
  const EnvelopeEncryptor vault{ring};
  const Bytes sealed = vault.seal(bytes_of("secret"), kNoContext);
  hsm.apply("swap_labels one two");
  hsm.fail_next("C_Encrypt", CKR_DEVICE_ERROR);
  CHECK_THROWS_AS(vault.seal(bytes_of("secret"), kNoContext), WrongKeyError);  // its session is closed
  CHECK_THROWS_AS(vault.seal(bytes_of("secret"), kNoContext), WrongKeyError);
  CHECK_THROWS_AS(vault.open(sealed, kNoContext), WrongKeyError);
  hsm.apply("swap_labels off");
  CHECK(vault.open(sealed, kNoContext).text() == "secret");
}

TEST_CASE("a key that lives as long as its session is not adopted") {
  const SoftHsm& hsm = SoftHsm::instance();
  Pkcs11Session session{hsm.module(), {.label = "one"}};
  session.login(hsm.binding("one").pin);
  const Bytes id(16, std::byte{0x5e});
  REQUIRE(session.generate_aes_key({.id = id, .label = "session key", .lifetime = KeyLifetime::Session}).value != 0);
  const auto provider = pkcs11_provider(hsm.host());
  CHECK_THROWS_AS(
      KeyRing::create(memory_ring_store(), provider, {.token = "one", .adopt_key_id = id}, RingPin::in_process()),
      WrongKeyError);
}

namespace {

std::optional<KeyRing> kept_to_the_end;

}  // namespace

TEST_CASE("a ring in a static object does no harm when the process ends") {
  // What is shown comes after the last line: this process ends without a crash.
  kept_to_the_end = KeyRing::create(memory_ring_store(), pkcs11_provider(SoftHsm::instance().host()), {.token = "one"},
                                    RingPin::in_process());
  CHECK(kept_to_the_end->list().size() == 1);
}

TEST_CASE("an adopted key that does not work is left where it is") {
  const FaultyHsm hsm;
  auto ring = create(memory_ring_store(), hsm.host(), {.token = "one"});
  hsm.reset();
  hsm.fail_next("C_Encrypt", CKR_FUNCTION_NOT_SUPPORTED, 1000);
  const SetSpec spec{.token = "one", .adopt_key_id = ring.active().key.key_id, .algorithm = WrapAlgorithm::Aes256Gcm};
  CHECK_THROWS_AS(ring.add(spec), WrongKeyError);
  hsm.fail_next("C_Encrypt", CKR_OK, 0);
  CHECK(hsm.calls("C_DestroyObject") == 0);
  CHECK_NOTHROW(ring.verify(1));
}
