// F5 and F6: PINs that tokens count, and logins that do not go as usual. The number of C_Login calls is what matters:
// tokens lock.

#include <hsmseal/deadline.hpp>

#include "fault/faulty_ring.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

constexpr const char* kWrongPin = "not-the-pin-5309\n";

/// A host whose PIN file is wrong, for a ring that another host has made.
struct WrongPin : FaultyRing {
  explicit WrongPin(HangPolicy policy = HangPolicy::Isolated)
      : FaultyRing(policy), file(hsm.tokens().write_file("changing.pin", kWrongPin)), wrong(binding()) {
    const FaultyHsm maker{hsm.shared_tokens()};
    static_cast<void>(KeyRing::create(store, pkcs11_provider(maker.host()), {.token = "one"}, RingPin::in_process()));
    wrong.pin = PinSource::file(file);
  }
  void correct() const { hsm.tokens().write_file("changing.pin", hsm.tokens().pin("one") + "\n"); }
  [[nodiscard]] TokenLoginError refused(const std::shared_ptr<KeyProvider>& from) const {
    return error_of<TokenLoginError>([&] { return KeyRing::open(store, from, RingPin::in_process()); });
  }

  std::filesystem::path file;
  TokenBinding wrong;
};

void log_in_wrongly(const FaultyHsm& hsm, int times) {
  CK_FUNCTION_LIST* p11 = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(hsm.symbol("C_GetFunctionList"))(&p11) == CKR_OK);
  CK_SESSION_HANDLE session = 0;
  const auto slot = static_cast<CK_SLOT_ID>(hsm.module()->token({.label = "one"}).slot);
  REQUIRE(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, nullptr, nullptr, &session) == CKR_OK);
  std::string pin = "somebody-else's";
  for (int i = 0; i < times; ++i) {
    CHECK(p11->C_Login(session, CKU_USER, reinterpret_cast<CK_BYTE*>(pin.data()), pin.size()) == CKR_PIN_INCORRECT);
  }
  REQUIRE(p11->C_CloseSession(session) == CKR_OK);
}

}  // namespace

TEST_CASE("F5: a wrong PIN costs one C_Login in the whole process, whatever the token says of it") {
  WrongPin parts{both_policies()};
  const std::string variant =
      GENERATE(as<std::string>{}, "", "pin_flags_never", "pin_wrong_rv CKR_GENERAL_ERROR",
               "pin_wrong_rv CKR_FUNCTION_FAILED", "pin_wrong_rv CKR_DEVICE_ERROR", "pin_wrong_rv CKR_PIN_INVALID");
  CAPTURE(variant);
  parts.hsm.apply("pin_tries 3");
  if (!variant.empty()) parts.hsm.apply("pin_flags_never");
  if (variant.starts_with("pin_wrong_rv")) parts.hsm.apply(variant);
  const auto first = parts.provider(parts.wrong);
  const auto second = parts.provider(parts.wrong);
  std::atomic<int> refused = 0;
  in_threads(8, [&](std::size_t thread) {
    for (int i = 0; i < 3; ++i) {
      try {
        static_cast<void>(KeyRing::open(parts.store, thread % 2 == 0 ? first : second, RingPin::in_process()));
      } catch (const TokenLoginError& error) {
        if (!error.retryable()) ++refused;
      }
    }
  });
  CHECK(refused == 24);
  CHECK(parts.hsm.calls("C_Login") == 1);
  CHECK(parts.hsm.counter("wrong_pins") == 1);
  CHECK(parts.count(Event::Kind::PinRefused) > 0);
  if (!variant.empty()) CHECK(parts.hsm.fired("F5") > 0);
}

TEST_CASE("F5: a corrected PIN is picked up without a restart") {
  WrongPin parts{both_policies()};
  parts.hsm.apply("pin_tries 3");
  const bool flags = GENERATE(true, false);
  if (!flags) parts.hsm.apply("pin_flags_never");
  if (flags) parts.wrong.low_pin_count = LowPinCount::TryOnce;
  const auto provider = parts.provider(parts.wrong);
  CHECK(parts.refused(provider).rv() == CKR_PIN_INCORRECT);
  CHECK(parts.refused(provider).rv() == CKR_PIN_INCORRECT);
  parts.correct();
  CHECK(comes_back(EnvelopeEncryptor{KeyRing::open(parts.store, provider, RingPin::in_process())}));
  CHECK(parts.hsm.calls("C_Login") == 2);
  CHECK(parts.hsm.counter("wrong_pins") == 1);
  CHECK(parts.hsm.counter("starts") == 1);
  CHECK(parts.hsm.fired(flags ? "pin_tries" : "pin_flags_never") > 0);
}

TEST_CASE("F5: no PIN is sent to a token that says it may lock, unless the operator is sure") {
  WrongPin parts{both_policies()};
  parts.correct();
  parts.hsm.apply("pin_tries 3");
  const int wrong = GENERATE(1, 2, 3);  // COUNT_LOW, FINAL_TRY, LOCKED
  CAPTURE(wrong);
  log_in_wrongly(parts.hsm, wrong);
  const auto calls = parts.hsm.calls("C_Login");
  const auto error = parts.refused(parts.provider(parts.wrong));
  CHECK(error.rv() == (wrong == 3 ? CKR_PIN_LOCKED : CKR_PIN_INCORRECT));
  CHECK_NAMES(error.what(), "C_Login was not called");
  CHECK(parts.hsm.calls("C_Login") == calls);
  CHECK(parts.hsm.fired("pin_tries") > 0);
  parts.wrong.low_pin_count = LowPinCount::TryOnce;
  if (wrong == 3) {
    CHECK(parts.refused(parts.provider(parts.wrong)).rv() == CKR_PIN_LOCKED);
    CHECK(parts.hsm.calls("C_Login") == calls);
  } else {
    CHECK(comes_back(EnvelopeEncryptor{parts.open(parts.wrong)}));
    CHECK(parts.hsm.calls("C_Login") == calls + 1);
  }
}

TEST_CASE("F5: a PIN that is changed in the token while a program works is asked for once, then the new one") {
  WrongPin parts{both_policies()};
  parts.correct();
  parts.wrong.low_pin_count = LowPinCount::TryOnce;
  const EnvelopeEncryptor vault{parts.open(parts.wrong)};
  REQUIRE(comes_back(vault));
  parts.hsm.reset();
  parts.hsm.apply("pin the-new-pin-4711 " + parts.hsm.tokens().pin("one"));
  parts.hsm.apply("lose_login");
  for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(comes_back(vault), TokenLoginError);
  CHECK(parts.hsm.calls("C_Login") == 1);
  parts.hsm.tokens().write_file("changing.pin", "the-new-pin-4711\n");
  CHECK(comes_back(vault));
  CHECK(parts.hsm.calls("C_Login") == 2);
  CHECK(parts.hsm.fired("pin") == 1);
  CHECK(parts.hsm.fired("lose_login") > 0);
}

TEST_CASE("F6: a token that says it is logged in and is not is not logged out, nor asked again in one operation") {
  FaultyRing parts{both_policies()};
  const std::string fault = GENERATE(as<std::string>{}, "login_already", "fail C_Login CKR_USER_TYPE_INVALID",
                                     "fail C_Login CKR_USER_ANOTHER_ALREADY_LOGGED_IN");
  CAPTURE(fault);
  {
    const FaultFor now(parts.hsm, fault);
    const auto error = error_of<TokenLoginError>([&] { return parts.create(); });
    CHECK_FALSE(error.retryable());
    CHECK(parts.hsm.calls("C_Login") == 1);
    CHECK(parts.hsm.fired(fault.substr(0, fault.find(' '))) == 1);
  }
  CHECK(comes_back(EnvelopeEncryptor{parts.create()}));
  CHECK(parts.hsm.calls("C_Login") == 2);
  CHECK(parts.hsm.calls("C_Logout") + parts.hsm.calls("C_Finalize") == 0);
}

TEST_CASE(
    "F6: who waits for somebody at the token's own pad leaves at the deadline, and the login serves who comes later") {
  FaultyRing parts;
  TokenBinding pad = parts.binding();
  pad.pin = PinSource::protected_path();
  { const auto ring = parts.create(); }
  REQUIRE(parts.hsm.open_sessions() == 0);
  parts.hsm.reset();
  parts.hsm.apply("protected_path " + parts.hsm.tokens().pin("one") + " 60000");
  const auto provider = parts.provider(pad);
  const auto open = [&] { return KeyRing::open(parts.store, provider, RingPin::in_process()); };
  for (int i = 0; i < 2 || (parts.hsm.fired("F6") == 0 && i < 100); ++i) {
    const Deadline soon{std::chrono::milliseconds{30}};
    CHECK_THROWS_AS(open(), TokenUnavailableError);
  }
  parts.hsm.apply("release");
  CHECK(comes_back(EnvelopeEncryptor{open()}));
  CHECK(parts.hsm.fired("F6") == 1);
  CHECK(parts.hsm.calls("C_Login") == 1);
}
