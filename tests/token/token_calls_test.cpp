#include <atomic>
#include <cstdio>
#include <string>

#include <p11-kit/pkcs11.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using test::error_of;
using test::FaultyHsm;

namespace {

const SecretBytes& secret() {
  static const auto bytes = SecretBytes::from_text("a secret of thirty-two bytes, yes");
  return bytes;
}

KeyRing ring_on(const Host& host) {
  return KeyRing::create(memory_ring_store(), pkcs11_provider(host), {.token = "one"}, RingPin::in_process());
}

/// Everything was found and proved, and one session is open beside the one that keeps the login.
void warm_up(const EnvelopeEncryptor& vault) {
  static_cast<void>(vault.open(vault.seal(secret().view(), kNoContext), kNoContext));
}

struct Counts {
  unsigned long total, length_queries;
  bool operator==(const Counts&) const = default;
};

template <typename Work>
Counts calls_of(const FaultyHsm& hsm, const Work& work) {
  hsm.reset();
  static_cast<void>(work());
  return {hsm.calls_total(), hsm.length_queries()};
}

/// What must never be called on the way of a secret, once everything has been found.
void check_no_other_calls(const FaultyHsm& hsm) {
  for (const char* function : {"C_GetSessionInfo", "C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue",
                               "C_Login", "C_Logout", "C_Finalize", "C_CloseAllSessions", "C_GenerateRandom"}) {
    CAPTURE(function);
    CHECK(hsm.calls(function) == 0);
  }
  CHECK(hsm.length_queries() == 0);
  CHECK(hsm.threads_in_one_session() == 0);
}

Host host_with(const FaultyHsm& hsm, std::size_t max_sessions) {
  TokenBinding binding = hsm.binding("one");
  binding.limits.max_sessions = max_sessions;
  Host host = hsm.bare_host();
  host.token("one", binding);
  return host;
}

/// Eight threads seal and open 200 secrets each. @returns how many came back as they were.
int seal_and_open_in_eight_threads(const EnvelopeEncryptor& vault) {
  std::atomic<int> whole = 0;
  test::in_threads(8, [&](std::size_t thread) {
    for (int i = 0; i < 200; ++i) {
      const std::string text = std::to_string(thread) + " " + std::to_string(i);
      if (vault.open(vault.seal(bytes_of(text), kNoContext), kNoContext).text() == text) ++whole;
    }
  });
  return whole;
}

}  // namespace

TEST_CASE("a seal costs two token calls, an open two and a rewrap four") {
  const FaultyHsm hsm;
  auto ring = ring_on(hsm.host());
  const EnvelopeEncryptor vault{ring};
  const EnvelopeEncryptor in_token{ring, {.suite = Suite::Token}};
  warm_up(vault);
  warm_up(in_token);

  Bytes sealed, sealed_in_token;
  const Counts seal = calls_of(hsm, [&] { return sealed = vault.seal(secret().view(), kNoContext); });
  CHECK(seal == Counts{2, 0});
  CHECK(hsm.calls("C_EncryptInit") == 1);
  CHECK(hsm.calls("C_Encrypt") == 1);
  const Counts open = calls_of(hsm, [&] { return vault.open(sealed, kNoContext); });
  CHECK(open == Counts{2, 0});
  CHECK(hsm.calls("C_DecryptInit") == 1);
  CHECK(hsm.calls("C_Decrypt") == 1);
  const Counts token_seal = calls_of(hsm, [&] { return sealed_in_token = in_token.seal(secret().view(), kNoContext); });
  CHECK(token_seal == Counts{2, 0});
  CHECK(hsm.calls("C_EncryptInit") == 1);
  CHECK(hsm.calls("C_Encrypt") == 1);
  const Counts token_open = calls_of(hsm, [&] { return in_token.open(sealed_in_token, kNoContext); });
  CHECK(token_open == Counts{2, 0});
  CHECK(hsm.calls("C_DecryptInit") == 1);
  CHECK(hsm.calls("C_Decrypt") == 1);

  ring.add({.token = "one"});
  warm_up(vault);
  const Counts rewrap = calls_of(hsm, [&] { return vault.rewrap(sealed); });
  CHECK(rewrap == Counts{4, 0});
  CHECK(hsm.calls("C_Decrypt") == 1);
  CHECK(hsm.calls("C_Encrypt") == 1);
  const Counts reseal = calls_of(hsm, [&] { return in_token.reseal(sealed_in_token, kNoContext); });
  CHECK(reseal == Counts{4, 0});
  const Counts look = calls_of(hsm, [&] { return vault.needs_rewrap(sealed) && inspect(sealed).version == 1; });
  CHECK(look == Counts{0, 0});
  std::printf(
      "token calls: seal %lu, open %lu, rewrap %lu; in the token: seal %lu, open %lu, reseal %lu; "
      "length queries %lu\n",
      seal.total, open.total, rewrap.total, token_seal.total, token_open.total, reseal.total,
      seal.length_queries + open.length_queries + rewrap.length_queries + token_seal.length_queries +
          token_open.length_queries + reseal.length_queries);
}

TEST_CASE("an envelope of any size costs as many token calls as a small one") {
  const FaultyHsm hsm;
  const EnvelopeEncryptor vault{ring_on(hsm.host())};
  warm_up(vault);
  for (const std::size_t size : {0U, 1U, 4096U, 1U << 20}) {
    CAPTURE(size);
    const Bytes large(size);
    Bytes sealed;
    CHECK(calls_of(hsm, [&] { return sealed = vault.seal(large, kNoContext); }) == Counts{2, 0});
    CHECK(sealed.size() == size + 138);
    CHECK(calls_of(hsm, [&] { return vault.open(sealed, kNoContext); }) == Counts{2, 0});
  }
}

TEST_CASE("an envelope that its header gives away does not reach the token") {
  const FaultyHsm hsm;
  const auto ring = ring_on(hsm.host());
  const EnvelopeEncryptor vault{ring};
  const EnvelopeEncryptor in_token{ring, {.suite = Suite::Token}};
  warm_up(vault);
  const Bytes sealed = vault.seal(secret().view(), kNoContext);
  Bytes not_one = sealed, other_ring = sealed, newer = sealed, too_long = in_token.seal(Bytes(4096), kNoContext);
  not_one[0] ^= std::byte{1};
  other_ring[8] ^= std::byte{1};
  newer[15] = std::byte{9};
  too_long.resize(too_long.size() + 1);
  hsm.reset();
  CHECK_THROWS_AS(vault.open({}, kNoContext), FormatError);
  CHECK_THROWS_AS(vault.open(not_one, kNoContext), FormatError);
  CHECK_THROWS_AS(vault.open(ByteView{sealed}.first(137), kNoContext), FormatError);
  CHECK_THROWS_AS(vault.open(other_ring, kNoContext), WrongRingError);
  CHECK_THROWS_AS(vault.open(newer, kNoContext), RingOutOfDateError);
  CHECK_THROWS_AS(vault.open(too_long, kNoContext), OpenError);
  CHECK_THROWS_AS(in_token.seal(Bytes(4097), kNoContext), InvalidArgumentError);
  CHECK_THROWS_AS(in_token.rewrap(too_long), InvalidArgumentError);
  CHECK(hsm.calls_total() == 0);
}

TEST_CASE("eight threads work in sessions of their own and call nothing that is not needed") {
  const FaultyHsm hsm;
  auto ring = ring_on(hsm.host());
  const EnvelopeEncryptor vault{ring};
  warm_up(vault);
  hsm.reset();
  CHECK(seal_and_open_in_eight_threads(vault) == 1600);
  check_no_other_calls(hsm);
  CHECK(hsm.calls("C_Encrypt") == 1600);
  CHECK(hsm.calls("C_Decrypt") == 1600);
  CHECK(hsm.calls("C_CloseSession") == 0);
  CHECK(hsm.open_sessions() <= 1 + SessionLimits{}.max_sessions);
  const unsigned long opened = hsm.calls("C_OpenSession");
  CHECK(opened < SessionLimits{}.max_sessions);
  // Each of them looks for its token; nothing else was called.
  CHECK(hsm.calls_total() == 4 * 1600 + opened + hsm.calls("C_GetSlotList") + hsm.calls("C_GetTokenInfo"));
  std::printf("eight threads, 1600 seals and opens: %lu token calls, %lu sessions, %lu threads in one session\n",
              hsm.calls_total(), hsm.open_sessions(), hsm.threads_in_one_session());
}

TEST_CASE("eight threads that come first log in, find the key and prove it once") {
  const FaultyHsm hsm;
  const KeyDescription description = ring_on(hsm.host()).active().key;
  REQUIRE(hsm.open_sessions() == 0);
  hsm.reset();
  const auto key = pkcs11_provider(hsm.host())->connect(description);
  CHECK(hsm.calls_total() == 0);
  std::atomic<std::size_t> wrapped = 0;
  test::in_threads(8, [&](std::size_t) { wrapped += key->wrap(secret().view(), {}).size(); });
  CHECK(wrapped == 8 * (12 + secret().size() + 16));
  CHECK(hsm.calls("C_Login") == 1);
  CHECK(hsm.calls("C_FindObjectsInit") == 1);
  // One proof, and one round trip before the first wrap.
  CHECK(hsm.calls("C_Decrypt") <= 2);
  CHECK(hsm.calls("C_Encrypt") <= 8 + 1);
}

TEST_CASE("a host's limit of sessions holds for any number of threads") {
  const FaultyHsm hsm;
  const EnvelopeEncryptor vault{ring_on(host_with(hsm, 2))};
  warm_up(vault);
  hsm.reset();
  CHECK(seal_and_open_in_eight_threads(vault) == 1600);
  CHECK(hsm.open_sessions() <= 3);
  check_no_other_calls(hsm);
}

TEST_CASE("a host's limit of sessions holds while a set is added") {
  const FaultyHsm hsm;
  hsm.apply("session_limit 2");  // the one that keeps the login, and one that works
  auto ring = ring_on(host_with(hsm, 1));
  CHECK(ring.add({.token = "one"}) == 2);
  CHECK(ring.add({.token = "one", .adopt_key_id = ring.active().key.key_id}) == 3);
  CHECK_NOTHROW(ring.verify(3));
}

TEST_CASE("sessions end with the ring that used them, without a logout") {
  const FaultyHsm hsm;
  {
    const EnvelopeEncryptor vault{ring_on(hsm.host())};
    CHECK(seal_and_open_in_eight_threads(vault) == 1600);
    CHECK(hsm.open_sessions() > 1);
  }
  CHECK(hsm.open_sessions() == 0);
  CHECK(hsm.calls("C_OpenSession") == hsm.calls("C_CloseSession"));
  CHECK(hsm.calls("C_Login") == 1);
  CHECK(hsm.calls("C_Logout") == 0);
  CHECK(hsm.calls("C_CloseAllSessions") == 0);
  CHECK(hsm.calls("C_Finalize") == 0);
}

TEST_CASE("a session in which the device failed is closed, and the next seal works") {
  const FaultyHsm hsm;
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    const EnvelopeEncryptor vault{ring_on(hsm.host()), {.suite = suite}};
    warm_up(vault);
    const unsigned long open_before = hsm.open_sessions();
    hsm.reset();
    hsm.fail_next("C_Encrypt", CKR_DEVICE_ERROR);
    const auto error = error_of<TokenError>([&] { return vault.seal(secret().view(), kNoContext); });
    CHECK(error.function() == "C_Encrypt");
    CHECK(error.rv() == CKR_DEVICE_ERROR);
    CHECK(error.retryable());
    CHECK(hsm.calls("C_CloseSession") == 1);
    CHECK(hsm.open_sessions() == open_before - 1);
    CHECK(vault.open(vault.seal(secret().view(), kNoContext), kNoContext).text() == secret().text());
    CHECK(hsm.calls("C_OpenSession") == 1);
    CHECK(hsm.open_sessions() == open_before);
    CHECK(hsm.calls("C_Login") == 0);
  }
}

TEST_CASE("a device error while opening is told from a changed envelope") {
  const FaultyHsm hsm;
  const EnvelopeEncryptor vault{ring_on(hsm.host())};
  const Bytes sealed = vault.seal(secret().view(), kNoContext);
  // Once: the token was in trouble, and is not any more.
  for (const unsigned long rv : {CKR_DEVICE_ERROR, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED}) {
    hsm.fail_next("C_Decrypt", rv);
    CHECK(vault.open(sealed, kNoContext).text() == secret().text());
  }
  // For good: it is not the envelope's fault.
  hsm.fail_next("C_Decrypt", CKR_DEVICE_ERROR, 1000);
  CHECK(error_of<TokenError>([&] { return vault.open(sealed, kNoContext); }).rv() == CKR_DEVICE_ERROR);
  hsm.fail_next("C_Decrypt", CKR_DEVICE_ERROR, 0);
  // Codes that are not about the ciphertext are handed on.
  for (const unsigned long rv : {CKR_HOST_MEMORY, CKR_SESSION_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID}) {
    hsm.fail_next("C_Decrypt", rv);
    CHECK(error_of<TokenError>([&] { return vault.open(sealed, kNoContext); }).rv() == rv);
  }
  hsm.reset();
  Bytes changed = sealed;
  changed[40] ^= std::byte{1};
  CHECK_THROWS_AS(vault.open(changed, kNoContext), OpenError);
  CHECK(hsm.calls("C_Login") + hsm.calls("C_Logout") + hsm.calls("C_Initialize") + hsm.calls("C_Finalize") == 0);
  CHECK(vault.open(sealed, kNoContext).text() == secret().text());
}

TEST_CASE("eight threads make do with the three sessions that a token gives") {
  const FaultyHsm hsm;
  const auto store = memory_ring_store();
  { const auto ring = KeyRing::create(store, pkcs11_provider(hsm.host()), {.token = "one"}, RingPin::in_process()); }
  REQUIRE(hsm.open_sessions() == 0);
  hsm.apply("session_limit 3");
  const EnvelopeEncryptor vault{KeyRing::open(store, pkcs11_provider(hsm.host()), RingPin::in_process())};
  hsm.reset();
  CHECK(seal_and_open_in_eight_threads(vault) == 1600);
  CHECK(hsm.open_sessions() <= 3);
  CHECK(hsm.threads_in_one_session() == 0);
  // What the token has refused is not asked for again with every seal.
  CHECK(hsm.calls("C_OpenSession") < 100);
  std::printf("three sessions in the token: %lu open, %lu tries to open one\n", hsm.open_sessions(),
              hsm.calls("C_OpenSession"));
}

TEST_CASE("a token that gives no second session is unusable, and works when it does") {
  const FaultyHsm hsm;
  const auto store = memory_ring_store();
  { const auto ring = KeyRing::create(store, pkcs11_provider(hsm.host()), {.token = "one"}, RingPin::in_process()); }
  hsm.apply("session_limit 1");
  const auto provider = pkcs11_provider(hsm.host());
  const auto open = [&] { return KeyRing::open(store, provider, RingPin::in_process()); };
  CHECK(error_of<TokenError>(open).rv_name() == "CKR_SESSION_COUNT");
  hsm.apply("session_limit off");
  CHECK(seal_and_open_in_eight_threads(EnvelopeEncryptor{open()}) == 1600);
  CHECK(hsm.calls("C_Login") == 2);  // the ring's maker, and this provider once
}
