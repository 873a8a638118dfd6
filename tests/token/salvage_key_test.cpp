#include <p11-kit/pkcs11.h>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using test::error_of;
using test::FaultyHsm;
using test::message_of;

namespace {

/// A key as a token alone describes it.
KeyDescription description_of(const FoundKey& found) {
  KeyDescription key;
  key.token = found.token;
  key.token_label = found.token_label;
  key.token_serial = found.token_serial;
  key.key_id = found.key_id;
  key.key_label = found.key_label;
  return key;
}

/// One key, something wrapped under it, and its wrapper without a proof from a provider that has not used it.
struct Salvage {
  FaultyHsm hsm;
  std::shared_ptr<KeyProvider> maker = pkcs11_provider(hsm.host());
  RingId ring = test::random_ring();
  KeyDescription made = maker->provision({.token = "one"}, ring, 1);
  SecretBytes secret = crypto::random_secret(32);
  Bytes wrapped = maker->connect(made, 1)->wrap(secret.view(), bytes_of("context"));
  std::shared_ptr<KeyProvider> provider = pkcs11_provider(hsm.host());
  KeyDescription found = description_of(provider->find_keys(ring, "").at(0));
  std::shared_ptr<KeyWrapper> wrapper = provider->connect(found, 1);

  [[nodiscard]] bool opens() const {
    return crypto::equal(wrapper->unwrap(wrapped, bytes_of("context")).view(), secret.view());
  }
};

}  // namespace

TEST_CASE("a key without a proof unwraps, and nothing is encrypted under it") {
  const Salvage salvage;
  salvage.hsm.reset();
  CHECK(salvage.opens());
  CHECK(salvage.hsm.calls("C_FindObjectsInit") == 1);
  CHECK(salvage.hsm.calls("C_Decrypt") == 1);
  Bytes changed = salvage.wrapped;
  changed.back() ^= std::byte{1};
  CHECK_THROWS_AS(salvage.wrapper->unwrap(changed, bytes_of("context")), OpenError);
  CHECK_THROWS_AS(salvage.wrapper->unwrap(salvage.wrapped, bytes_of("another")), OpenError);
  CHECK_THROWS_AS(salvage.wrapper->unwrap(ByteView{salvage.wrapped}.first(5), bytes_of("context")), OpenError);
  CHECK(salvage.opens());
  CHECK(salvage.hsm.calls("C_EncryptInit") == 0);
  CHECK(salvage.hsm.calls("C_Encrypt") == 0);
}

TEST_CASE("a key without a proof wraps nothing, and the token is not asked") {
  const Salvage salvage;
  for (const bool found_before : {false, true}) {
    if (found_before) REQUIRE(salvage.opens());
    salvage.hsm.reset();
    CHECK_NAMES(message_of<InvalidArgumentError>([&] { return salvage.wrapper->wrap(salvage.secret.view(), {}); }),
                "without a proof");
    CHECK_THROWS_AS(salvage.wrapper->wrap({}, {}), InvalidArgumentError);
    CHECK(salvage.hsm.calls_total() == 0);
  }
  CHECK_THROWS_AS(salvage.provider->destroy(salvage.found), InvalidArgumentError);
  CHECK(salvage.hsm.calls_total() == 0);
}

TEST_CASE("a token in trouble is told from a ciphertext that does not open, without a proof too") {
  const Salvage salvage;
  REQUIRE(salvage.opens());
  for (const unsigned long rv : {CKR_DEVICE_ERROR, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED}) {
    salvage.hsm.fail_next("C_Decrypt", rv);
    CHECK(salvage.opens());
    // Neither does the token show the key then, until it was logged in to again.
    salvage.hsm.fail_next("C_Decrypt", rv, 1);
    salvage.hsm.fail_next("C_GetAttributeValue", rv, 1);
    CHECK(salvage.opens());
    salvage.hsm.fail_next("C_Decrypt", rv, 1000);
    salvage.hsm.fail_next("C_GetAttributeValue", rv, 1000);
    CHECK(error_of<TokenError>([&] { return salvage.opens(); }).rv() == rv);
    salvage.hsm.fail_next("C_Decrypt", rv, 0);
    salvage.hsm.fail_next("C_GetAttributeValue", rv, 0);
    CHECK(salvage.opens());
  }
  for (const unsigned long rv : {CKR_HOST_MEMORY, CKR_SESSION_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID}) {
    salvage.hsm.fail_next("C_Decrypt", rv);
    CHECK(salvage.opens());
  }
  CHECK(salvage.opens());
}

TEST_CASE("a key without a proof is looked for on the token that showed it alone") {
  const Salvage salvage;
  for (const auto change : {&KeyDescription::token_label, &KeyDescription::token_serial}) {
    KeyDescription key = salvage.found;
    (key.*change).clear();
    CHECK_THROWS_AS(salvage.provider->connect(key, 1)->unwrap(salvage.wrapped, bytes_of("context")), WrongKeyError);
  }
  KeyDescription gone = salvage.found;
  gone.key_id.back() ^= std::byte{1};
  CHECK_THROWS_AS(salvage.provider->connect(gone, 1)->unwrap(salvage.wrapped, bytes_of("context")), KeyNotFoundError);
}

TEST_CASE("another key in the place of one without a proof does not open") {
  const Salvage salvage;
  auto session = test::logged_in(salvage.hsm, "one");
  test::replace_key(salvage.hsm, session, salvage.made);
  CHECK_THROWS_AS(salvage.opens(), OpenError);
  CHECK(salvage.hsm.calls("C_EncryptInit") > 0);  // by whoever made the key
}

TEST_CASE("a wrapper without a proof does not use the handle of a key that was destroyed") {
  const Salvage salvage;
  REQUIRE(salvage.opens());
  salvage.maker->destroy(salvage.made);
  salvage.hsm.reset();
  CHECK_THROWS_AS(salvage.opens(), KeyNotFoundError);
  CHECK(salvage.hsm.calls("C_DecryptInit") == 0);
}
