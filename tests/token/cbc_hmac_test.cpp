#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/hex.hpp"
#include "core/wrap_rules.hpp"
#include "pkcs11/key_policy.hpp"
#include "pkcs11/session_access.hpp"
#include "support/expect_error.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using core::to_hex;
using test::FaultyHsm;
using test::logged_in;
using test::message_of;

namespace {

const SetSpec kSpec{.token = "one", .algorithm = WrapAlgorithm::Aes256CbcHmac};

/// Two tokens, and a ring's keys on the first.
struct Keys {
  FaultyHsm hsm{{"one", "two"}};
  RingId ring = test::random_ring();
  std::shared_ptr<KeyProvider> provider = pkcs11_provider(hsm.host());
  KeyDescription key = provider->provision(kSpec, ring, 1);
  SecretBytes secret = crypto::random_secret(32);
  Bytes aad = Bytes(5, std::byte{1});

  [[nodiscard]] Bytes wrap() const { return provider->connect(key, 1)->wrap(secret.view(), aad); }
  [[nodiscard]] bool opens(const KeyDescription& described, const Bytes& wrapped) const {
    const auto wrapper = pkcs11_provider(hsm.host())->connect(described, 1);
    return crypto::equal(wrapper->unwrap(wrapped, aad).view(), secret.view());
  }
  [[nodiscard]] bool shows(const Bytes& id) const { return logged_in(hsm, "one").find_key({.id = id}).has_value(); }
};

/// Puts another key under the id of one that is there.
void replace(const FaultyHsm& hsm, const Bytes& id, KeyUse use) {
  auto session = logged_in(hsm, "one");
  {
    const auto alone = pkcs11::SessionAccess::one_destruction_at_a_time(session);
    pkcs11::SessionAccess::destroy_key(session, session.find_key({.id = id}).value(), id);
  }
  static_cast<void>(pkcs11::SessionAccess::generate_unchecked_key(session, {.id = id, .label = "another", .use = use}));
}

void destroy(const FaultyHsm& hsm, const Bytes& id) {
  auto session = logged_in(hsm, "one");
  const auto alone = pkcs11::SessionAccess::one_destruction_at_a_time(session);
  pkcs11::SessionAccess::destroy_key(session, session.find_key({.id = id}).value(), id);
}

}  // namespace

TEST_CASE("two keys are made for AES-CBC with HMAC, each for its one purpose") {
  const Keys keys;
  CHECK(keys.key.profile == WrapProfile{WrapAlgorithm::Aes256CbcHmac, {}});
  CHECK(keys.key.key_id == Bytes(keys.key.kek_id.bytes.begin(), keys.key.kek_id.bytes.end()));
  CHECK(keys.key.mac_key_id.size() == 16);
  CHECK(keys.key.mac_key_id != keys.key.key_id);
  CHECK(keys.key.proof.wrapped.size() == 80);
  auto session = logged_in(keys.hsm, "one");
  const auto kek = session.find_key({.id = keys.key.key_id}), mac = session.find_key({.id = keys.key.mac_key_id});
  REQUIRE(kek);
  REQUIRE(mac);
  const KeyAttributes told = session.attributes(*mac);
  CHECK(told.label == keys.key.key_label + "-mac");
  CHECK(told.key_type == CKK_GENERIC_SECRET);
  CHECK(told.value_bytes == 32U);
  CHECK(told.sign == true);
  CHECK(told.verify == false);
  CHECK(pkcs11::weaknesses(told, KeyUse::Mac, pkcs11::KeyOrigin::Existing).empty());
  CHECK(pkcs11::weaknesses(session.attributes(*kek), KeyUse::EncryptDecrypt, pkcs11::KeyOrigin::Existing).empty());
}

TEST_CASE("what is wrapped is IV, ciphertext and the MAC that the format says, in four calls") {
  const Keys keys;
  const Bytes first = keys.wrap();
  keys.hsm.reset();
  const Bytes wrapped = keys.wrap();
  for (const char* const function : {"C_EncryptInit", "C_Encrypt", "C_SignInit", "C_Sign"}) {
    CHECK(keys.hsm.calls(function) >= 1);
  }
  CHECK(wrapped.size() == 16 + 32 + 32);
  CHECK_FALSE(std::equal(first.begin(), first.begin() + 48, wrapped.begin()));
  auto session = logged_in(keys.hsm, "one");
  const auto kek = session.find_key({.id = keys.key.key_id}).value();
  const auto mac = session.find_key({.id = keys.key.mac_key_id}).value();
  const ByteView sealed = ByteView{wrapped}.first(48);
  CHECK(crypto::equal(session.sign(mac, MacMechanism::HmacSha256, core::cbc_mac_input(keys.aad, sealed)),
                      ByteView{wrapped}.last(32)));
  CHECK(crypto::equal(session.decrypt(kek, AesCbc{sealed.first(16)}, sealed.subspan(16)).view(), keys.secret.view()));
  CHECK(keys.opens(keys.key, wrapped));
}

TEST_CASE("AES-CBC with HMAC wraps whole blocks, and says so of anything else") {
  const Keys keys;
  const auto wrapper = keys.provider->connect(keys.key, 1);
  for (const std::size_t size : {16U, 32U, 48U, 4096U}) {
    const SecretBytes sent = crypto::random_secret(size);
    const Bytes wrapped = wrapper->wrap(sent.view(), keys.aad);
    CHECK(wrapped.size() == size + 48);
    CHECK(crypto::equal(wrapper->unwrap(wrapped, keys.aad).view(), sent.view()));
  }
  keys.hsm.reset();
  for (const std::size_t size : {0U, 1U, 15U, 17U, 33U, 4097U, 4112U}) {
    CHECK_THROWS_AS(wrapper->wrap(Bytes(size), keys.aad), InvalidArgumentError);
  }
  CHECK(keys.hsm.calls("C_Encrypt") == 0);
}

TEST_CASE("both keys are proved: another one in the place of either is a wrong key") {
  for (const bool mac : {false, true}) {
    CAPTURE(mac);
    const Keys keys;
    const Bytes wrapped = keys.wrap();
    replace(keys.hsm, mac ? keys.key.mac_key_id : keys.key.key_id, mac ? KeyUse::Mac : KeyUse::EncryptDecrypt);
    const auto wrapper = pkcs11_provider(keys.hsm.host())->connect(keys.key, 1);
    CHECK_NAMES(message_of<WrongKeyError>([&] { return wrapper->unwrap(wrapped, keys.aad); }),
                "its proof does not open");
    CHECK_THROWS_AS(wrapper->wrap(keys.secret.view(), keys.aad), WrongKeyError);
    keys.hsm.reset();
    CHECK_THROWS_AS(keys.provider->destroy(keys.key), WrongKeyError);
    CHECK(keys.hsm.calls("C_DestroyObject") == 0);
  }
}

TEST_CASE("a key that is gone is named, whichever of the two it is") {
  for (const bool mac : {false, true}) {
    CAPTURE(mac);
    const Keys keys;
    const Bytes wrapped = keys.wrap();
    const Bytes& id = mac ? keys.key.mac_key_id : keys.key.key_id;
    destroy(keys.hsm, id);
    const auto wrapper = pkcs11_provider(keys.hsm.host())->connect(keys.key, 1);
    const auto message = message_of<KeyNotFoundError>([&] { return wrapper->unwrap(wrapped, keys.aad); });
    CHECK_NAMES(message, std::string{mac ? "no MAC key" : "no key"} + " with CKA_ID " + to_hex(id));
  }
}

TEST_CASE("a lost login or session is recovered with both keys") {
  const Keys keys;
  const Bytes wrapped = keys.wrap();
  const auto wrapper = keys.provider->connect(keys.key, 1);
  for (const char* const fault :
       {"lose_login", "kill all", "kill one", "fail C_SignInit CKR_KEY_HANDLE_INVALID times=1",
        "fail C_Sign CKR_DEVICE_ERROR times=1", "fail C_DecryptInit CKR_DEVICE_ERROR times=1"}) {
    CAPTURE(fault);
    keys.hsm.reset();
    keys.hsm.apply(fault);
    CHECK(crypto::equal(wrapper->unwrap(wrapped, keys.aad).view(), keys.secret.view()));
    const std::string text{fault};
    CHECK(keys.hsm.fired(text.substr(0, text.find(' '))) > 0);
    keys.hsm.apply(fault);
    const Bytes again = wrapper->wrap(keys.secret.view(), keys.aad);
    keys.hsm.apply("clear");
    CHECK(crypto::equal(wrapper->unwrap(again, keys.aad).view(), keys.secret.view()));
  }
}

TEST_CASE("both keys are listed, and both destroyed, the first one last") {
  const Keys keys;
  const auto other = keys.provider->provision({.token = "one"}, keys.ring, 2);
  const auto found = keys.provider->find_keys(keys.ring, "one");
  REQUIRE(found.size() == 3);
  CHECK(found[0].key_id == keys.key.key_id);
  CHECK(found[0].part == KeyPart::Encryption);
  CHECK(found[1].key_id == keys.key.mac_key_id);
  CHECK(found[1].part == KeyPart::Mac);
  CHECK(found[1].version == 1);
  CHECK(found[2].key_id == other.key_id);
  keys.hsm.reset();
  keys.provider->destroy(keys.key);
  CHECK(keys.hsm.calls("C_DestroyObject") == 2);
  CHECK_FALSE(keys.shows(keys.key.key_id));
  CHECK_FALSE(keys.shows(keys.key.mac_key_id));
  CHECK(keys.shows(other.key_id));
  CHECK_THROWS_AS(keys.provider->destroy(keys.key), KeyNotFoundError);
}

TEST_CASE("a destruction that ended between the two keys is brought to its end") {
  const Keys keys;
  keys.hsm.apply("fail C_DestroyObject CKR_DEVICE_ERROR skip=1 times=1");
  CHECK_THROWS_AS(keys.provider->destroy(keys.key), TokenError);
  REQUIRE(keys.hsm.fired("fail") == 1);
  CHECK(keys.shows(keys.key.key_id));
  CHECK_FALSE(keys.shows(keys.key.mac_key_id));
  // The key alone is proved by what it makes of the proof: another one is not destroyed.
  KeyDescription altered = keys.key;
  altered.proof.digest[0] ^= std::byte{1};
  CHECK_THROWS_AS(keys.provider->destroy(altered), WrongKeyError);
  CHECK(keys.shows(keys.key.key_id));
  keys.provider->destroy(keys.key);
  CHECK_FALSE(keys.shows(keys.key.key_id));
}

TEST_CASE("a MAC key whose first key is gone is destroyed if it made the proof, and no other") {
  {
    const Keys keys;
    destroy(keys.hsm, keys.key.key_id);
    CHECK_THROWS_AS(keys.provider->destroy(keys.key), KeyNotFoundError);
    CHECK_FALSE(keys.shows(keys.key.mac_key_id));
  }
  const Keys keys;
  destroy(keys.hsm, keys.key.key_id);
  replace(keys.hsm, keys.key.mac_key_id, KeyUse::Mac);
  CHECK_THROWS_AS(keys.provider->destroy(keys.key), KeyNotFoundError);
  CHECK(keys.shows(keys.key.mac_key_id));
}

TEST_CASE("a set with AES-CBC and HMAC is described by its token alone, and opens") {
  const Keys keys;
  const Bytes wrapped = keys.wrap();
  const auto found = keys.provider->find_keys(keys.ring, "one");
  REQUIRE(found.size() == 2);
  KeyDescription alone;
  alone.token = found[0].token;
  alone.token_label = found[0].token_label;
  alone.token_serial = found[0].token_serial;
  alone.key_id = found[0].key_id;
  alone.mac_key_id = found[1].key_id;
  alone.profile.algorithm = WrapAlgorithm::Aes256CbcHmac;
  CHECK(keys.opens(alone, wrapped));
  Bytes changed = wrapped;
  changed.back() ^= std::byte{1};
  CHECK_THROWS_AS(keys.opens(alone, changed), OpenError);
  CHECK_THROWS_AS(pkcs11_provider(keys.hsm.host())->connect(alone, 1)->wrap(keys.secret.view(), {}),
                  InvalidArgumentError);
}

TEST_CASE("existing keys are adopted for AES-CBC with HMAC, both or the first alone") {
  const Keys keys;
  SetSpec spec{.token = "one", .adopt_key_id = keys.key.key_id, .adopt_mac_key_id = keys.key.mac_key_id};
  const auto both = keys.provider->provision(spec, keys.ring, 2);
  CHECK(both.profile.algorithm == WrapAlgorithm::Aes256CbcHmac);
  CHECK(both.mac_key_id == keys.key.mac_key_id);
  CHECK(keys.opens(both, keys.wrap()));
  spec.adopt_mac_key_id.reset();
  spec.algorithm = WrapAlgorithm::Aes256CbcHmac;
  const auto first = keys.provider->provision(spec, keys.ring, 3);
  CHECK(first.key_id == keys.key.key_id);
  CHECK(first.mac_key_id != keys.key.mac_key_id);
  CHECK(keys.shows(first.mac_key_id));
  const auto found = keys.provider->find_keys(keys.ring, "one");
  CHECK(std::ranges::any_of(found, [&](const FoundKey& one) {
    return one.key_id == first.mac_key_id && one.version == 3 && one.part == KeyPart::Mac;
  }));
}

TEST_CASE("a MAC key that is to be adopted is held to the policy") {
  const Keys keys;
  auto session = logged_in(keys.hsm, "one");
  const Bytes aes = test::make_key(session, "aes"), none = test::random_id();
  const Bytes tool = test::random_id();
  keys.hsm.tokens().make_key_with_pkcs11_tool("one", "of-pkcs11-tool", to_hex(tool), "--sensitive --private",
                                              "GENERIC:32");
  SetSpec spec{.token = "one", .adopt_key_id = keys.key.key_id, .adopt_mac_key_id = aes};
  CHECK_NAMES(message_of<WrongKeyError>([&] { return keys.provider->provision(spec, keys.ring, 2); }),
              "CKA_ID " + to_hex(aes) + " on token 'one' is not a generic secret of 32 bytes or more that signs");
  spec.adopt_mac_key_id = none;
  CHECK_THROWS_AS(keys.provider->provision(spec, keys.ring, 2), KeyNotFoundError);
  spec.adopt_mac_key_id = tool;
  CHECK_NAMES(message_of<WrongKeyError>([&] { return keys.provider->provision(spec, keys.ring, 2); }),
              "CKA_ID " + to_hex(tool) + " on token 'one' is not adopted: ");
  spec.policy.accept = {KeyWeakness::WrapsKeys, KeyWeakness::SignsOrDerives};
  CHECK(keys.provider->provision(spec, keys.ring, 2).mac_key_id == tool);
}

TEST_CASE("wishes that contradict each other are refused before the token is asked") {
  const Keys keys;
  keys.hsm.reset();
  const auto refused = [&](const SetSpec& spec) {
    CHECK_THROWS_AS(keys.provider->provision(spec, keys.ring, 2), InvalidArgumentError);
  };
  refused({.token = "one", .algorithm = WrapAlgorithm::Aes256CbcHmac, .gcm = GcmForm{}});
  refused({.token = "one", .adopt_key_id = keys.key.key_id, .adopt_mac_key_id = keys.key.mac_key_id, .gcm = GcmForm{}});
  refused({.token = "one", .adopt_mac_key_id = keys.key.mac_key_id});
  refused({.token = "one", .adopt_key_id = keys.key.key_id, .adopt_mac_key_id = Bytes{}});
  refused({.token = "one", .gcm = GcmForm{.iv_bytes = 16}});
  refused({.token = "one", .gcm = GcmForm{.iv_rule = IvRule::TokenAppends, .iv_bytes = 13}});
  refused({.token = "one", .gcm = GcmForm{.mechanism = std::uint64_t{1} << 32U}});
  CHECK(keys.hsm.calls("C_GenerateKey") == 0);
}
