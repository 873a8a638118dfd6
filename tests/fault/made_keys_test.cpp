// Keys that are not made as asked for (F16), and what drivers say of keys (F17, F18).

#include "fault/faulty_vault.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// What does not lead to a set: the ring is as before, and no key was left.
void check_nothing_added(const FaultyVault& scene) {
  CHECK(scene.ring->list().size() == 1);
  CHECK(scene.ring->orphans().empty());
  CHECK(scene.seals_and_opens());
}

/// Makes an object that whoever comes sees, as another program would.
void add_public_object(const FaultyHsm& hsm, std::vector<CK_ATTRIBUTE> attributes, const KeyDescription& beside) {
  CK_FUNCTION_LIST* p11 = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(hsm.symbol("C_GetFunctionList"))(&p11) == CKR_OK);
  CK_SESSION_HANDLE session = 0;
  const auto slot = static_cast<CK_SLOT_ID>(hsm.module()->token({.label = "one"}).slot);
  REQUIRE(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session) == CKR_OK);
  Bytes id = beside.key_id;
  std::string label = beside.key_label;
  CK_BBOOL yes = CK_TRUE;
  CK_BBOOL no = CK_FALSE;
  for (const CK_ATTRIBUTE& one : {CK_ATTRIBUTE{CKA_ID, id.data(), id.size()},
                                  {CKA_LABEL, label.data(), label.size()},
                                  {CKA_TOKEN, &yes, 1},
                                  {CKA_PRIVATE, &no, 1},
                                  {CKA_ENCRYPT, &yes, 1}}) {
    attributes.push_back(one);
  }
  CK_OBJECT_HANDLE made = 0;
  REQUIRE(p11->C_CreateObject(session, attributes.data(), attributes.size(), &made) == CKR_OK);
  REQUIRE(p11->C_CloseSession(session) == CKR_OK);
}

/// The public half of a pair, with the id and label of a key.
void add_public_twin(const FaultyHsm& hsm, const KeyDescription& beside) {
  CK_OBJECT_CLASS public_key = CKO_PUBLIC_KEY;
  CK_KEY_TYPE rsa = CKK_RSA;
  Bytes modulus(256, std::byte{0xc3});
  Bytes exponent{std::byte{1}, std::byte{0}, std::byte{1}};
  add_public_object(hsm,
                    {{CKA_CLASS, &public_key, sizeof(public_key)},
                     {CKA_KEY_TYPE, &rsa, sizeof(rsa)},
                     {CKA_MODULUS, modulus.data(), modulus.size()},
                     {CKA_PUBLIC_EXPONENT, exponent.data(), exponent.size()}},
                    beside);
}

/// A secret key for which nobody has to log in, with the id and label of another one.
void add_public_key(const FaultyHsm& hsm, const KeyDescription& beside) {
  CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  CK_KEY_TYPE aes = CKK_AES;
  CK_BBOOL yes = CK_TRUE;
  Bytes value(32, std::byte{0x17});
  add_public_object(hsm,
                    {{CKA_CLASS, &secret_key, sizeof(secret_key)},
                     {CKA_KEY_TYPE, &aes, sizeof(aes)},
                     {CKA_DECRYPT, &yes, 1},
                     {CKA_VALUE, value.data(), value.size()}},
                    beside);
}

}  // namespace

TEST_CASE("F16: a key that was made with other flags than asked for is refused and destroyed") {
  const FaultyVault scene;
  for (const char* const flag : {"CKA_EXTRACTABLE 1", "CKA_SENSITIVE 0", "CKA_PRIVATE 0", "CKA_WRAP 1", "CKA_UNWRAP 1",
                                 "CKA_DERIVE 1", "CKA_SIGN 1", "CKA_DECRYPT 0", "CKA_ENCRYPT 0", "CKA_TOKEN 0"}) {
    INFO(flag);
    scene.hsm.reset();
    {
      const FaultFor fault(scene.hsm, std::string("generate_sets ") + flag);
      CHECK_THROWS_AS(scene.ring->add({.token = "one"}), WrongKeyError);
      CHECK(scene.hsm.fired("generate_sets") == 1);
      CHECK(scene.hsm.calls("C_DestroyObject") == 1);
    }
    check_nothing_added(scene);
  }
}

TEST_CASE("F16: a token that refuses a security attribute makes no key") {
  const FaultyVault scene;
  for (const char* const attribute : {"CKA_EXTRACTABLE", "CKA_SENSITIVE", "CKA_WRAP", "CKA_LABEL"}) {
    INFO(attribute);
    scene.hsm.reset();
    {
      const FaultFor fault(scene.hsm, std::string("generate_rejects ") + attribute);
      const auto error = error_of<TokenError>([&] { return scene.ring->add({.token = "one"}); });
      CHECK(error.function() == "C_GenerateKey");
      CHECK_FALSE(error.retryable());
      CHECK(scene.hsm.fired("generate_rejects") > 0);
    }
    check_nothing_added(scene);
  }
  // What is not needed is not asked for.
  for (const char* const attribute : {"CKA_ALLOWED_MECHANISMS", "CKA_COPYABLE", "CKA_UNIQUE_ID", "CKA_DESTROYABLE"}) {
    const FaultFor fault(scene.hsm, std::string("generate_rejects ") + attribute);
    CHECK_NOTHROW(scene.ring->add({.token = "one"}));
  }
}

TEST_CASE("F17: a new key whose safety its token does not tell is refused") {
  const FaultyVault scene;
  for (const char* const attribute : {"CKA_EXTRACTABLE", "CKA_SENSITIVE", "CKA_PRIVATE", "CKA_TOKEN"}) {
    for (const char* const how : {"unknown", "minus_one", "empty", "wrong"}) {
      INFO(attribute << " " << how);
      scene.hsm.reset();
      {
        const FaultFor fault(scene.hsm, std::string("attribute ") + attribute + " " + how);
        CHECK_THROWS_AS(scene.ring->add({.token = "one"}), WrongKeyError);
        CHECK(scene.hsm.fired("attribute") > 0);
        CHECK(scene.hsm.calls("C_DestroyObject") == 1);
      }
      check_nothing_added(scene);
    }
  }
}

TEST_CASE("F17: a new key that does not show its id may be another key, and is not destroyed but named") {
  const FaultyVault scene;
  std::size_t left = 0;
  for (const char* const how : {"unknown", "minus_one", "empty", "wrong"}) {
    INFO(how);
    scene.hsm.reset();
    {
      const FaultFor fault(scene.hsm, std::string("attribute CKA_ID ") + how);
      const auto error = error_of<WrongKeyError>([&] { return scene.ring->add({.token = "one"}); });
      CHECK(std::string_view(error.what()).find("stays in the token, unused") != std::string_view::npos);
      CHECK(scene.hsm.fired("attribute") > 0);
      CHECK(scene.hsm.calls("C_DestroyObject") == 0);
    }
    CHECK(scene.ring->list().size() == 1);
    CHECK(scene.ring->orphans().size() == ++left);
    CHECK(scene.seals_and_opens());
  }
}

TEST_CASE("F1: a new key whose handle is renumbered at once is found again, and no other is destroyed") {
  const FaultyVault scene;
  scene.hsm.apply("renumber");
  scene.hsm.reset();
  const FaultFor fault(scene.hsm, "fail C_GetAttributeValue CKR_OBJECT_HANDLE_INVALID times=1");
  const auto version = scene.ring->add({.token = "one"});
  CHECK(scene.hsm.fired("fail") == 1);
  CHECK(scene.ring->active().version == version);
  CHECK(scene.hsm.calls("C_GenerateKey") == 1);
  CHECK(scene.hsm.calls("C_DestroyObject") == 0);
  CHECK(scene.seals_and_opens());
  CHECK(scene.ring->orphans().empty());
}

TEST_CASE("F17: attributes that a token does not know matter to no key that is in use") {
  const FaultyVault scene;
  for (const char* const attribute : {"CKA_CHECK_VALUE", "CKA_ALWAYS_SENSITIVE", "CKA_LABEL"}) {
    for (const char* const how : {"unknown", "minus_one", "empty"}) {
      INFO(attribute << " " << how);
      const FaultFor fault(scene.hsm, std::string("attribute ") + attribute + " " + how);
      CHECK_NOTHROW(scene.ring->add({.token = "one"}));
      CHECK(scene.opens_with(scene.another()));
    }
  }
  CHECK(scene.hsm.fired("attribute") > 0);
}

TEST_CASE("F18: of two keys with the set's id none is used") {
  const FaultyVault scene;
  const FaultFor fault(scene.hsm, "find duplicates");
  scene.hsm.apply("kill all");  // so that the key is looked up again
  CHECK_THROWS_AS(scene.opens(), WrongKeyError);
  CHECK(scene.hsm.fired("find") > 0);
  CHECK(scene.hsm.calls("C_Decrypt") == 0);
  scene.hsm.apply("find off");
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F18: a key that is found once, twice or not at all is used when it is found once") {
  const FaultyVault scene;
  const FaultFor fault(scene.hsm, "find zero_one_two");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("find") == 2);
  CHECK(scene.hsm.calls("C_GenerateKey") == 0);
}

TEST_CASE("F18: a public object with the id and label of a key is no key, and a driver that says so hides none") {
  const FaultyVault scene;
  const auto key = scene.ring->active().key;
  add_public_twin(scene.hsm, key);
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.opens_with(scene.another()));
  CHECK(scene.provider()->find_keys(scene.ring->id(), "one").size() == 1);

  const FaultFor fault(scene.hsm, "find twins");
  scene.hsm.apply("kill all");
  scene.hsm.reset();
  CHECK_THROWS_AS(scene.opens(), WrongKeyError);
  CHECK_THROWS_AS(scene.provider()->destroy(key), WrongKeyError);
  CHECK(scene.hsm.fired("find") >= 2);
  CHECK(scene.hsm.calls("C_Encrypt") + scene.hsm.calls("C_Decrypt") == 0);
  CHECK(scene.hsm.calls("C_DestroyObject") == 0);
  scene.hsm.apply("find off");
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F18: a public key beside the ring's, found alone while nobody is logged in, seals nothing") {
  const FaultyVault scene;
  const auto key = scene.ring->active().key;
  add_public_key(scene.hsm, key);
  scene.hsm.apply("lose_login");
  CHECK_THROWS_AS(scene.opens(), WrongKeyError);
  CHECK_THROWS_AS(scene.vault->seal(bytes_of("x"), kNoContext), WrongKeyError);
  CHECK(scene.hsm.fired("lose_login") > 0);

  // To a host that does not log in there is this one only, and it does not open what the ring's key does.
  const FaultyHsm outside(scene.hsm.shared_tokens());
  TokenBinding binding = outside.binding("one");
  binding.pin = PinSource::none();
  Host host = outside.bare_host();
  host.token("one", binding);
  CHECK_THROWS_AS(KeyRing::open(scene.store, pkcs11_provider(host), scene.pin), WrongKeyError);
  CHECK(outside.calls("C_Decrypt") > 0);
  CHECK(outside.calls("C_Login") == 0);
}

TEST_CASE("F18: a search that stays active is in nobody's way") {
  const FaultyVault scene;
  scene.hsm.apply("find stays_active");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK_NOTHROW(scene.ring->add({.token = "one"}));
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("find") > 0);
}

TEST_CASE("F18: a driver that hands out one handle at a time hides no second key") {
  const FaultyVault scene;
  const FaultFor one_by_one(scene.hsm, "find_limit 1");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  for (int i = 0; i < 3; ++i) scene.ring->add({.token = "one"});
  CHECK(scene.ring->orphans().empty());
  const auto provider = scene.provider();
  CHECK(provider->find_keys(scene.ring->id(), "one").size() == 4);
  CHECK(scene.hsm.fired("find_limit") > 0);

  const FaultFor twice(scene.hsm, "find duplicates");
  scene.hsm.apply("kill all");
  CHECK_THROWS_AS(scene.opens(), WrongKeyError);
  CHECK(scene.hsm.fired("find") > 0);
}
