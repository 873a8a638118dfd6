#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>
#include <p11-kit/pkcs11.h>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/opencryptoki.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using test::error_of;
using test::OpenCryptoki;

namespace {

constexpr CK_FLAGS kPinFlags =
    CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED | CKF_USER_PIN_TO_BE_CHANGED;

const TokenSelector kToken{.label = OpenCryptoki::kLabel};

PinSource pin_source(const std::string& pin) {
  return PinSource::callback([pin](const TokenSelector&) { return SecretBytes::from_text(pin); });
}

Bytes id_of(int number) { return Bytes(16, static_cast<std::byte>(number)); }

Pkcs11Session logged_in(const OpenCryptoki& ock) {
  Pkcs11Session session{ock.module(), kToken};
  session.login(ock.binding().pin);
  return session;
}

KeyHandle make_key(Pkcs11Session& session, int number, KeyLifetime lifetime = KeyLifetime::Token) {
  return session.generate_aes_key({.id = id_of(number), .label = "k", .lifetime = lifetime});
}

TokenError no_key_made(Pkcs11Session& session) {
  return error_of<TokenError>([&] { return make_key(session, 99, KeyLifetime::Session); });
}

/// All that a program needs of a token that is well, through a session it has and through one it opens.
void check_all_works(const OpenCryptoki& ock, Pkcs11Session& session, int known_key, int new_key) {
  CAPTURE(new_key);
  CHECK(ock.module()->tokens().size() == 1);
  CHECK(session.random(16).size() == 16);
  CHECK(session.find_key({.id = id_of(known_key)}));
  make_key(session, new_key);
  Pkcs11Session other{ock.module(), kToken};
  other.login(ock.binding().pin);
  const auto found = other.find_key({.id = id_of(new_key)});
  REQUIRE(found);
  CHECK(other.attributes(*found).extractable == false);
}

/// What openCryptoki says of wrong PINs: COUNT_LOW after one, FINAL_TRY after two, LOCKED after three.
std::uint64_t pin_flags(const OpenCryptoki& ock) { return ock.module()->token(kToken).flags & kPinFlags; }

/// As other code of the process has it, which does not go through hsmseal.
CK_FUNCTION_LIST* raw_functions(const OpenCryptoki& ock) {
  const auto library = Host{}.driver_for(ock.binding()).library;
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  REQUIRE(handle != nullptr);
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"))(&list) == CKR_OK);
  return list;
}

}  // namespace

TEST_CASE("openCryptoki lets in, makes keys and finds them") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  CHECK(ock.module()->info().manufacturer == "IBM");
  Pkcs11Session session = logged_in(ock);
  CHECK_NAMES(session.token().model, "Soft");  // "IBM SoftTok" in 3.8
  CHECK_FALSE(session.find_key({.id = id_of(1)}));
  const KeyHandle made = make_key(session, 1);
  CHECK(session.find_key({.id = id_of(1)}) == made);
  const KeyAttributes told = session.attributes(made);
  CHECK(told.value_bytes == 32U);
  CHECK(told.sensitive == true);
  CHECK(told.extractable == false);
  CHECK(told.wrap == false);
  check_all_works(ock, session, 1, 2);
}

TEST_CASE("a login to openCryptoki lasts as long as one session of the process") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  std::optional<Pkcs11Session> first = logged_in(ock);
  make_key(*first, 1);
  std::optional<Pkcs11Session> second{std::in_place, ock.module(), kToken};
  CHECK(second->find_key({.id = id_of(1)}));
  first.reset();
  CHECK(second->find_key({.id = id_of(1)}));
  make_key(*second, 2, KeyLifetime::Session);
  second.reset();

  Pkcs11Session third{ock.module(), kToken};
  CHECK_FALSE(third.find_key({.id = id_of(1)}));
  CHECK(no_key_made(third).rv_name() == "CKR_USER_NOT_LOGGED_IN");
  Pkcs11Session fourth = logged_in(ock);
  CHECK(fourth.find_key({.id = id_of(1)}));
  CHECK_FALSE(fourth.find_key({.id = id_of(2)}));  // it was its session's
}

TEST_CASE("many sessions of openCryptoki open and close, and the login stays") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  Pkcs11Session anchor = logged_in(ock);
  make_key(anchor, 1);
  for (int round = 0; round < 10; ++round) {
    std::vector<Pkcs11Session> sessions;
    for (int i = 0; i < 20; ++i) sessions.emplace_back(ock.module(), kToken);
    for (Pkcs11Session& session : sessions) REQUIRE(session.find_key({.id = id_of(1)}));
  }
  CHECK(anchor.find_key({.id = id_of(1)}));
}

TEST_CASE("openCryptoki goes on without its daemon in a process that has it, and with the next one") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  std::optional<Pkcs11Session> session = logged_in(ock);
  make_key(*session, 1);
  ock.kill_daemon();
  check_all_works(ock, *session, 1, 2);
  session.reset();
  session.emplace(logged_in(ock));  // the last session was closed: a login without the daemon
  check_all_works(ock, *session, 1, 3);

  ock.start_daemon();
  for (int key = 1; key <= 3; ++key) CHECK(session->find_key({.id = id_of(key)}));
  check_all_works(ock, *session, 1, 4);
  session.reset();
  session.emplace(logged_in(ock));
  check_all_works(ock, *session, 4, 5);
}

TEST_CASE("what another process makes after openCryptoki's daemon was started anew is found") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  Pkcs11Session session = logged_in(ock);
  make_key(session, 1);
  ock.kill_daemon();
  ock.start_daemon();
  test::run(fmt::format(
      "pkcs11-tool --module {} --token-label {} --login --pin {} --keygen --key-type AES:32 --label k --id {} "
      "--sensitive --private > /dev/null 2>&1",
      Host{}.driver_for(ock.binding()).library.string(), OpenCryptoki::kLabel, ock.pin(), std::string(32, '2')));
  CHECK(session.find_key({.id = Bytes(16, std::byte{0x22})}));
  check_all_works(ock, session, 1, 3);
}

TEST_CASE("openCryptoki does not start without its daemon, and starts in the same process once it runs") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  ock.kill_daemon();
  for (int i = 0; i < 2; ++i) {
    const auto error = error_of<TokenError>([&] { return ock.module(); });
    CHECK(error.function() == "C_Initialize");
    CHECK(error.rv_name() == "CKR_FUNCTION_FAILED");
    CHECK(error.retryable());
  }
  ock.start_daemon();
  Pkcs11Session session = logged_in(ock);
  make_key(session, 1);
  check_all_works(ock, session, 1, 2);
}

TEST_CASE("what other code does to openCryptoki without its daemon is a typed error until both are started") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  std::optional<Pkcs11Session> session = logged_in(ock);
  make_key(*session, 1);
  CK_FUNCTION_LIST* const raw = raw_functions(ock);
  ock.kill_daemon();
  REQUIRE(raw->C_Finalize(nullptr) == CKR_OK);
  REQUIRE(raw->C_Initialize(nullptr) == CKR_FUNCTION_FAILED);
  CHECK(no_key_made(*session).rv_name() == "CKR_CRYPTOKI_NOT_INITIALIZED");
  CHECK_FALSE(session->usable());
  const auto no_session = error_of<TokenError>([&] { return Pkcs11Session{ock.module(), kToken}.usable(); });
  CHECK(no_session.function() == "C_GetSlotList");
  CHECK(no_session.rv_name() == "CKR_CRYPTOKI_NOT_INITIALIZED");

  ock.start_daemon();
  CK_C_INITIALIZE_ARGS arguments{};
  arguments.flags = CKF_OS_LOCKING_OK;
  REQUIRE(raw->C_Initialize(&arguments) == CKR_OK);
  session.reset();
  session.emplace(logged_in(ock));
  check_all_works(ock, *session, 1, 2);
}

TEST_CASE("openCryptoki counts a wrong PIN once, however often and by whom it is given") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  Pkcs11Session session{ock.module(), kToken};
  const auto refused = [&](const std::string& pin, LowPinCount low = LowPinCount::Refuse) {
    const auto error = error_of<TokenLoginError>([&] {
      Pkcs11Session another{ock.module(), kToken};
      another.login(pin_source(pin), low);
      return 0;
    });
    CHECK(error.rv_name() == "CKR_PIN_INCORRECT");
    CHECK_FALSE(error.retryable());
  };
  REQUIRE(pin_flags(ock) == 0);
  refused(ock.wrong_pin());
  REQUIRE(pin_flags(ock) == CKF_USER_PIN_COUNT_LOW);

  for (int i = 0; i < 5; ++i) refused(ock.wrong_pin());
  for (int i = 0; i < 5; ++i) refused(ock.wrong_pin(), LowPinCount::TryOnce);
  refused("111111");  // another one: refused without asking the token
  Host host;
  TokenBinding binding = ock.binding();
  binding.pin = pin_source(ock.wrong_pin());
  host.token("t", binding);
  for (int i = 0; i < 3; ++i) {
    error_of<TokenLoginError>([&] { return pkcs11_provider(host)->find_keys({}, "t").size(); });
  }
  CHECK(pin_flags(ock) == CKF_USER_PIN_COUNT_LOW);

  // The flags do move: a second wrong PIN leaves one try. The right one takes it and resets the count.
  refused("222222", LowPinCount::TryOnce);
  CHECK(pin_flags(ock) == CKF_USER_PIN_FINAL_TRY);
  session.login(ock.binding().pin, LowPinCount::TryOnce);
  CHECK(pin_flags(ock) == 0);
  make_key(session, 1);
}

TEST_CASE("openCryptoki without AES-GCM is refused for a set that wants it, and no key is left there") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki ock;
  const auto mechanisms = ock.module()->mechanisms(kToken);
  REQUIRE(mechanisms.size() > 10);
  if (std::ranges::find(mechanisms, CKM_AES_GCM, &MechanismInfo::type) != mechanisms.end()) {
    WARN("skipped: this openCryptoki has AES-GCM");
    return;
  }
  Host host;
  host.token("t", ock.binding());
  const auto provider = pkcs11_provider(host);
  const SetSpec spec{.token = "t", .algorithm = WrapAlgorithm::Aes256Gcm};
  const auto error = error_of<WrongKeyError>([&] { return provider->provision(spec, {}, 1); });
  CHECK_NAMES(error.what(), "gcm-wraps");
  CHECK_NAMES(error.what(), "C_EncryptInit failed: CKR_MECHANISM_INVALID");
  CHECK(provider->find_keys({}, "t").empty());
}
