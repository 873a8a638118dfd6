#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include <p11-kit/pkcs11.h>

#include "core/hex.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "token/in_threads.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using test::error_of;
using test::FaultyHsm;
using test::logged_in;
using test::message_of;
using test::replace_key;

namespace {

/// A token with two keys of a ring, and the provider that made them.
struct TwoKeys {
  FaultyHsm hsm{{"one", "two"}};
  RingId ring = test::random_ring();
  std::shared_ptr<KeyProvider> provider = pkcs11_provider(hsm.host());
  KeyDescription first = provider->provision({.token = "one"}, ring, 1);
  KeyDescription second = provider->provision({.token = "one"}, ring, 2);

  /// Whether the token shows a key with this id to a session that has nothing to do with the provider.
  [[nodiscard]] bool shows(const KeyDescription& key) const {
    return logged_in(hsm, "one").find_key({.id = key.key_id}).has_value();
  }

  /// The error of destroying, which destroyed nothing.
  template <typename Expected>
  Expected refusal(const KeyDescription& key) {
    hsm.reset();
    auto error = error_of<Expected>([&] {
      provider->destroy(key);
      return 0;
    });
    CHECK(hsm.calls("C_DestroyObject") == 0);
    return error;
  }
};

const Bytes kSecret(32, std::byte{7});

}  // namespace

TEST_CASE("a key that is destroyed is gone, and the others stay") {
  TwoKeys keys;
  keys.hsm.reset();
  keys.provider->destroy(keys.first);
  CHECK(keys.hsm.calls("C_DestroyObject") == 1);
  CHECK(keys.hsm.calls("C_FindObjectsInit") == 2);  // for it, and whether it is gone
  CHECK_FALSE(keys.shows(keys.first));
  CHECK(keys.shows(keys.second));
  const auto found = keys.provider->find_keys(keys.ring, "");
  REQUIRE(found.size() == 1);
  CHECK(found[0].key_id == keys.second.key_id);
  CHECK(keys.provider->connect(keys.second, 1)->wrap(kSecret, {}).size() == 12 + 32 + 16);
  const auto error = keys.refusal<KeyNotFoundError>(keys.first);
  CHECK_NAMES(error.what(), "no key with CKA_ID " + core::to_hex(keys.first.key_id));
}

TEST_CASE("a key is searched, proved and destroyed in one session") {
  TwoKeys keys;
  for (const char* function : {"C_FindObjectsInit", "C_FindObjects", "C_DecryptInit", "C_Decrypt"}) {
    REQUIRE(keys.hsm.last_session(function) != 0);
  }
  keys.provider->destroy(keys.first);
  const unsigned long session = keys.hsm.last_session("C_DestroyObject");
  REQUIRE(session != 0);
  for (const char* function : {"C_FindObjectsInit", "C_FindObjects", "C_DecryptInit", "C_Decrypt"}) {
    CAPTURE(function);
    CHECK(keys.hsm.last_session(function) == session);
  }
}

TEST_CASE("a provider that never used the key destroys it") {
  TwoKeys keys;
  pkcs11_provider(keys.hsm.host())->destroy(keys.first);
  CHECK_FALSE(keys.shows(keys.first));
}

TEST_CASE("another key under the same id is not destroyed") {
  TwoKeys keys;
  {
    auto session = logged_in(keys.hsm, "one");
    replace_key(keys.hsm, session, keys.first);
  }
  const auto error = keys.refusal<WrongKeyError>(keys.first);
  CHECK_NAMES(error.what(), keys.first.kek_id.to_string());
  CHECK_NAMES(error.what(), "nothing was destroyed");
  CHECK(keys.shows(keys.first));
}

TEST_CASE("neither of two keys with one id is destroyed") {
  TwoKeys keys;
  auto session = logged_in(keys.hsm, "one");
  static_cast<void>(session.generate_aes_key({.id = keys.first.key_id, .label = "a second one"}));
  CHECK_NAMES(keys.refusal<WrongKeyError>(keys.first).what(), "more than one key");
  CHECK(session.find_key({.id = keys.first.key_id, .label = keys.first.key_label}));
  CHECK(session.find_key({.id = keys.first.key_id, .label = "a second one"}));
}

TEST_CASE("a description that does not fit the key destroys nothing") {
  TwoKeys keys;
  KeyDescription of_other_kek = keys.first, other_proof = keys.first, cut_proof = keys.first, no_proof = keys.first;
  of_other_kek.kek_id = keys.second.kek_id;
  other_proof.proof = keys.second.proof;
  cut_proof.proof.wrapped.resize(5);
  no_proof.proof.wrapped.clear();
  for (const auto& key : {of_other_kek, other_proof, cut_proof}) {
    CHECK_NAMES(keys.refusal<WrongKeyError>(key).what(), "nothing was destroyed");
  }
  KeyDescription other_digest = keys.first;
  other_digest.proof.digest[0] ^= std::byte{1};
  CHECK_NAMES(keys.refusal<WrongKeyError>(other_digest).what(), "nothing was destroyed");
  CHECK_NAMES(keys.refusal<InvalidArgumentError>(no_proof).what(), "without a proof");
  CHECK(keys.hsm.calls_total() == 0);
  KeyDescription unbound = keys.first;
  unbound.token = "elsewhere";
  CHECK_NAMES(keys.refusal<InvalidArgumentError>(unbound).what(), "is not bound on this host");
  CHECK(keys.shows(keys.first));
  CHECK(keys.shows(keys.second));
}

TEST_CASE("a key is not looked for on another token, and no PIN is sent there") {
  const TwoKeys keys;
  for (const bool label : {true, false}) {
    KeyDescription key = keys.first;
    (label ? key.token_label : key.token_serial) += "x";
    keys.hsm.reset();
    const auto provider = pkcs11_provider(keys.hsm.host());
    CHECK_NAMES(message_of<WrongKeyError>([&] {
                  provider->destroy(key);
                  return 0;
                }),
                "correct the binding");
    CHECK(keys.hsm.calls("C_Login") == 0);
    CHECK(keys.hsm.calls("C_FindObjectsInit") == 0);
    CHECK(keys.hsm.calls("C_DestroyObject") == 0);
  }
  KeyDescription moved = keys.first;
  moved.token = "two";
  moved.token_label = "two";
  moved.token_serial = keys.hsm.module()->token({.label = "two"}).serial;
  CHECK_THROWS_AS(keys.provider->destroy(moved), KeyNotFoundError);
  CHECK(keys.shows(keys.first));
}

TEST_CASE("a wrong PIN is tried once, however often a key is to be destroyed") {
  const FaultyHsm hsm;
  const KeyDescription key = pkcs11_provider(hsm.host())->provision({.token = "one"}, test::random_ring(), 1);
  REQUIRE(hsm.open_sessions() == 0);
  TokenBinding binding = hsm.binding("one");
  binding.pin = PinSource::callback([](const TokenSelector&) { return SecretBytes::from_text("not-the-pin-5309"); });
  Host host = hsm.bare_host();
  host.token("one", binding);
  const auto provider = pkcs11_provider(host);
  hsm.reset();
  for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(provider->destroy(key), TokenLoginError);
  CHECK(hsm.calls("C_Login") == 1);
  CHECK(hsm.calls("C_DestroyObject") == 0);
}

TEST_CASE("a key that is only invisible is not said to be gone") {
  const FaultyHsm hsm;
  const KeyDescription key = pkcs11_provider(hsm.host())->provision({.token = "one"}, test::random_ring(), 1);
  REQUIRE(hsm.open_sessions() == 0);
  TokenBinding binding = hsm.binding("one");
  binding.pin = PinSource::none();
  Host host = hsm.bare_host();
  host.token("one", binding);
  const auto error = error_of<TokenError>([&] {
    pkcs11_provider(host)->destroy(key);
    return 0;
  });
  CHECK(error.rv_name() == "CKR_USER_NOT_LOGGED_IN");
}

TEST_CASE("a token that fails on the way destroys nothing, and does when it works again") {
  TwoKeys keys;
  for (const char* function : {"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_DecryptInit", "C_Decrypt",
                               "C_GetAttributeValue"}) {
    CAPTURE(function);
    keys.hsm.fail_next(function, CKR_DEVICE_ERROR);
    const auto error = keys.refusal<TokenError>(keys.first);
    CHECK(error.function() == function);
    CHECK(error.rv() == CKR_DEVICE_ERROR);
    CHECK(keys.shows(keys.first));
  }
  keys.provider->destroy(keys.first);
  CHECK_FALSE(keys.shows(keys.first));
}

TEST_CASE("a token that refuses to destroy is reported") {
  TwoKeys keys;
  for (const unsigned long rv : {CKR_ACTION_PROHIBITED, CKR_FUNCTION_FAILED}) {
    keys.hsm.fail_next("C_DestroyObject", rv);
    const auto error = error_of<TokenError>([&] {
      keys.provider->destroy(keys.first);
      return 0;
    });
    CHECK(error.function() == "C_DestroyObject");
    CHECK(error.rv() == rv);
  }
  // Nothing that was done in this process makes the key unusable.
  CHECK(keys.provider->connect(keys.first, 1)->wrap(kSecret, {}).size() == 60);
}

TEST_CASE("a token that says it destroyed a key and still shows it is not believed") {
  TwoKeys keys;
  keys.hsm.fail_next("C_DestroyObject", CKR_OK);
  const auto error = error_of<TokenError>([&] {
    keys.provider->destroy(keys.first);
    return 0;
  });
  CHECK(error.function() == "C_DestroyObject");
  CHECK_FALSE(error.retryable());
  CHECK_NAMES(error.what(), "is still found");
  keys.provider->destroy(keys.first);
  CHECK_FALSE(keys.shows(keys.first));
}

TEST_CASE("a wrapper that knew a destroyed key looks for it again instead of using its handle") {
  TwoKeys keys;
  const auto other_provider = pkcs11_provider(keys.hsm.host());
  const auto old = keys.provider->connect(keys.first, 1), of_other = other_provider->connect(keys.first, 1),
             second = keys.provider->connect(keys.second, 1);
  const Bytes wrapped = old->wrap(kSecret, {});
  REQUIRE(of_other->unwrap(wrapped, {}).size() == kSecret.size());
  const Bytes wrapped_by_second = second->wrap(kSecret, {});
  keys.provider->destroy(keys.first);
  for (const auto& wrapper : {old, of_other}) {
    keys.hsm.reset();
    CHECK_THROWS_AS(wrapper->wrap(kSecret, {}), KeyNotFoundError);
    CHECK_THROWS_AS(wrapper->unwrap(wrapped, {}), KeyNotFoundError);
    CHECK(keys.hsm.calls("C_EncryptInit") == 0);
    CHECK(keys.hsm.calls("C_DecryptInit") == 0);
    CHECK(keys.hsm.calls("C_FindObjectsInit") == 2 * 4);  // a key may come to a group's members late
  }
  // Another key's wrapper goes on with its handle.
  keys.hsm.reset();
  CHECK(second->unwrap(wrapped_by_second, {}).size() == kSecret.size());
  CHECK(keys.hsm.calls("C_FindObjectsInit") == 0);
  // A new key in the old place is looked at before it is used.
  auto session = logged_in(keys.hsm, "one");
  static_cast<void>(session.generate_aes_key({.id = keys.first.key_id, .label = keys.first.key_label}));
  CHECK_THROWS_AS(old->wrap(kSecret, {}), WrongKeyError);
  CHECK_THROWS_AS(old->unwrap(wrapped, {}), WrongKeyError);
}

TEST_CASE("a key whose destruction failed goes on, after it was looked for again") {
  TwoKeys keys;
  const auto old = keys.provider->connect(keys.first, 1);
  const Bytes wrapped = old->wrap(kSecret, {});
  keys.hsm.fail_next("C_DestroyObject", CKR_FUNCTION_FAILED);
  CHECK_THROWS_AS(keys.provider->destroy(keys.first), TokenError);
  keys.hsm.reset();
  CHECK(old->unwrap(wrapped, {}).size() == kSecret.size());
  CHECK(keys.hsm.calls("C_FindObjectsInit") == 1);
}

TEST_CASE("eight threads that destroy one key destroy it once") {
  constexpr int kRounds = 20;
  TwoKeys keys;
  std::atomic<int> destroyed = 0, missing = 0;
  keys.hsm.reset();
  for (Version version = 3; version < 3 + kRounds; ++version) {
    const KeyDescription key = keys.provider->provision({.token = "one"}, keys.ring, version);
    std::atomic<int> ready = 0;
    test::in_threads(8, [&](std::size_t) {
      for (++ready; ready < 8;) std::this_thread::yield();
      try {
        keys.provider->destroy(key);
        ++destroyed;
      } catch (const KeyNotFoundError&) {
        ++missing;
      }
    });
  }
  CHECK(destroyed == kRounds);
  CHECK(missing == 7 * kRounds);
  CHECK(keys.hsm.calls("C_DestroyObject") == kRounds);
  CHECK(keys.shows(keys.first));
  CHECK(keys.shows(keys.second));
}

TEST_CASE("secrets are sealed while other keys of the token are destroyed") {
  TwoKeys keys;
  const auto wrapper = keys.provider->connect(keys.first, 1);
  std::atomic<bool> stop = false;
  std::atomic<int> whole = 0;
  test::Threads threads;
  for (int i = 0; i < 4; ++i) {
    threads.start([&] {
      while (!stop) {
        if (wrapper->unwrap(wrapper->wrap(kSecret, {}), {}).size() == kSecret.size()) ++whole;
      }
    });
  }
  {
    const test::SetAtEnd stop_at_end{stop};
    for (Version version = 3; (version < 23 || whole < 40) && !threads.failed(); ++version) {
      keys.provider->destroy(keys.provider->provision({.token = "one"}, keys.ring, version));
    }
  }
  threads.join();
  CHECK(whole >= 40);
  CHECK(keys.hsm.threads_in_one_session() == 0);
  CHECK(keys.provider->find_keys(keys.ring, "").size() == 2);
}

TEST_CASE("a key is destroyed by a host that may have one session only") {
  const FaultyHsm hsm;
  TokenBinding binding = hsm.binding("one");
  binding.limits = {.max_sessions = 1, .session_wait = std::chrono::milliseconds{100}};
  Host host = hsm.bare_host();
  host.token("one", binding);
  const auto provider = pkcs11_provider(host);
  const KeyDescription key = provider->provision({.token = "one"}, test::random_ring(), 1);
  KeyDescription other = key;
  other.kek_id = {crypto::random_array<16>()};
  CHECK_THROWS_AS(provider->destroy(other), WrongKeyError);
  CHECK_NOTHROW(provider->destroy(key));
  CHECK_THROWS_AS(provider->destroy(key), KeyNotFoundError);
}

TEST_CASE("a new key that could not be destroyed again is named in the error") {
  const FaultyHsm hsm;
  const auto provider = pkcs11_provider(hsm.host());
  const RingId ring = test::random_ring();
  const auto provision = [&] { return provider->provision({.token = "one"}, ring, 1); };
  const auto check_names_key = [&](const Error& error) {
    CHECK_NAMES(error.what(), "the new key '" + keywrap::key_label(ring, 1) + "' (CKA_ID ");
    CHECK_NAMES(error.what(), "stays in the token, unused: C_DestroyObject failed: CKR_ACTION_PROHIBITED");
  };
  hsm.fail_next("C_GetAttributeValue", CKR_FUNCTION_NOT_SUPPORTED);
  hsm.fail_next("C_DestroyObject", CKR_ACTION_PROHIBITED);
  const auto refused = error_of<TokenError>(provision);
  CHECK(refused.function() == "C_GetAttributeValue");
  check_names_key(refused);
  // Though another way to wrap might do, it is not tried: each would leave another key behind.
  hsm.fail_next("C_Encrypt", CKR_FUNCTION_NOT_SUPPORTED, 2);
  hsm.fail_next("C_DestroyObject", CKR_ACTION_PROHIBITED);
  const auto failed = error_of<WrongKeyError>(provision);
  CHECK_NAMES(failed.what(), "gcm-wraps");
  CHECK_NAMES(failed.what(), "C_Encrypt failed: CKR_FUNCTION_NOT_SUPPORTED");
  check_names_key(failed);
  CHECK(provider->find_keys(ring, "").size() == 2);
}
