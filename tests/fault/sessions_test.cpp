// F1 to F4: handles, sessions and logins that are lost.

#include <hsmseal/deadline.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "fault/faulty_ring.hpp"
#include "fault/faulty_vault.hpp"
#include "pkcs11/session_access.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

CK_FUNCTION_LIST* functions_of(const FaultyHsm& hsm) {
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(hsm.symbol("C_GetFunctionList"))(&list) == CKR_OK);
  return list;
}

/// A session of other code in this process, which knows nothing of hsmseal.
struct ForeignSession {
  explicit ForeignSession(const FaultyHsm& hsm) : p11(functions_of(hsm)) {
    const auto slot = static_cast<CK_SLOT_ID>(hsm.module()->token({.label = "one"}).slot);
    REQUIRE(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &handle) == CKR_OK);
  }
  [[nodiscard]] bool answers() const {
    CK_SESSION_INFO info{};
    return p11->C_GetSessionInfo(handle, &info) == CKR_OK;
  }

  CK_FUNCTION_LIST* p11;
  CK_SESSION_HANDLE handle = 0;
};

/// What one loss leads to, however many threads see it.
void check_one_recovery(const FaultyRing& parts, unsigned long least_logins = 1) {
  CHECK(parts.hsm.calls("C_Login") >= least_logins);
  CHECK(parts.hsm.calls("C_Login") <= 1);
  CHECK(parts.hsm.calls("C_Logout") == 0);
  CHECK(parts.hsm.counter("wrong_pins") == 0);
  CHECK(parts.count(Event::Kind::TokenLost) == 1);
  CHECK(parts.count(Event::Kind::TokenRecovered) == 1);
}

}  // namespace

TEST_CASE("F1: a restart while threads work names no stale handle and seals under no other key") {
  FaultyRing parts{both_policies()};
  parts.hsm.apply("renumber");
  auto ring = parts.create();
  const EnvelopeEncryptor vault{ring};
  const Bytes old = vault.seal(bytes_of("old"), kNoContext);
  ring.add({.token = "one"});
  REQUIRE(comes_back(vault));
  REQUIRE(vault.open(old, kNoContext).text() == "old");
  std::mutex mutex;
  std::vector<Bytes> sealed;
  for (int restart = 1; restart <= 3; ++restart) {
    parts.hsm.reset();
    parts.passed += 3'600'000;
    parts.hsm.apply("fail C_Encrypt CKR_CRYPTOKI_NOT_INITIALIZED skip=40 times=1");
    in_threads(8, [&](std::size_t thread) {
      for (int i = 0; i < 20; ++i) {
        Bytes one = vault.seal(bytes_of(std::to_string(thread)), kNoContext);
        if (vault.open(old, kNoContext).text() != "old") throw std::runtime_error("another secret");
        const std::scoped_lock lock{mutex};
        sealed.push_back(std::move(one));
      }
    });
    CHECK(parts.hsm.fired("fail") == 1);
    CHECK(parts.hsm.fired("F1") > 0);
    CHECK(parts.hsm.counter("starts") == 1);
    CHECK(parts.hsm.counter("stale_handles") == 0);
    CHECK(parts.hsm.counter("stale_again") == 0);
    CHECK(parts.hsm.calls("C_Login") == 1);
    CHECK(parts.count(Event::Kind::DriverRestarted) == restart);
  }
  CHECK(sealed.size() == 480);
  const EnvelopeEncryptor other{parts.elsewhere()};
  for (const Bytes& one : sealed) {
    CHECK(inspect(one).version == 2);
    CHECK(other.open(one, kNoContext).text().size() == 1);
  }
}

TEST_CASE("F1: a new login that numbers the keys anew lets nothing be sealed under another key") {
  FaultyRing parts{both_policies()};
  parts.hsm.apply("renumber");
  auto ring = parts.create();
  ring.add({.token = "one"});
  const EnvelopeEncryptor vault{ring};
  REQUIRE(comes_back(vault));
  std::mutex mutex;
  std::vector<Bytes> sealed;
  parts.hsm.reset();
  parts.hsm.apply("lose_login in=C_Encrypt skip=40");
  in_threads(8, [&](std::size_t) {
    for (int i = 0; i < 20; ++i) {
      Bytes one = vault.seal(bytes_of("x"), kNoContext);
      const std::scoped_lock lock{mutex};
      sealed.push_back(std::move(one));
    }
  });
  CHECK(parts.hsm.fired("lose_login") > 0);
  CHECK(parts.hsm.fired("F1") > 0);
  CHECK(sealed.size() == 160);
  CHECK(parts.hsm.counter("stale_again") == 0);
  const EnvelopeEncryptor other{parts.elsewhere()};
  for (const Bytes& one : sealed) CHECK(other.open(one, kNoContext).text() == "x");
}

TEST_CASE("F1: no call is made with a handle from before a login, or of a key that was destroyed") {
  const FaultyHsm hsm;
  hsm.apply("renumber");
  auto session = logged_in(hsm, "one");
  const Bytes id = make_key(session, "first");
  const Bytes other_id = make_key(session, "second");
  const auto watch = pkcs11::SessionAccess::watch_handles(session);
  const KeyHandle key = session.find_key({.id = id}).value();
  const Bytes iv(12, std::byte{1});
  const auto encrypt = [&] {
    const pkcs11::SessionAccess::KeyUse use{session, watch, key};
    return session.encrypt(key, {.iv = iv}, bytes_of("x"));
  };
  CHECK(encrypt().size() == 17);
  KeyHandle other = session.find_key({.id = other_id}).value();
  SECTION("a login") {
    hsm.apply("lose_login");
    other = logged_in(hsm, "one").find_key({.id = other_id}).value();
    CHECK(hsm.fired("lose_login") == 1);
    CHECK(other == key);  // what the old number names now
  }
  SECTION("a destruction") {
    pkcs11::SessionAccess::destroy_key(session, key, id);
    other = logged_in(hsm, "one").find_key({.id = make_key(session, "third")}).value();
  }
  hsm.reset();
  const auto error = error_of<TokenError>(encrypt);
  CHECK(error.function() == "C_EncryptInit");
  CHECK(error.rv() == CKR_KEY_HANDLE_INVALID);
  CHECK(hsm.calls("C_EncryptInit") == 0);
  CHECK(hsm.counter("stale_handles") == 0);
}

TEST_CASE("F1: what a token answered while somebody logged in is not used") {
  FaultyRing parts{HangPolicy::Direct};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  parts.hsm.reset();
  parts.hsm.apply("hang C_Encrypt forever times=1");
  Bytes sealed;
  Threads threads;
  threads.start([&] { sealed = vault.seal(bytes_of("x"), kNoContext); });
  CHECK(eventually([&] { return parts.hsm.fired("hang") == 1; }));
  parts.hsm.apply("lose_login");
  {
    const Deadline soon{std::chrono::milliseconds{500}};  // the login waits for whoever is in a call, but not for ever
    static_cast<void>(logged_in(parts.hsm, "one"));
  }
  parts.hsm.apply("release");
  threads.join();
  CHECK(parts.hsm.fired("lose_login") == 1);
  CHECK(parts.hsm.calls("C_Login") == 1);
  CHECK(parts.hsm.calls("C_FindObjectsInit") == 1);
  CHECK(parts.hsm.calls("C_Encrypt") > 1);
  CHECK(vault.open(sealed, kNoContext).text() == "x");
}

TEST_CASE("F2: sessions of an earlier life touch none that got their numbers after a restart") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  auto own = std::make_optional<Pkcs11Session>(parts.hsm.module(), TokenSelector{.label = "one"});
  const EnvelopeEncryptor other{parts.open()};
  REQUIRE(comes_back(other));
  REQUIRE(comes_back(vault));
  parts.hsm.apply("foreign_finalize");
  REQUIRE(comes_back(vault));
  REQUIRE(parts.hsm.fired("foreign_finalize") == 1);
  REQUIRE(parts.hsm.counter("starts") == 2);
  std::vector<ForeignSession> foreign;
  for (int i = 0; i < 6; ++i) foreign.emplace_back(parts.hsm);  // among them the numbers of what is closed now
  const auto open_now = parts.hsm.open_sessions();
  parts.hsm.reset();
  CHECK_THROWS_AS(own->random(8), TokenError);
  own.reset();
  CHECK(parts.hsm.open_sessions() == open_now);
  CHECK(comes_back(other));
  CHECK(comes_back(vault));
  CHECK(parts.hsm.calls("C_CloseSession") == 0);
  CHECK(parts.hsm.counter("stale_handles") == 0);
  CHECK(parts.hsm.counter("threads_in_one_session") == 0);
  for (const auto& one : foreign) CHECK(one.answers());
}

TEST_CASE("F3: a session that dies in a call is replaced, without a login") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  for (const char* const function : {"C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"}) {
    for (const char* const rv : {"CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED"}) {
      CAPTURE(function, rv);
      parts.hsm.reset();
      parts.hsm.apply(std::string{"kill one "} + rv + " in=" + function);
      CHECK(comes_back(vault));
      CHECK(parts.hsm.fired("F3") == 1);
      CHECK(parts.hsm.calls("C_Login") == 0);
      CHECK(parts.hsm.calls("C_OpenSession") == 1);
      CHECK(parts.hsm.calls("C_CloseSession") == 0);  // its number may be another's
      CHECK(parts.hsm.counter("stale_again") == 0);
    }
  }
  CHECK(parts.count(Event::Kind::TokenLost) == 0);
}

TEST_CASE("F3: a session that its driver does not know any more is neither used nor closed") {
  const FaultyHsm hsm;
  for (const char* const rv : {"CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED"}) {
    CAPTURE(rv);
    auto session = std::make_optional(logged_in(hsm, "one"));
    hsm.reset();
    hsm.apply(std::string{"kill one "} + rv + " in=C_GetSessionInfo");
    CHECK_FALSE(pkcs11::SessionAccess::answers(*session));
    CHECK_FALSE(pkcs11::SessionAccess::answers(*session));
    session.reset();
    CHECK(hsm.fired("kill") == 1);
    CHECK(hsm.calls_total() == 1);
    CHECK(hsm.counter("stale_again") == 0);
  }
}

TEST_CASE("F3: when all sessions die under a hundred threads, one login brings them back") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  parts.hsm.reset();
  parts.hsm.apply("kill all in=C_Encrypt skip=120");
  CHECK(come_back(vault, 100, 3) == 300);
  CHECK(parts.hsm.fired("F3") == 1);
  check_one_recovery(parts, 0);  // while a call runs in a session that died, the token keeps the login
}

TEST_CASE("F3: the death of the session that keeps the login costs one login at most") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  parts.hsm.reset();
  parts.hsm.apply("kill anchor in=C_Encrypt");
  CHECK(comes_back(vault));
  CHECK(parts.hsm.fired("F3") == 1);
  parts.hsm.apply("kill one in=C_Encrypt");
  CHECK(come_back(vault, 8, 5) == 40);
  CHECK(parts.hsm.fired("F3") == 2);
  CHECK(parts.hsm.calls("C_Login") <= 1);
  CHECK(parts.count(Event::Kind::TokenLost) == 1);
  CHECK(parts.count(Event::Kind::TokenRecovered) == 1);
}

TEST_CASE("F4: a login that is lost while threads work is made once more") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  const std::string how =
      GENERATE(as<std::string>{}, "lose_login in=C_Encrypt skip=60", "lose_login in=C_DecryptInit skip=60");
  CAPTURE(how);
  parts.hsm.reset();
  parts.hsm.apply(how);
  CHECK(come_back(vault, 20, 10) == 200);
  CHECK(parts.hsm.fired(how.substr(0, how.find(' '))) > 0);
  check_one_recovery(parts);
}

TEST_CASE("F4: a login that ends with the last session is made once more") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  parts.hsm.reset();
  parts.hsm.apply("kill all in=C_GetTokenInfo");
  static_cast<void>(parts.hsm.module()->token({.label = "one"}));
  CHECK(parts.hsm.open_sessions() == 0);
  CHECK(come_back(vault, 20, 5) == 100);
  CHECK(parts.hsm.fired("kill") == 1);
  check_one_recovery(parts);
}

TEST_CASE("F4: a login that ends by itself is made once more") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  parts.hsm.reset();
  parts.hsm.apply("lose_login after=20");
  for (int i = 0; i < 10'000 && parts.hsm.fired("lose_login") == 0; ++i) REQUIRE(comes_back(vault));
  CHECK(comes_back(vault));
  CHECK(parts.hsm.fired("F4") > 0);
  check_one_recovery(parts);
}

TEST_CASE("F4: after somebody else's logout hsmseal logs in once more") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  const ForeignSession foreign{parts.hsm};
  parts.hsm.reset();
  REQUIRE(foreign.p11->C_Logout(foreign.handle) == CKR_OK);
  CHECK(come_back(vault, 8, 5) == 40);
  CHECK(parts.hsm.calls("C_Logout") == 1);  // the foreign one
  CHECK(parts.hsm.calls("C_Login") == 1);
  CHECK(parts.count(Event::Kind::TokenRecovered) == 1);
}
