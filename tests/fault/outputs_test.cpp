// F12 to F15: buffers, operations that stay active, outputs that are not what was promised, and random bytes.

#include <set>

#include <hsmseal/pkcs11_session.hpp>

#include "fault/faulty_ring.hpp"
#include "fault/faulty_vault.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

TEST_CASE("F12: what a driver answers to length queries does not matter, since none is made") {
  FaultyRing parts{both_policies()};
  for (const char* const answer : {"over", "under", "zero", "consumes", "too_small"}) {
    parts.hsm.apply(std::string{"length_query "} + answer);
    parts.store = memory_ring_store();
    auto ring = parts.create();
    ring.add({.token = "one"});
    CHECK(comes_back(EnvelopeEncryptor{ring}));
  }
  CHECK(parts.hsm.length_queries() == 0);
  CHECK(parts.hsm.calls("C_Encrypt") > 0);
}

TEST_CASE("F12: a buffer that is too small is grown, and the call repeated in the same operation") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  const Bytes sealed = vault.seal(bytes_of("x"), kNoContext);
  for (const char* const fault : {"too_small", "too_small 200"}) {
    CAPTURE(fault);
    parts.hsm.reset();
    parts.hsm.apply(fault);
    CHECK(vault.seal(bytes_of("x"), kNoContext).size() == sealed.size());
    CHECK(parts.hsm.calls("C_EncryptInit") == 1);
    CHECK(parts.hsm.calls("C_Encrypt") == 2);
    parts.hsm.apply(fault);
    CHECK(vault.open(sealed, kNoContext).text() == "x");
    CHECK(parts.hsm.calls("C_DecryptInit") == 1);
    CHECK(parts.hsm.calls("C_Decrypt") == 2);
    CHECK(parts.hsm.fired("F12") == 2);
    CHECK(parts.hsm.calls("C_OpenSession") == 0);
  }
  parts.hsm.apply("exact_refused");
  CHECK(vault.open(sealed, kNoContext).text() == "x");
  CHECK(parts.hsm.fired("exact_refused") == 0);  // the buffer has more room than that
  parts.hsm.apply("too_small times=1000");
  CHECK(error_of<TokenError>([&] { return vault.seal(bytes_of("x"), kNoContext); }).rv() == CKR_BUFFER_TOO_SMALL);
  CHECK(parts.hsm.fired("too_small") > 2);
}

TEST_CASE("F13: a session whose operation stays active after a failure is not used again") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  for (const char* const function : {"C_Encrypt", "C_Decrypt"}) {
    for (const char* const rv : {"CKR_GENERAL_ERROR", "CKR_DATA_LEN_RANGE", "CKR_HOST_MEMORY"}) {
      CAPTURE(function, rv);
      parts.hsm.reset();
      parts.hsm.apply(std::string{"stays_active "} + rv + " in=" + function);
      bool whole = false;
      try {
        whole = comes_back(vault);
      } catch (const Error&) {
      }
      CHECK(whole == (std::string{rv} != "CKR_DATA_LEN_RANGE"));  // which is the caller's fault
      CHECK(parts.hsm.fired("F13") == 1);
      CHECK(parts.hsm.calls("C_CloseSession") >= 1);
      CHECK(parts.hsm.calls("C_Login") == 0);
      parts.hsm.reset();
      CHECK(come_back(vault, 4, 3) == 12);
      CHECK(parts.hsm.calls("C_CloseSession") == 0);  // no session is left in which an operation was active
    }
  }
}

TEST_CASE("F13: a driver that mixes an operation with one that stayed active is given no chance to") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  const FaultFor mixes(parts.hsm, "init_mixes");
  for (const char* const function : {"C_Encrypt", "C_Decrypt"}) {
    for (const char* const rv : {"CKR_GENERAL_ERROR", "CKR_HOST_MEMORY", "CKR_FUNCTION_FAILED"}) {
      CAPTURE(function, rv);
      parts.hsm.reset();
      parts.hsm.apply(std::string{"stays_active "} + rv + " in=" + function);
      CHECK(come_back(vault, 4, 5) == 20);
      CHECK(parts.hsm.fired("stays_active") == 1);
      CHECK(parts.hsm.fired("init_mixes") == 0);
    }
  }
}

TEST_CASE("F14: an output that is not what CKR_OK promises is an error, and nothing is used of it") {
  FaultyRing parts{both_policies()};
  const auto suite = GENERATE(Suite::DataKey, Suite::Token);
  const EnvelopeEncryptor vault{parts.create(), {.suite = suite}};
  REQUIRE(comes_back(vault));
  const Bytes sealed = vault.seal(bytes_of("x"), kNoContext);
  for (const char* const how : {"short", "long", "untouched", "overrun"}) {
    CAPTURE(how, static_cast<int>(suite));
    parts.hsm.reset();
    {
      const FaultFor now(parts.hsm, std::string{"output C_Encrypt "} + how);
      const auto error = error_of<TokenError>([&] { return vault.seal(bytes_of("x"), kNoContext); });
      CHECK_NAMES(error.what(), "returned CKR_OK but");
      CHECK(parts.hsm.fired("F14") > 0);
    }
    parts.hsm.reset();
    {
      const FaultFor now(parts.hsm, std::string{"output C_Decrypt "} + how);
      const auto error = error_of<TokenError>([&] { return vault.open(sealed, kNoContext); });
      CHECK_NAMES(error.what(), "returned CKR_OK but");
      CHECK(parts.hsm.fired("F14") > 0);
    }
    CHECK(vault.open(sealed, kNoContext).text() == "x");
  }
}

TEST_CASE("F14: a token with wrong outputs is refused when a set is added, and keeps no key") {
  FaultyRing parts;
  auto ring = parts.create();
  for (const char* const function : {"C_Encrypt", "C_Decrypt"}) {
    for (const char* const how : {"short", "long", "untouched", "overrun"}) {
      CAPTURE(function, how);
      parts.hsm.reset();
      const FaultFor now(parts.hsm, std::string{"output "} + function + " " + how);
      bool refused = false;
      try {
        ring.add({.token = "one"});
      } catch (const WrongKeyError&) {
        refused = true;
      } catch (const TokenError&) {
        refused = true;
      }
      CHECK(refused);
      CHECK(parts.hsm.fired("F14") > 0);
      CHECK(ring.list().size() == 1);
      CHECK(parts.keys_in_token(ring) == 1);
    }
  }
}

TEST_CASE("F15: random bytes of a token are drawn inside its limits, and what it left unwritten is not used") {
  const FaultyRing parts;
  const auto draw = [&](std::size_t size) { return Pkcs11Session{parts.hsm.module(), {.label = "one"}}.random(size); };
  {
    const FaultFor now(parts.hsm, "random limits");
    for (const std::size_t size : {0U, 1U, 7U, 8U, 9U, 1023U, 1024U, 1025U, 1031U, 1032U, 5000U}) {
      CHECK(draw(size).size() == size);
    }
    CHECK(parts.hsm.fired("F15") == 0);  // nothing had to be refused
    CHECK(parts.hsm.calls("C_GenerateRandom") > 11);
  }
  for (const char* const fault : {"random first8", "random zeros"}) {
    CAPTURE(fault);
    const FaultFor now(parts.hsm, fault);
    parts.hsm.reset();
    for (const std::size_t size : {9U, 16U, 32U, 1025U}) {
      CHECK(error_of<TokenError>([&] { return draw(size); }).function() == "C_GenerateRandom");
    }
    CHECK(parts.hsm.fired("F15") > 0);
  }
}

TEST_CASE("F15: what a ring seals does not depend on random bytes of the token") {
  FaultyRing parts{both_policies(), std::chrono::milliseconds{10}};
  const std::string how = GENERATE(as<std::string>{}, "zeros", "repeated", "first8", "limits");
  CAPTURE(how);
  parts.hsm.apply("random " + how);
  auto ring = parts.create();
  ring.add({.token = "one"});
  const EnvelopeEncryptor vault{ring};
  std::set<Bytes> all;
  for (int i = 0; i < 50; ++i) {
    const Bytes sealed = vault.seal(bytes_of("x"), kNoContext);
    CHECK(vault.open(sealed, kNoContext).text() == "x");
    all.emplace(sealed.begin() + 16, sealed.end());
  }
  CHECK(all.size() == 50);
  // Only what keeps the token awake draws any, inside the limits.
  CHECK(eventually([&] { return parts.hsm.calls("C_GenerateRandom") > 0; }));
  CHECK((parts.hsm.fired("random") > 0) == (how != "limits"));
}
