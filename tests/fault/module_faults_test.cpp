// The faulty driver itself: modules, slots, sessions and logins.

#include <chrono>
#include <cstring>
#include <thread>

#include <unistd.h>

#include "fault/plain_token.hpp"
#include "support/child.hpp"

using namespace hsmseal::test;

namespace {

using Clock = std::chrono::steady_clock;

CK_RV session_info(const PlainToken& token, CK_SESSION_HANDLE session) {
  CK_SESSION_INFO info{};
  return token.p11->C_GetSessionInfo(session, &info);
}

CK_RV session_info(const PlainToken& token) { return session_info(token, token.session); }

std::string serial_of(const PlainToken& token) {
  const auto info = token.token(token.slot);
  return {reinterpret_cast<const char*>(info.serialNumber), sizeof(info.serialNumber)};
}

CK_FLAGS pin_flags(const PlainToken& token) {
  return token.token(token.slot).flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
}

/// A session that is not logged in.
void log_out(const PlainToken& token) { REQUIRE(token.p11->C_Logout(token.session) == CKR_OK); }

/// Whether a child that does this is ended by abort().
template <typename Work>
bool aborts(const Work& work) {
  return exit_status_of([&] {
           ::freopen("/dev/null", "w", stderr);
           std::signal(SIGABRT, SIG_DFL);  // which Catch catches
           work();
           return true;
         }) == -1;
}

}  // namespace

TEST_CASE("a handle from before names another key after a restart and after a login") {
  PlainToken token;
  const FaultFor fault(token.hsm, "renumber");
  for (const char* const label : {"a", "b", "c"}) static_cast<void>(token.key(label));
  const auto first = token.find("a").at(0);
  REQUIRE(token.label_of(first) == "a");
  token.restart();
  CHECK(token.hsm.counter("stale_handles") == 0);
  const auto named = token.label_of(first);
  CHECK((named == "b" || named == "c"));
  CHECK(token.hsm.counter("stale_handles") == 1);
  const auto second = token.find("a").at(0);
  CHECK(second != first);
  CHECK(token.label_of(second) == "a");
  log_out(token);
  REQUIRE(token.login() == CKR_OK);
  CHECK(token.label_of(second) != "a");
  CHECK_FALSE(token.label_of(second).empty());
  CHECK(token.encrypt(second).rv == CKR_OK);
  CHECK(token.hsm.fired("F1") >= 2);
}

TEST_CASE("numbers of sessions are used again after a restart, handles of objects are not without a fault") {
  PlainToken token;
  const auto session = token.session;
  const auto key = token.key("k");
  token.restart();
  CHECK(token.session == session);
  CHECK(token.label_of(key).empty());
  CHECK(token.hsm.counter("stale_handles") == 1);
  CHECK(session_info(token, 77) == CKR_SESSION_HANDLE_INVALID);
  CHECK(token.hsm.counter("stale_handles") == 2);
  CHECK(token.hsm.counter("starts") == 2);
}

TEST_CASE("sessions die") {
  PlainToken token;
  const auto second = token.open();
  REQUIRE(token.hsm.open_sessions() == 2);
  SECTION("the first") {
    token.hsm.apply("kill anchor CKR_SESSION_CLOSED");
    CHECK(session_info(token, second) == CKR_OK);
    CHECK(session_info(token) == CKR_SESSION_CLOSED);
    CHECK(session_info(token) == CKR_SESSION_CLOSED);
    CHECK(token.hsm.open_sessions() == 1);
    CHECK(token.hsm.counter("stale_handles") == 1);
  }
  SECTION("the one of a call") {
    token.hsm.apply("kill one skip=1 in=C_GetSessionInfo");
    CHECK(session_info(token, second) == CKR_OK);
    CHECK(session_info(token, second) == CKR_SESSION_HANDLE_INVALID);
    CHECK(session_info(token) == CKR_OK);
  }
  SECTION("all, and the login with them") {
    token.hsm.apply("kill all");
    CHECK(session_info(token) == CKR_SESSION_HANDLE_INVALID);
    CHECK(session_info(token, second) == CKR_SESSION_HANDLE_INVALID);
    token.session = token.open();
    CHECK(token.state() == CKS_RW_PUBLIC_SESSION);
  }
  CHECK(token.hsm.fired("kill") == 1);
  CHECK(token.hsm.fired("F3") >= 1);
}

TEST_CASE("a login is lost, and comes back with the next one") {
  PlainToken token;
  const auto key = token.key("k");
  SECTION("at once") { token.hsm.apply("lose_login"); }
  SECTION("by and by") {
    token.hsm.apply("lose_login skip=1");
    CHECK(token.encrypt_init(key) == CKR_OK);
    token.p11->C_GetSlotInfo(token.slot, nullptr);
    token.another_session();
  }
  CHECK(token.encrypt_init(key) == CKR_USER_NOT_LOGGED_IN);
  CHECK(token.state() == CKS_RW_PUBLIC_SESSION);
  CHECK(token.find("k").empty());
  REQUIRE(token.login() == CKR_OK);
  CHECK(token.encrypt(token.find("k").at(0)).rv == CKR_OK);
  CHECK(token.hsm.fired("F4") >= 1);
}

TEST_CASE("wrong PINs are counted to the end") {
  PlainToken token;
  log_out(token);
  token.hsm.apply("pin_tries 3");
  CHECK(pin_flags(token) == 0);
  SECTION("and told of") {
    CHECK(token.login("wrong") == CKR_PIN_INCORRECT);
    CHECK(pin_flags(token) == CKF_USER_PIN_COUNT_LOW);
    CHECK(token.login("wrong") == CKR_PIN_INCORRECT);
    CHECK(pin_flags(token) == (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY));
    CHECK(token.login("wrong") == CKR_PIN_INCORRECT);
    CHECK(pin_flags(token) == (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_LOCKED));
    CHECK(token.login() == CKR_PIN_LOCKED);
    CHECK(token.hsm.counter("wrong_pins") == 3);
  }
  SECTION("a right one begins anew") {
    CHECK(token.login("wrong") == CKR_PIN_INCORRECT);
    CHECK(token.login() == CKR_OK);
    CHECK(pin_flags(token) == 0);
    return;
  }
  SECTION("and not told of") {
    token.hsm.apply("pin_flags_never");
    token.hsm.apply("pin_wrong_rv CKR_GENERAL_ERROR");
    for (int i = 0; i < 3; ++i) CHECK(token.login("wrong") == CKR_GENERAL_ERROR);
    CHECK(pin_flags(token) == 0);
    CHECK(token.login() == CKR_PIN_LOCKED);
  }
  CHECK(token.hsm.fired("F5") >= 2);
}

TEST_CASE("a PIN is changed by somebody else") {
  const PlainToken token;
  log_out(token);
  const FaultFor fault(token.hsm, "pin \"the new one\"");
  CHECK(token.login() == CKR_PIN_INCORRECT);
  CHECK(token.hsm.counter("wrong_pins") == 1);
  CHECK(token.login("the new one") == CKR_OK);
  CHECK(token.hsm.fired("pin") == 1);
}

TEST_CASE("logins that answer otherwise") {
  const PlainToken token;
  log_out(token);
  {
    const FaultFor fault(token.hsm, "login_already");
    CHECK(token.login() == CKR_USER_ALREADY_LOGGED_IN);
    CHECK(token.state() == CKS_RW_PUBLIC_SESSION);
  }
  {
    const FaultFor fault(token.hsm, "fail C_Login CKR_USER_TYPE_INVALID");
    CHECK(token.login() == CKR_USER_TYPE_INVALID);
  }
  const FaultFor fault(token.hsm, "protected_path " + token.hsm.tokens().pin("one") + " 30");
  CHECK((token.token(token.slot).flags & CKF_PROTECTED_AUTHENTICATION_PATH) != 0);
  const auto start = Clock::now();
  CHECK(token.p11->C_Login(token.session, CKU_USER, nullptr, 0) == CKR_OK);
  CHECK(Clock::now() - start >= std::chrono::milliseconds(30));
  CHECK(token.hsm.fired("F6") == 2);
}

TEST_CASE("slots are not what they were") {
  PlainToken token{{"one", "two"}};
  const auto slots = token.slots();
  REQUIRE(slots.size() == 2);
  {
    const FaultFor fault(token.hsm, "slots_renumber now");
    CHECK(token.slots().at(0) == slots.at(0) + 1);
    CK_SESSION_INFO info{};
    CHECK(token.p11->C_GetSessionInfo(token.session, &info) == CKR_OK);
    CHECK(info.slotID == token.slot + 1);
  }
  {
    const FaultFor fault(token.hsm, "slots_renumber reinit");
    CHECK(token.slots() == slots);
    token.restart();
    CHECK(token.slots() != slots);
  }
  {
    const FaultFor fault(token.hsm, "slots_grow");
    CK_ULONG count = 0;
    REQUIRE(token.p11->C_GetSlotList(CK_TRUE, nullptr, &count) == CKR_OK);
    std::vector<CK_SLOT_ID> all(count);
    CHECK(token.p11->C_GetSlotList(CK_TRUE, all.data(), &count) == CKR_BUFFER_TOO_SMALL);
  }
  {
    const FaultFor fault(token.hsm, "slots_empty times=2");
    CHECK(token.slots().empty());
    CHECK(token.slots().empty());
    CHECK(token.slots().size() == 2);
  }
  {
    const FaultFor fault(token.hsm, "token_absent");
    CK_SLOT_INFO info{};
    CHECK(token.p11->C_GetSlotInfo(slots.at(0), &info) == CKR_OK);
    CHECK((info.flags & CKF_TOKEN_PRESENT) == 0);
    CHECK(token.slots().empty());
  }
  CHECK(token.hsm.fired("F20") >= 6);
}

TEST_CASE("tokens say something else of themselves") {
  const PlainToken token{{"one", "two"}};
  const auto slot = token.slots().at(0);
  const auto before = token.token(slot);
  {
    const FaultFor fault(token.hsm, "swap_labels one two");
    CHECK(std::memcmp(token.token(slot).label, before.label, sizeof(before.label)) != 0);
  }
  {
    const FaultFor fault(token.hsm, "other_serial 0123456789abcdef");
    CHECK(serial_of(token) == "0123456789abcdef");
  }
  {
    const FaultFor fault(token.hsm, "nul_padded");
    CHECK(token.token(slot).label[sizeof(before.label) - 1] == '\0');
  }
  for (const auto& [text, number] :
       {std::pair{"0", 0UL}, {"forever", ~0UL}, {"0xfffffffffffffffe", ~1UL}, {"2", 2UL}}) {
    const FaultFor fault(token.hsm, std::string{"session_max "} + text);
    CHECK(token.token(slot).ulMaxSessionCount == number);
    CHECK(token.token(slot).ulMaxRwSessionCount == number);
  }
  const FaultFor fault(token.hsm, "garbage_out");
  CK_MECHANISM_INFO info{};
  info.flags = 0x80;
  REQUIRE(token.p11->C_GetMechanismInfo(slot, CKM_AES_GCM, &info) == CKR_OK);
  CHECK((info.flags & 0x80) != 0);
  CHECK(token.hsm.fired("F20") == 2);
  CHECK(token.hsm.fired("F24") == 8);
  CHECK(token.hsm.fired("F31") >= 2);
}

TEST_CASE("a token is taken out, and comes back with nothing of what was") {
  PlainToken token;
  SECTION("for some calls") {
    token.hsm.apply("removed CKR_DEVICE_REMOVED times=2");
    CHECK(session_info(token) == CKR_DEVICE_REMOVED);
    CHECK(session_info(token) == CKR_DEVICE_REMOVED);
  }
  SECTION("for a time") {
    token.hsm.apply("removed for=40");
    CHECK(session_info(token) == CKR_TOKEN_NOT_PRESENT);
    ::usleep(50'000);
  }
  CHECK(session_info(token) == CKR_SESSION_HANDLE_INVALID);
  token.session = token.open();
  CHECK(token.state() == CKS_RW_PUBLIC_SESSION);
  CHECK(token.hsm.fired("F21") >= 1);
}

TEST_CASE("a driver does not start, or is not started though it says so") {
  PlainToken token;
  SECTION("for a while after it was ended") {
    token.hsm.apply("init_fails_after_finalize CKR_FUNCTION_FAILED times=2");
    REQUIRE(token.p11->C_Finalize(nullptr) == CKR_OK);
    CHECK(token.initialize() == CKR_FUNCTION_FAILED);
    CHECK(token.initialize() == CKR_FUNCTION_FAILED);
    token.start();
    CHECK(token.hsm.fired("F22") == 2);
  }
  SECTION("and does not end") {
    const FaultFor fault(token.hsm, "fail C_Finalize CKR_GENERAL_ERROR");
    CHECK(token.p11->C_Finalize(nullptr) == CKR_GENERAL_ERROR);
    CHECK(session_info(token) == CKR_OK);
  }
  SECTION("because somebody else ended it") {
    token.hsm.apply("foreign_finalize");
    CHECK(session_info(token) == CKR_CRYPTOKI_NOT_INITIALIZED);
    CHECK(session_info(token) == CKR_CRYPTOKI_NOT_INITIALIZED);
    token.start();
    CHECK(session_info(token) == CKR_OK);
    CHECK(token.hsm.fired("F23") == 1);
  }
  SECTION("because somebody else started it") {
    token.hsm.apply("already_initialized");
    REQUIRE(token.p11->C_Finalize(nullptr) == CKR_OK);
    CHECK(token.initialize() == CKR_CRYPTOKI_ALREADY_INITIALIZED);
    token.session = token.open();
    CHECK(session_info(token) == CKR_OK);
    CHECK(token.hsm.fired("F23") == 1);
  }
  SECTION("and lies") {
    token.hsm.apply("init_lies");
    REQUIRE(token.p11->C_Finalize(nullptr) == CKR_OK);
    CHECK(token.initialize() == CKR_OK);
    CHECK(session_info(token) == CKR_CRYPTOKI_NOT_INITIALIZED);
    CHECK(token.hsm.fired("F23") == 1);
  }
}

TEST_CASE("calls take their time") {
  PlainToken token;
  const auto time_of_call = [&] {
    const auto start = Clock::now();
    CHECK(session_info(token) == CKR_OK);
    return Clock::now() - start;
  };
  {
    const FaultFor fault(token.hsm, "delay C_GetSessionInfo 20000");
    CHECK(time_of_call() >= std::chrono::milliseconds(20));
  }
  {
    const FaultFor fault(token.hsm, "hang C_GetSessionInfo 20 times=1");
    CHECK(time_of_call() >= std::chrono::milliseconds(20));
  }
  token.hsm.apply("hang C_GetSessionInfo forever times=1");
  std::thread hanging([&] { session_info(token); });
  while (token.hsm.fired("hang") != 2) std::this_thread::yield();
  CHECK(token.hsm.counter("inside") == 1);
  while (token.hsm.counter("inside") != 0) token.hsm.apply("release");  // it counts before it waits
  hanging.join();
  CHECK(token.hsm.fired("F26") == 3);
}

TEST_CASE("a session that was idle takes the device with it until a restart") {
  PlainToken token;
  const FaultFor fault(token.hsm, "idle_dies 30");
  CHECK(session_info(token) == CKR_OK);
  ::usleep(40'000);
  CHECK(session_info(token) == CKR_DEVICE_ERROR);
  CHECK(session_info(token, token.open()) == CKR_DEVICE_ERROR);
  CHECK(token.hsm.fired("idle_dies") == 2);
  token.restart();
  CHECK(session_info(token) == CKR_OK);
}

TEST_CASE("threads that must not be in a driver together are counted, or end the process") {
  PlainToken token;
  const auto second = token.open();
  const auto together = [&](CK_SESSION_HANDLE with) {
    token.hsm.apply("hang C_GetSessionInfo forever times=1 session=" + std::to_string(second));
    std::thread hanging([&] { session_info(token, second); });
    while (token.hsm.counter("inside") == 0) std::this_thread::yield();
    while (token.hsm.fired("hang") == 0) std::this_thread::yield();
    CK_SESSION_INFO info{};
    token.hsm.apply("delay C_GetSessionInfo 0");
    CK_BYTE seed = 1;
    token.p11->C_SeedRandom(with, &seed, 1);
    while (token.hsm.counter("inside") != 0) token.hsm.apply("release");
    hanging.join();
    static_cast<void>(info);
  };
  together(token.session);
  CHECK(token.hsm.threads_in_one_session() == 0);
  CHECK(token.hsm.counter("threads_at_once") == 0);
  token.hsm.reset();
  {
    const FaultFor fault(token.hsm, "not_thread_safe");
    together(token.session);
    CHECK(token.hsm.counter("threads_at_once") == 1);
    CHECK(token.hsm.fired("F27") == 1);
  }
  CHECK(aborts([&] {
    token.hsm.apply("not_thread_safe");
    token.hsm.apply("checker abort");
    token.hsm.reset();
    together(token.session);
  }));
  CHECK(aborts([&] {
    token.hsm.reset();
    token.hsm.apply("hang C_GetSessionInfo forever times=1");
    std::thread hanging([&] { session_info(token, second); });
    while (token.hsm.fired("hang") == 0) std::this_thread::yield();
    token.p11->C_Finalize(nullptr);
  }));
}

TEST_CASE("two threads in one session are counted") {
  PlainToken token;
  const auto key = token.key("k");
  static_cast<void>(key);
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      Octets bytes(4096);
      for (int calls = 0; calls < 100'000 && token.hsm.threads_in_one_session() == 0; ++calls)
        token.p11->C_GenerateRandom(token.session, bytes.data(), bytes.size());
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(token.hsm.threads_in_one_session() > 0);
}

TEST_CASE("what forked children do is seen by their parent") {
  PlainToken token;
  CHECK(exit_status_of([&] {
          return session_info(token) == CKR_OK && token.initialize() == CKR_CRYPTOKI_ALREADY_INITIALIZED &&
                 token.p11->C_CloseSession(token.session) == CKR_OK && token.p11->C_Finalize(nullptr) == CKR_OK;
        }) == 0);
  CHECK(token.hsm.counter("child_calls") == 4);
  CHECK(token.hsm.counter("child_closed") == 1);
  CHECK(token.hsm.counter("child_finalized") == 1);
  CHECK(session_info(token) == CKR_OK);
  const FaultFor fault(token.hsm, "fork not_initialized");
  CHECK(exit_status_of([&] {
          const bool refused = session_info(token) == CKR_CRYPTOKI_NOT_INITIALIZED;
          token.start();
          return refused && session_info(token) == CKR_OK && token.hsm.fired("F28") > 0;
        }) == 0);
}

TEST_CASE("functions are missing from the list") {
  const PlainToken token;
  {
    const FaultFor fault(token.hsm, "missing C_SeedRandom");
    CHECK(token.p11->C_SeedRandom == nullptr);
    CHECK(token.hsm.fired("F30") == 1);
  }
  CHECK(token.p11->C_SeedRandom != nullptr);
  const auto get_interface =
      reinterpret_cast<CK_RV (*)(CK_BYTE*, CK_VERSION*, void**, CK_FLAGS)>(token.hsm.symbol("C_GetInterface"));
  void* interface = nullptr;
  CHECK(get_interface(nullptr, nullptr, &interface, 0) == CKR_FUNCTION_NOT_SUPPORTED);
}
