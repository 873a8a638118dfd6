#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

#include <hsmseal/pkcs11_session.hpp>

#include "crypto/crypto.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using test::error_of;
using test::message_of;
using test::SoftHsm;

namespace {

constexpr const char* kTwelveBytes = "twelve bytes";

Pkcs11Session logged_in(const std::string& token = "one") {
  Pkcs11Session session{SoftHsm::instance().module(), {.label = token}};
  session.login(SoftHsm::instance().binding(token).pin);
  return session;
}

Bytes random_bytes(std::size_t size) {
  Bytes bytes(size);
  crypto::random_fill(bytes);
  return bytes;
}

KeyHandle session_key(Pkcs11Session& session, KeyUse use = KeyUse::EncryptDecrypt, std::size_t bytes = 32) {
  return session.generate_aes_key(
      {.id = random_bytes(16), .label = "of a session", .use = use, .lifetime = KeyLifetime::Session, .bytes = bytes});
}

Bytes from_hex(const std::string& text) {
  const auto bytes = crypto::from_hex(text);
  REQUIRE(bytes);
  return *bytes;
}

Bytes copy_of(ByteView bytes) { return {bytes.begin(), bytes.end()}; }

/// Puts a known HMAC key into the token, past hsmseal, which cannot.
void create_hmac_key(const TokenInfo& token, const Bytes& id, Bytes value) {
  void* const library = ::dlopen(SoftHsm::library().c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  REQUIRE(library != nullptr);
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(::dlsym(library, "C_GetFunctionList"))(&list) == CKR_OK);
  CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
  REQUIRE(list->C_OpenSession(token.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session) == CKR_OK);
  CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  CK_KEY_TYPE generic = CKK_GENERIC_SECRET;
  CK_BBOOL yes = CK_TRUE;
  Bytes key_id = id;
  std::array attributes{CK_ATTRIBUTE{CKA_CLASS, &secret_key, sizeof secret_key},
                        CK_ATTRIBUTE{CKA_KEY_TYPE, &generic, sizeof generic},
                        CK_ATTRIBUTE{CKA_ID, key_id.data(), static_cast<CK_ULONG>(key_id.size())},
                        CK_ATTRIBUTE{CKA_TOKEN, &yes, sizeof yes},
                        CK_ATTRIBUTE{CKA_SIGN, &yes, sizeof yes},
                        CK_ATTRIBUTE{CKA_VALUE, value.data(), static_cast<CK_ULONG>(value.size())}};
  CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
  REQUIRE(list->C_CreateObject(session, attributes.data(), static_cast<CK_ULONG>(attributes.size()), &made) == CKR_OK);
  REQUIRE(list->C_CloseSession(session) == CKR_OK);
}

}  // namespace

TEST_CASE("the right PIN logs in, and does so again in vain") {
  Pkcs11Session session{SoftHsm::instance().module(), {.label = "one"}};
  CHECK(session.token().label == "one");
  CHECK_THROWS_AS(session_key(session), TokenError);
  session = Pkcs11Session{SoftHsm::instance().module(), {.label = "one"}};
  session.login(SoftHsm::instance().binding("one").pin);
  session.login(SoftHsm::instance().binding("one").pin);
  session_key(session);
  CHECK(session.usable());
}

TEST_CASE("a new key has every attribute that was asked for") {
  auto session = logged_in();
  const Bytes id = random_bytes(16);
  const KeyHandle key = session.generate_aes_key({.id = id, .label = "attributes"});
  const KeyAttributes told = session.attributes(key);
  CHECK(told.key_type == std::uint64_t{CKK_AES});
  CHECK(told.value_bytes == 32U);
  CHECK(told.id == id);
  CHECK(told.label == "attributes");
  CHECK(told.token == true);
  CHECK(told.is_private == true);
  CHECK(told.sensitive == true);
  CHECK(told.always_sensitive == true);
  CHECK(told.extractable == false);
  CHECK(told.never_extractable == true);
  CHECK(told.encrypt == true);
  CHECK(told.decrypt == true);
  CHECK(told.wrap == false);
  CHECK(told.unwrap == false);
  CHECK(told.sign == false);
  CHECK(told.verify == false);
  CHECK(told.derive == false);
}

TEST_CASE("a key for signing does nothing else") {
  auto session = logged_in();
  const KeyHandle key = session_key(session, KeyUse::SignVerify, 16);
  const KeyAttributes told = session.attributes(key);
  CHECK(told.value_bytes == 16U);
  CHECK(told.token == false);
  CHECK(told.sign == true);
  CHECK(told.verify == true);
  CHECK(told.encrypt == false);
  CHECK(told.decrypt == false);
  CHECK(error_of<TokenError>([&] {
          return session.encrypt(key, {.iv = bytes_of(kTwelveBytes), .aad = {}}, {});
        }).rv_name() == "CKR_KEY_FUNCTION_NOT_PERMITTED");
}

TEST_CASE("a key is found by id, by label or both, also from another session") {
  auto session = logged_in();
  const Bytes id = random_bytes(16);
  const KeyHandle key = session.generate_aes_key({.id = id, .label = "to be found"});
  auto other = logged_in();
  CHECK(session.find_key({.id = id, .label = std::nullopt}) == key);
  CHECK(other.find_key({.id = id, .label = std::nullopt}) == key);
  CHECK(other.find_key({.id = std::nullopt, .label = "to be found"}) == key);
  CHECK(other.find_key({.id = id, .label = "to be found"}) == key);
  CHECK_FALSE(other.find_key({.id = id, .label = "another label"}));
  CHECK_FALSE(other.find_key({.id = random_bytes(16), .label = "to be found"}));
  CHECK(other.usable());
}

TEST_CASE("two keys with one id or one label are refused") {
  auto session = logged_in();
  const Bytes id = random_bytes(16);
  const KeyHandle first = session.generate_aes_key({.id = id, .label = "first of two"});
  CHECK(session.generate_aes_key({.id = id, .label = "second of two"}) != first);
  CHECK(session.generate_aes_key({.id = random_bytes(16), .label = "second of two"}) != first);
  const auto message = message_of<WrongKeyError>([&] { return session.find_key({.id = id, .label = std::nullopt}); });
  CHECK_NAMES(message, "on token 'one'");
  CHECK_NAMES(message, "destroy the one");
  CHECK_NAMES(
      message_of<WrongKeyError>([&] { return session.find_key({.id = std::nullopt, .label = "second of two"}); }),
      "label 'second of two'");
  CHECK(session.find_key({.id = id, .label = "first of two"}) == first);
}

TEST_CASE("what is encrypted in one session is decrypted in another, at any size, with and without associated data") {
  auto session = logged_in();
  auto other = logged_in();
  const Bytes id = random_bytes(16);
  const KeyHandle key = session.generate_aes_key({.id = id, .label = "round trip"});
  const auto found = other.find_key({.id = id, .label = std::nullopt});
  REQUIRE(found);
  for (const std::size_t size : {0U, 1U, 16U, 100U, 4096U}) {
    for (const std::size_t aad_size : {0U, 1U, 100U}) {
      for (const std::size_t iv_size : {12U, 16U}) {
        CAPTURE(size, aad_size, iv_size);
        const Bytes text = random_bytes(size), aad = random_bytes(aad_size), iv = random_bytes(iv_size);
        const Bytes sealed = session.encrypt(key, {.iv = iv, .aad = aad}, text);
        CHECK(sealed.size() == size + 16);
        const SecretBytes opened = other.decrypt(*found, {.iv = iv, .aad = aad}, sealed);
        CHECK(copy_of(opened.view()) == text);
      }
    }
  }
}

TEST_CASE("changed ciphertext, IV or associated data is refused by the token") {
  auto session = logged_in();
  const Bytes id = random_bytes(16);
  const KeyHandle key = session.generate_aes_key({.id = id, .label = "changes"});
  const Bytes iv = random_bytes(12), aad = random_bytes(12);
  const Bytes sealed = session.encrypt(key, {.iv = iv, .aad = aad}, bytes_of("a secret"));
  const auto refused = [&](ByteView with_iv, ByteView with_aad, ByteView ciphertext) {
    auto fresh = logged_in();
    const auto error =
        error_of<TokenError>([&] { return fresh.decrypt(key, {.iv = with_iv, .aad = with_aad}, ciphertext); });
    CHECK(error.function() == "C_Decrypt");
    CHECK(std::string{error.what()} == "C_Decrypt failed: CKR_GENERAL_ERROR (0x5) on token 'one'");
    CHECK_FALSE(fresh.usable());
  };
  Bytes changed = sealed;
  changed.back() ^= std::byte{1};
  refused(iv, aad, changed);
  refused(random_bytes(12), aad, sealed);
  refused(iv, random_bytes(12), sealed);
  refused(iv, {}, sealed);
  refused(iv, aad, ByteView{sealed}.first(sealed.size() - 1));
  CHECK(session.decrypt(key, {.iv = iv, .aad = aad}, sealed).text() == "a secret");
}

TEST_CASE("the token's AES-GCM is the host's, in both directions") {
  const Bytes key = from_hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
  SoftHsm::instance().import_aes_key("one", "known-gcm", "6b6e6f776e67636d", key);
  auto session = logged_in();
  const auto handle = session.find_key({.id = std::nullopt, .label = "known-gcm"});
  REQUIRE(handle);
  REQUIRE(session.attributes(*handle).value_bytes == key.size());
  for (const std::size_t size : {0U, 1U, 31U, 32U, 1000U}) {
    const Bytes text = random_bytes(size), aad = random_bytes(size % 7), iv = random_bytes(crypto::kNonceBytes);
    SecretBytes host{text};
    std::array<std::byte, crypto::kTagBytes> tag{};
    crypto::aes256_gcm_encrypt(key, iv, aad, host.writable(), tag);
    Bytes by_host = copy_of(host.view());
    by_host.insert(by_host.end(), tag.begin(), tag.end());
    Bytes by_token = session.encrypt(*handle, {.iv = iv, .aad = aad}, text);
    CHECK(by_token == by_host);
    CHECK(copy_of(session.decrypt(*handle, {.iv = iv, .aad = aad}, by_host).view()) == text);
    SecretBytes opened{ByteView{by_token}.first(size)};
    CHECK(crypto::aes256_gcm_decrypt(key, iv, aad, opened.writable(), ByteView{by_token}.last<crypto::kTagBytes>()));
    CHECK(copy_of(opened.view()) == text);
  }
}

TEST_CASE("a CMAC is that of NIST SP 800-38B") {
  const Bytes key = from_hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
  const Bytes text = from_hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411");
  SoftHsm::instance().import_aes_key("one", "known-cmac", "6b6e6f776e636d6163", key);
  auto session = logged_in();
  const auto handle = session.find_key({.id = std::nullopt, .label = "known-cmac"});
  REQUIRE(handle);
  const auto mac = [&](std::size_t size) {
    return session.sign(*handle, MacMechanism::AesCmac, ByteView{text}.first(size));
  };
  CHECK(mac(0) == from_hex("028962f61b7bf89efc6b551f4667d983"));
  CHECK(mac(16) == from_hex("28a7023f452e8f82bd4bf28d8c37c35c"));
  CHECK(mac(40) == from_hex("aaf3d8f1de5640c232f5b169b9c911e6"));
}

TEST_CASE("a MAC is 16 bytes, the same for the same data, and another for other data or another key") {
  auto session = logged_in();
  const KeyHandle key = session_key(session, KeyUse::SignVerify);
  const KeyHandle other_key = session_key(session, KeyUse::SignVerify);
  const Bytes mac = session.sign(key, MacMechanism::AesCmac, bytes_of("data"));
  CHECK(mac.size() == 16);
  CHECK(session.sign(key, MacMechanism::AesCmac, bytes_of("data")) == mac);
  CHECK(session.sign(key, MacMechanism::AesCmac, bytes_of("Data")) != mac);
  CHECK(session.sign(other_key, MacMechanism::AesCmac, bytes_of("data")) != mac);
}

TEST_CASE("the token's HMAC-SHA-256 is the host's") {
  auto session = logged_in();
  const Bytes id = random_bytes(16), value = random_bytes(32);
  create_hmac_key(session.token(), id, value);
  const auto key = session.find_key({.id = id, .label = std::nullopt});
  REQUIRE(key);
  for (const std::size_t size : {0U, 1U, 64U, 1000U}) {
    const Bytes data = random_bytes(size);
    const auto expected = crypto::hmac_sha256(value, data);
    CHECK(session.sign(*key, MacMechanism::HmacSha256, data) == copy_of(expected));
  }
}

TEST_CASE("the token's AES-CBC is that of NIST SP 800-38A, in both directions") {
  const Bytes key = from_hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
  const Bytes iv = from_hex("000102030405060708090a0b0c0d0e0f");
  const Bytes text = from_hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
  const Bytes expected = from_hex("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d");
  SoftHsm::instance().import_aes_key("one", "known-cbc", "6b6e6f776e636263", key);
  auto session = logged_in();
  const auto handle = session.find_key({.id = std::nullopt, .label = "known-cbc"});
  REQUIRE(handle);
  CHECK(session.encrypt(*handle, AesCbc{iv}, text) == expected);
  CHECK(copy_of(session.decrypt(*handle, AesCbc{iv}, expected).view()) == text);
  for (const std::size_t size : {0U, 15U, 17U, 31U}) {
    CHECK_THROWS_AS(session.encrypt(*handle, AesCbc{iv}, Bytes(size)), InvalidArgumentError);
    CHECK_THROWS_AS(session.decrypt(*handle, AesCbc{iv}, Bytes(size)), InvalidArgumentError);
    CHECK_THROWS_AS(session.encrypt(*handle, AesCbc{Bytes(size)}, text), InvalidArgumentError);
  }
  CHECK(session.usable());
}

TEST_CASE("a key for MACs signs, and does nothing else") {
  auto session = logged_in();
  const KeyTemplate wanted{
      .id = random_bytes(16), .label = "of a session", .use = KeyUse::Mac, .lifetime = KeyLifetime::Session};
  const KeyHandle key = session.generate_mac_key(wanted);
  const KeyAttributes told = session.attributes(key);
  CHECK(told.key_type == CKK_GENERIC_SECRET);
  CHECK(told.value_bytes == 32U);
  CHECK(told.sign == true);
  for (const auto& other : {told.verify, told.encrypt, told.decrypt, told.wrap, told.unwrap, told.derive}) {
    CHECK_FALSE(other.value_or(true));
  }
  CHECK(session.sign(key, MacMechanism::HmacSha256, bytes_of("data")).size() == 32);
  CHECK_THROWS_AS(session.generate_aes_key(wanted), InvalidArgumentError);
  CHECK_THROWS_AS(session.generate_mac_key({.id = random_bytes(16)}), InvalidArgumentError);
  CHECK_THROWS_AS(session.generate_mac_key({.id = random_bytes(16), .use = KeyUse::Mac, .bytes = 16}),
                  InvalidArgumentError);
  CHECK(session.usable());
}

TEST_CASE("random bytes come in every size, each time others") {
  const test::FaultyHsm hsm;
  Pkcs11Session session{hsm.module(), {.label = "one"}};
  std::size_t sizes = 0;
  for (std::size_t size = 1; size <= 3000; size += 13, ++sizes) {
    CAPTURE(size);
    hsm.reset();
    const SecretBytes bytes = session.random(size);
    REQUIRE(bytes.size() == size);
    // Pieces of 8 to 1024 bytes.
    CHECK(hsm.calls("C_GenerateRandom") == (size + 1023) / 1024);
    if (size >= 8) CHECK_FALSE(crypto::equal(bytes.view(), session.random(size).view()));
    // No part of 16 bytes was left as it was.
    for (std::size_t at = 0; at + 16 <= size; at += 16) {
      const auto part = bytes.view().subspan(at, 16);
      if (std::ranges::all_of(part, [](std::byte b) { return b == std::byte{0}; })) FAIL("zeros at " << at);
    }
  }
  CHECK(sizes == 231);
  CHECK(session.random(0).empty());
}

TEST_CASE("an error says which function failed, its number, its name and whether to try again") {
  auto session = logged_in();
  const auto error = error_of<TokenError>(
      [&] { return session.encrypt({.value = 999'999}, {.iv = bytes_of(kTwelveBytes), .aad = {}}, bytes_of("text")); });
  CHECK(error.code() == ErrorCode::Token);
  CHECK(error.function() == "C_EncryptInit");
  CHECK(error.rv() == CKR_OBJECT_HANDLE_INVALID);
  CHECK(error.rv_name() == "CKR_OBJECT_HANDLE_INVALID");
  CHECK_FALSE(error.retryable());
  CHECK(std::string{error.what()} == "C_EncryptInit failed: CKR_OBJECT_HANDLE_INVALID (0x82) on token 'one'");
}

TEST_CASE("each function of a session is named when it fails") {
  const test::FaultyHsm hsm;
  Pkcs11Session keeper{hsm.module(), {.label = "one"}};
  keeper.login(hsm.binding("one").pin);
  const KeyHandle key = session_key(keeper);
  const KeyHandle mac_key = session_key(keeper, KeyUse::SignVerify);
  const AesGcm gcm{.iv = bytes_of(kTwelveBytes), .aad = {}};
  const Bytes sealed = keeper.encrypt(key, gcm, bytes_of("text"));
  const auto fails_in = [&](const char* function, const auto& work) {
    CAPTURE(function);
    Pkcs11Session session{hsm.module(), {.label = "one"}};
    hsm.fail_next(function, CKR_DEVICE_ERROR);
    const auto error = error_of<TokenError>([&] {
      work(session);
      return 0;
    });
    CHECK(error.function() == function);
    CHECK(error.retryable());
    CHECK(std::string{error.what()} == std::string{function} + " failed: CKR_DEVICE_ERROR (0x30) on token 'one'");
    CHECK_FALSE(session.usable());
  };
  const auto encrypt = [&](Pkcs11Session& session) { static_cast<void>(session.encrypt(key, gcm, bytes_of("text"))); };
  const auto decrypt = [&](Pkcs11Session& session) { static_cast<void>(session.decrypt(key, gcm, sealed)); };
  const auto sign = [&](Pkcs11Session& session) {
    static_cast<void>(session.sign(mac_key, MacMechanism::AesCmac, bytes_of("text")));
  };
  const auto find = [&](Pkcs11Session& session) {
    static_cast<void>(session.find_key({.id = Bytes(1), .label = std::nullopt}));
  };
  fails_in("C_EncryptInit", encrypt);
  fails_in("C_Encrypt", encrypt);
  fails_in("C_DecryptInit", decrypt);
  fails_in("C_Decrypt", decrypt);
  fails_in("C_SignInit", sign);
  fails_in("C_Sign", sign);
  fails_in("C_FindObjectsInit", find);
  fails_in("C_FindObjects", find);
  fails_in("C_FindObjectsFinal", find);
  fails_in("C_GenerateKey", [&](Pkcs11Session& session) { session_key(session); });
  fails_in("C_GetAttributeValue", [&](Pkcs11Session& session) { static_cast<void>(session.attributes(key)); });
  fails_in("C_GenerateRandom", [&](Pkcs11Session& session) { static_cast<void>(session.random(32)); });
  hsm.fail_next("C_OpenSession", CKR_SESSION_COUNT);
  CHECK(message_of<TokenError>([&] {
          return Pkcs11Session{hsm.module(), {.label = "one"}};
        }) == "C_OpenSession failed: CKR_SESSION_COUNT (0xb1) on token 'one'");
}

TEST_CASE("after a failed call a session takes no other, and says what to do") {
  auto session = logged_in();
  const KeyHandle key = session_key(session);
  CHECK_THROWS_AS(session.encrypt({.value = 999'999}, {.iv = bytes_of(kTwelveBytes), .aad = {}}, {}), TokenError);
  CHECK_FALSE(session.usable());
  const auto refused = [&](const auto& work) {
    const auto message = message_of<InvalidArgumentError>(work);
    CHECK_NAMES(message, "token 'one'");
    CHECK_NAMES(message, "open a new session");
  };
  refused([&] { return session.encrypt(key, {.iv = bytes_of(kTwelveBytes), .aad = {}}, {}); });
  refused([&] { return session.decrypt(key, {.iv = bytes_of(kTwelveBytes), .aad = {}}, Bytes(16)); });
  refused([&] { return session.sign(key, MacMechanism::AesCmac, {}); });
  refused([&] { return session.random(8); });
  refused([&] { return session.find_key({.id = Bytes(1), .label = std::nullopt}); });
  refused([&] { return session.attributes(key); });
  refused([&] { return session_key(session); });
  refused([&] {
    session.login(PinSource::none());
    return 0;
  });
}

TEST_CASE("bad arguments do not reach the token and do not spend the session") {
  const test::FaultyHsm hsm;
  Pkcs11Session session{hsm.module(), {.label = "one"}};
  session.login(hsm.binding("one").pin);
  const KeyHandle key = session_key(session);
  hsm.reset();
  const Bytes long_iv(257);
  CHECK_THROWS_AS(session.find_key({}), InvalidArgumentError);
  CHECK_THROWS_AS(session.encrypt(key, {.iv = {}, .aad = {}}, {}), InvalidArgumentError);
  CHECK_THROWS_AS(session.encrypt(key, {.iv = long_iv, .aad = {}}, {}), InvalidArgumentError);
  CHECK_THROWS_AS(session.decrypt(key, {.iv = {}, .aad = {}}, Bytes(16)), InvalidArgumentError);
  CHECK_THROWS_AS(session.decrypt(key, {.iv = bytes_of(kTwelveBytes), .aad = {}}, Bytes(15)), InvalidArgumentError);
  CHECK_THROWS_AS(session.generate_aes_key({.id = {}, .label = "k"}), InvalidArgumentError);
  CHECK_THROWS_AS(session.generate_aes_key({.id = Bytes(256), .label = "k"}), InvalidArgumentError);
  CHECK_THROWS_AS(session_key(session, KeyUse::EncryptDecrypt, 31), InvalidArgumentError);
  CHECK(hsm.calls_total() == 0);
  CHECK(session.usable());
}

TEST_CASE("closing a session leaves the process logged in through another, and the last ends the login") {
  const test::FaultyHsm hsm;
  const auto module = hsm.module();
  Pkcs11Session first{module, {.label = "one"}};
  first.login(hsm.binding("one").pin);
  Pkcs11Session second{module, {.label = "one"}};
  first.close();
  CHECK_FALSE(first.usable());
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return first.random(8); }),
              "the session with token 'one' is closed");
  session_key(second);
  first.close();
  second.close();
  CHECK(hsm.calls("C_CloseSession") == 2);
  CHECK(hsm.open_sessions() == 0);
  Pkcs11Session third{module, {.label = "one"}};
  CHECK(error_of<TokenError>([&] { return session_key(third); }).rv_name() == "CKR_USER_NOT_LOGGED_IN");
  CHECK(hsm.calls("C_Login") == 1);
  CHECK(hsm.calls("C_Logout") == 0);
}

TEST_CASE("a session moves, and closes once") {
  const test::FaultyHsm hsm;
  {
    Pkcs11Session first{hsm.module(), {.label = "one"}};
    Pkcs11Session second{std::move(first)};
    CHECK(second.usable());
    Pkcs11Session third{hsm.module(), {.label = "one"}};
    CHECK(hsm.open_sessions() == 2);
    third = std::move(second);
    CHECK(hsm.open_sessions() == 1);
    CHECK(third.random(8).size() == 8);
  }
  CHECK(hsm.open_sessions() == 0);
  CHECK(hsm.calls("C_CloseSession") == 2);
}

TEST_CASE("a read-only session makes keys of its own but none in the token") {
  auto keeper = logged_in();
  const auto read_only = [] {
    return Pkcs11Session{SoftHsm::instance().module(), {.label = "one"}, SessionMode::ReadOnly};
  };
  auto session = read_only();
  session_key(session);
  CHECK(error_of<TokenError>([&] {
          return session.generate_aes_key({.id = random_bytes(16), .label = "none"});
        }).rv_name() == "CKR_SESSION_READ_ONLY");
  CHECK_FALSE(read_only().find_key({.id = std::nullopt, .label = "none"}));
}

TEST_CASE("a session needs a module") {
  CHECK_THROWS_AS((Pkcs11Session{nullptr, {.label = "one"}}), InvalidArgumentError);
}
