// Keys that are not made as asked for (F16), and what drivers say of keys (F17, F18).

#include "fault/faulty_vault.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using Catch::Matchers::Contains;

namespace {

/// What does not lead to a set: the ring is as before, and no key was left.
void check_nothing_added(const FaultyVault& scene) {
  CHECK(scene.ring->list().size() == 1);
  CHECK(scene.ring->orphans().empty());
  CHECK(scene.seals_and_opens());
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
      CHECK_THAT(error.what(), Contains("stays in the token, unused"));
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
