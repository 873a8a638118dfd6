#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include <p11-kit/pkcs11.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using test::error_of;
using test::FaultyHsm;
using test::message_of;

namespace {

constexpr const char* kWrongPin = "not-the-pin-5309";

PinSource wrong_pin() {
  return PinSource::callback([](const TokenSelector&) { return SecretBytes::from_text(kWrongPin); });
}

Pkcs11Session open(const FaultyHsm& hsm) { return {hsm.module(), {.label = "one"}}; }

TokenLoginError refused_login(const FaultyHsm& hsm, const PinSource& pin) {
  auto session = open(hsm);
  return error_of<TokenLoginError>([&] {
    session.login(pin);
    return 0;
  });
}

/// Whether the process is logged in to the token: only then a key can be made there.
bool logged_in(Pkcs11Session& session) {
  try {
    static_cast<void>(session.generate_aes_key({.id = Bytes(16), .label = "k", .lifetime = KeyLifetime::Session}));
  } catch (const TokenError& error) {
    CHECK(error.rv_name() == "CKR_USER_NOT_LOGGED_IN");
    return false;
  }
  return true;
}

KeyRing ring_on(const Host& host) {
  return KeyRing::create(memory_ring_store(), pkcs11_provider(host), {.token = "one"}, RingPin::in_process());
}

TokenBinding with_pin(TokenBinding binding, PinSource pin) {
  binding.pin = std::move(pin);
  return binding;
}

bool says_count_low(const FaultyHsm& hsm) {
  return (hsm.module()->token({.label = "one"}).flags & CKF_USER_PIN_COUNT_LOW) != 0;
}

}  // namespace

TEST_CASE("a wrong PIN is sent to the token once, whichever session comes with it again") {
  const FaultyHsm hsm;
  const TokenLoginError first = refused_login(hsm, wrong_pin());
  CHECK(first.code() == ErrorCode::TokenLogin);
  CHECK(first.function() == "C_Login");
  CHECK(first.rv_name() == "CKR_PIN_INCORRECT");
  CHECK_FALSE(first.retryable());
  CHECK(std::string{first.what()} ==
        "C_Login failed: CKR_PIN_INCORRECT (0xa0) on token 'one'; this PIN is not tried again until it changes");
  CHECK(hsm.calls("C_Login") == 1);
  for (int i = 0; i < 3; ++i) {
    const TokenLoginError again = refused_login(hsm, wrong_pin());
    CHECK(again.rv_name() == "CKR_PIN_INCORRECT");
    CHECK_FALSE(again.retryable());
    CHECK_NAMES(again.what(), "token 'one'");
    CHECK_NAMES(again.what(), "it refused this PIN before");
  }
  CHECK(hsm.calls("C_Login") == 1);
}

TEST_CASE("eight threads that come with a wrong PIN at once cause one login") {
  const FaultyHsm hsm;
  std::vector<Pkcs11Session> sessions;
  for (int i = 0; i < 8; ++i) sessions.push_back(open(hsm));
  std::atomic<int> refused = 0;
  test::in_threads(8, [&](std::size_t i) {
    try {
      sessions[i].login(wrong_pin());
    } catch (const TokenLoginError&) {
      ++refused;
    }
  });
  CHECK(refused == 8);
  CHECK(hsm.calls("C_Login") == 1);
}

TEST_CASE("eight threads that come with the right PIN at once cause one login") {
  const FaultyHsm hsm;
  std::vector<Pkcs11Session> sessions;
  for (int i = 0; i < 8; ++i) sessions.push_back(open(hsm));
  test::in_threads(8, [&](std::size_t i) { sessions[i].login(hsm.binding("one").pin); });
  CHECK(hsm.calls("C_Login") == 1);
  for (auto& session : sessions) CHECK(logged_in(session));
}

TEST_CASE("a session survives a refused login") {
  const FaultyHsm hsm;
  auto session = open(hsm);
  CHECK_THROWS_AS(session.login(wrong_pin()), TokenLoginError);
  CHECK(session.usable());
  CHECK(session.random(8).size() == 8);
  session.login(hsm.binding("one").pin, LowPinCount::TryOnce);
  CHECK(logged_in(session));
}

TEST_CASE("a corrected PIN is not sent while the token counts wrong ones, unless the operator is sure") {
  const FaultyHsm hsm;
  REQUIRE_FALSE(says_count_low(hsm));
  static_cast<void>(refused_login(hsm, wrong_pin()));
  REQUIRE(says_count_low(hsm));
  const TokenLoginError refused = refused_login(hsm, hsm.binding("one").pin);
  CHECK_FALSE(refused.retryable());
  CHECK_NAMES(refused.what(), "token 'one'");
  CHECK_NAMES(refused.what(), "C_Login was not called");
  CHECK_NAMES(refused.what(), "LowPinCount::TryOnce");
  CHECK(hsm.calls("C_Login") == 1);

  auto session = open(hsm);
  session.login(hsm.binding("one").pin, LowPinCount::TryOnce);
  CHECK(logged_in(session));
  CHECK(hsm.calls("C_Login") == 2);
  CHECK_FALSE(says_count_low(hsm));
}

TEST_CASE("a PIN source that is corrected is read again") {
  const FaultyHsm hsm;
  const auto file = hsm.tokens().write_file("changing.pin", std::string{kWrongPin} + "\n");
  static_cast<void>(refused_login(hsm, PinSource::file(file)));
  static_cast<void>(refused_login(hsm, PinSource::file(file)));
  CHECK(hsm.calls("C_Login") == 1);
  hsm.tokens().write_file("changing.pin", hsm.tokens().pin("one") + "\n");
  auto session = open(hsm);
  session.login(PinSource::file(file), LowPinCount::TryOnce);
  CHECK(logged_in(session));
}

TEST_CASE("every way to give a PIN works, with or without a line's end in the file") {
  const FaultyHsm hsm;
  const std::string pin = hsm.tokens().pin("one");
  ::setenv("HSMSEAL_TEST_PIN", pin.c_str(), 1);
  const std::vector<PinSource> sources = {
      PinSource::environment("HSMSEAL_TEST_PIN"),
      PinSource::callback([&](const TokenSelector& token) {
        return SecretBytes::from_text(token.label == "one" ? pin : "asked for another token");
      }),
      PinSource::file(hsm.tokens().write_file("a.pin", pin)),
      PinSource::file(hsm.tokens().write_file("b.pin", pin + "\r\n")),
      PinSource::file(hsm.tokens().write_file("c.pin", pin + "\nnotes below the PIN\n")),
  };
  for (const PinSource& source : sources) {
    auto session = open(hsm);
    session.login(source);
    CHECK(logged_in(session));
  }
  CHECK(hsm.calls("C_Login") == sources.size());
  ::unsetenv("HSMSEAL_TEST_PIN");
}

TEST_CASE("a second PIN for a token that is logged in is refused, and not sent") {
  const FaultyHsm hsm;
  auto first = open(hsm);
  first.login(hsm.binding("one").pin);
  const TokenLoginError refused = refused_login(hsm, wrong_pin());
  CHECK(refused.rv_name() == "CKR_USER_ALREADY_LOGGED_IN");
  CHECK_FALSE(refused.retryable());
  CHECK_NAMES(refused.what(), "token 'one'");
  CHECK_NAMES(refused.what(), "one PIN");
  CHECK(hsm.calls("C_Login") == 1);
  CHECK(logged_in(first));
}

TEST_CASE("two bindings of one token with two PINs do not both work") {
  const FaultyHsm hsm;
  Host host = hsm.host();
  host.token("again", with_pin(hsm.binding("one"), wrong_pin()));
  KeyRing ring = ring_on(host);
  const auto message = message_of<TokenLoginError>([&] { return ring.add({.token = "again"}); });
  CHECK_NAMES(message, "with another PIN");
  CHECK(hsm.calls("C_Login") == 1);
}

TEST_CASE("an application that is logged in already is left so") {
  const FaultyHsm hsm;
  const auto module = hsm.module();
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(hsm.symbol("C_GetFunctionList"))(&list) == CKR_OK);
  CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
  const auto slot = module->token({.label = "one"}).slot;
  REQUIRE(list->C_OpenSession(slot, CKF_SERIAL_SESSION, nullptr, nullptr, &session) == CKR_OK);
  std::string pin = hsm.tokens().pin("one");
  REQUIRE(list->C_Login(session, CKU_USER, reinterpret_cast<CK_BYTE*>(pin.data()), pin.size()) == CKR_OK);
  hsm.reset();
  {
    auto ours = open(hsm);
    ours.login(hsm.binding("one").pin);
    CHECK(logged_in(ours));
  }
  CK_SESSION_INFO info{};
  REQUIRE(list->C_GetSessionInfo(session, &info) == CKR_OK);
  CHECK(info.state == CKS_RO_USER_FUNCTIONS);
  CHECK(hsm.calls("C_Login") == 0);
  CHECK(hsm.calls("C_Logout") == 0);
  CHECK(list->C_CloseSession(session) == CKR_OK);
}

TEST_CASE("a PIN that was not judged may be sent again, one that was may not") {
  const FaultyHsm hsm;
  auto session = open(hsm);
  hsm.fail_next("C_Login", CKR_TOKEN_NOT_PRESENT);
  CHECK(error_of<TokenError>([&] {
          session.login(hsm.binding("one").pin);
          return 0;
        }).retryable());
  // A driver that says nothing clear may have counted the try.
  hsm.fail_next("C_Login", CKR_GENERAL_ERROR);
  CHECK_THROWS_AS(session.login(wrong_pin()), TokenLoginError);
  CHECK_THROWS_AS(session.login(wrong_pin()), TokenLoginError);
  CHECK(hsm.calls("C_Login") == 2);
  session.login(hsm.binding("one").pin);
  CHECK(hsm.calls("C_Login") == 3);
  CHECK(logged_in(session));
}

TEST_CASE("modules borrowed from one driver do not try a PIN once each") {
  const FaultyHsm hsm;
  const auto owner = hsm.module();
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(hsm.symbol("C_GetFunctionList"))(&list) == CKR_OK);
  const std::string serial = owner->token({.label = "one"}).serial;
  for (int i = 0; i < 2; ++i) {
    Pkcs11Session session{Pkcs11Module::borrow(list), {.label = "one"}};
    CHECK_THROWS_AS(session.login(wrong_pin(), LowPinCount::TryOnce), TokenLoginError);
  }
  // One C_Login for each PIN value, whichever session or thread asks.
  CHECK(hsm.calls("C_Login") == 1);
}

TEST_CASE("a token that needs a login but has no PIN source says so") {
  const FaultyHsm hsm;
  const auto store = memory_ring_store();
  { auto ring = KeyRing::create(store, pkcs11_provider(hsm.host()), {.token = "one"}, RingPin::in_process()); }
  REQUIRE(hsm.open_sessions() == 0);
  hsm.reset();
  Host host = hsm.bare_host();
  host.token("one", with_pin(hsm.binding("one"), PinSource::none()));
  const auto message_of_any = [](const auto& work) {
    try {
      static_cast<void>(work());
    } catch (const Error& error) {
      return std::string{error.what()};
    }
    return std::string{"no error"};
  };
  const std::string adding = message_of_any([&] { return ring_on(host); });
  CHECK_NAMES(adding, "token 'one'");
  CHECK_NAMES(adding, "CKR_USER_NOT_LOGGED_IN");
  // The key is there, but hidden: a message that only says that it is missing would send people the wrong way.
  const std::string opening =
      message_of_any([&] { return KeyRing::open(store, pkcs11_provider(host), RingPin::in_process()); });
  CHECK_NAMES(opening, "token 'one'");
  CHECK_NAMES(opening, "login");
  CHECK(hsm.calls("C_Login") == 0);
}

TEST_CASE("a token with a PIN pad is called without a PIN, once") {
  const FaultyHsm hsm;
  hsm.fail_next("C_Login", CKR_FUNCTION_CANCELED);
  const TokenLoginError error = refused_login(hsm, PinSource::protected_path());
  CHECK(error.rv_name() == "CKR_FUNCTION_CANCELED");
  CHECK_FALSE(error.retryable());
  CHECK(hsm.calls("C_Login") == 1);
}

TEST_CASE("eight threads that seal on a host with a wrong PIN cause one login and seal nothing") {
  const FaultyHsm hsm{{"one", "two"}};
  const auto store = memory_ring_store();
  {
    // The set in force is on "one"; the ring opens through the one on "two".
    auto ring = KeyRing::create(store, pkcs11_provider(hsm.host()), {.token = "two"}, RingPin::in_process());
    ring.add({.token = "one"});
  }
  REQUIRE(hsm.open_sessions() == 0);
  hsm.reset();
  Host host = hsm.bare_host();
  host.token("one", with_pin(hsm.binding("one"), wrong_pin())).token("two", hsm.binding("two"));
  const EnvelopeEncryptor vault{KeyRing::open(store, pkcs11_provider(host), RingPin::in_process())};
  CHECK(hsm.calls("C_Login") == 2);  // one for each token
  std::atomic<int> refused = 0;
  test::in_threads(8, [&](std::size_t) {
    for (int i = 0; i < 5; ++i) {
      try {
        static_cast<void>(vault.seal(bytes_of("secret"), kNoContext));
      } catch (const TokenLoginError&) {
        ++refused;
      }
    }
  });
  CHECK(refused == 40);
  CHECK(hsm.calls("C_Login") == 2);
}

TEST_CASE("no message holds a PIN") {
  const FaultyHsm hsm;
  const std::string right_pin = hsm.tokens().pin("one");
  std::vector<std::string> messages;
  const auto note = [&](const auto& work) {
    try {
      work();
    } catch (const std::exception& error) {
      messages.emplace_back(error.what());
    }
  };
  const auto log_in = [&](const PinSource& pin, LowPinCount low = LowPinCount::Refuse) {
    note([&] { open(hsm).login(pin, low); });
  };
  const PinSource right = hsm.binding("one").pin;
  const auto as_text = [](std::string text) {
    return PinSource::callback([text](const TokenSelector&) { return SecretBytes::from_text(text); });
  };
  log_in(wrong_pin());  // refused by the token
  log_in(wrong_pin());  // refused before
  log_in(right);        // the count is low
  log_in(as_text(right_pin + "9"), LowPinCount::TryOnce);
  hsm.fail_next("C_Login", CKR_DEVICE_ERROR);
  log_in(as_text(right_pin + "8"), LowPinCount::TryOnce);
  hsm.fail_next("C_Login", CKR_TOKEN_NOT_PRESENT);
  log_in(right, LowPinCount::TryOnce);
  hsm.fail_next("C_GetSessionInfo", CKR_SESSION_HANDLE_INVALID);
  log_in(right, LowPinCount::TryOnce);
  hsm.fail_next("C_GetTokenInfo", CKR_DEVICE_ERROR);
  log_in(right, LowPinCount::TryOnce);
  log_in(PinSource::file(hsm.tokens().write_file("long.pin", std::string(5000, '7') + right_pin)));
  ::setenv("HSMSEAL_TEST_PIN", "", 1);
  log_in(PinSource::environment("HSMSEAL_TEST_PIN"));
  ::unsetenv("HSMSEAL_TEST_PIN");
  auto keeper = open(hsm);
  keeper.login(right, LowPinCount::TryOnce);
  log_in(wrong_pin());  // another is in
  note([&] { static_cast<void>(keeper.decrypt({.value = 1}, {.iv = bytes_of(right_pin), .aad = {}}, Bytes(16))); });
  REQUIRE(messages.size() == 12);
  for (const std::string& message : messages) {
    CAPTURE(message);
    CHECK_FALSE(message.empty());
    CHECK_FALSE(test::contains(message, right_pin));
    CHECK_FALSE(test::contains(message, kWrongPin));
  }
}
