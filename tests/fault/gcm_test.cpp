// F7 to F11: AES-GCM that is not as the standard has it, and answers to bytes that do not open.

#include <hsmseal/pkcs11_session.hpp>

#include "fault/faulty_ring.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// add() refuses the token as it is now, with a typed error, and leaves nothing behind.
void check_refused(FaultyRing& parts, KeyRing& ring, const std::string& fault) {
  CAPTURE(fault);
  parts.hsm.reset();
  {
    const FaultFor now(parts.hsm, fault);
    try {
      ring.add({.token = "one", .algorithm = WrapAlgorithm::Aes256Gcm});
      FAIL("a set was added");
    } catch (const WrongKeyError&) {
    } catch (const TokenError&) {
    } catch (const OpenError&) {
      FAIL("an OpenError is about an envelope");
    }
    CHECK(parts.hsm.fired(fault.substr(0, fault.find(' '))) > 0);
  }
  CHECK(ring.list().size() == 1);
  CHECK(ring.active().version == 1);
  CHECK(parts.keys_in_token(ring) == 1);
  CHECK(comes_back(EnvelopeEncryptor{ring}));
}

}  // namespace

TEST_CASE("F7: a token whose AES-GCM is not the caller's is refused for a set that wants it, and keeps no key") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  for (const char* const fault :
       {"gcm_iv writeback", "gcm_iv append12", "gcm_iv append16", "gcm_iv prepend", "gcm_iv replace", "gcm_iv zeroed",
        "gcm_iv null", "gcm_iv longer", "gcm_no_aad", "gcm_no_tag", "gcm_plain", "gcm_same"}) {
    check_refused(parts, ring, fault);
  }
}

TEST_CASE("F7: a token that begins to make its own IV seals nothing for who comes then") {
  FaultyRing parts;
  { const auto ring = parts.create(); }
  for (const char* const rule :
       {"writeback", "append12", "append16", "prepend", "replace", "zeroed", "null", "longer"}) {
    CAPTURE(rule);
    const FaultFor now(parts.hsm, std::string{"gcm_iv "} + rule);
    const EnvelopeEncryptor vault{parts.open()};
    parts.hsm.reset();
    CHECK_THROWS_AS(vault.seal(bytes_of("x"), kNoContext), Error);
    CHECK(parts.hsm.fired("F7") > 0);
  }
}

TEST_CASE("F7: an IV that is not given back as it was keeps a ring that has worked from sealing") {
  FaultyRing parts{both_policies()};
  const auto suite = GENERATE(Suite::DataKey, Suite::Token);
  const EnvelopeEncryptor vault{parts.create(), {.suite = suite}};
  REQUIRE(comes_back(vault));
  const Bytes sealed = vault.seal(bytes_of("x"), kNoContext);
  for (const char* const rule : {"zeroed", "null", "longer"}) {
    CAPTURE(rule, static_cast<int>(suite));
    parts.hsm.reset();
    {
      const FaultFor now(parts.hsm, std::string{"gcm_iv "} + rule);
      const auto error = error_of<TokenError>([&] { return vault.seal(bytes_of("x"), kNoContext); });
      CHECK_NAMES(error.what(), "another IV than the caller's");
      CHECK(parts.hsm.fired("gcm_iv") > 0);
      CHECK(vault.open(sealed, kNoContext).text() == "x");
    }
    CHECK(comes_back(vault));
  }
}

TEST_CASE("F10, F11: a ring encrypts with AES-GCM alone, and neither wraps nor unwraps keys in the token") {
  FaultyRing parts{both_policies()};
  const auto store = std::make_shared<OpenStore>();
  parts.store = store;
  auto ring = parts.create();
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    const EnvelopeEncryptor vault{ring, {.suite = suite}};
    const auto old = ring.active().version;
    const Bytes sealed = vault.seal(bytes_of("x"), kNoContext);
    ring.add({.token = "one"});
    ring.verify(old);
    if (suite == Suite::DataKey) CHECK(vault.open(vault.rewrap(sealed), kNoContext).text() == "x");
    CHECK(vault.open(vault.reseal(sealed, kNoContext), kNoContext).text() == "x");
    store->clock += std::chrono::hours{24};  // every host has heard that it seals no more
    ring.remove_without_census(old);
    store->clock += std::chrono::hours{8 * 24};  // its quarantine is over
    ring.destroy_key(old, [](Version) { return std::uint64_t{0}; }, {.version_again = old});
  }
  CHECK(parts.hsm.calls("C_EncryptInit") > 0);
  CHECK(parts.hsm.calls("C_DecryptInit") > 0);
  CHECK(parts.hsm.calls("C_DestroyObject") == 2);
  CHECK(parts.hsm.counter("other_ciphers") == 0);
  CHECK(parts.hsm.calls("C_WrapKey") == 0);
  CHECK(parts.hsm.calls("C_UnwrapKey") == 0);
}

TEST_CASE("F8: a token that wants another number of AES-GCM is refused for a set that does not name it") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  check_refused(parts, ring, "gcm_mechanism 0x8000011c");
}

TEST_CASE("F9: a corrupted envelope is an OpenError whatever the token answers, and nothing is recovered") {
  FaultyRing parts{both_policies()};
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  const Bytes bad = corrupted(vault);
  for (const char* const rv : {"CKR_GENERAL_ERROR", "CKR_DEVICE_ERROR", "CKR_FUNCTION_FAILED",
                               "CKR_ENCRYPTED_DATA_INVALID", "0x80000384", "0x81000071", "0x3E8"}) {
    CAPTURE(rv);
    const FaultFor now(parts.hsm, std::string{"gcm_bad_tag "} + rv);
    parts.hsm.reset();
    for (int i = 0; i < 20; ++i) CHECK_THROWS_AS(vault.open(bad, kNoContext), OpenError);
    CHECK(comes_back(vault));
    CHECK(parts.hsm.fired("F9") >= 20);
    for (const char* const never : {"C_Login", "C_Initialize", "C_Finalize", "C_Logout"}) {
      CHECK(parts.hsm.calls(never) == 0);
    }
  }
  CHECK(parts.count(Event::Kind::TokenLost) == 0);
  CHECK(parts.count(Event::Kind::CircuitOpened) == 0);
}

TEST_CASE("F9: a thousand corrupted envelopes disturb nobody") {
  FaultyRing parts;
  const EnvelopeEncryptor vault{parts.create()};
  REQUIRE(comes_back(vault));
  const Bytes bad = corrupted(vault);
  parts.hsm.reset();
  const FaultFor now(parts.hsm, "gcm_bad_tag CKR_DEVICE_ERROR");
  std::atomic<int> refused = 0;
  in_threads(4, [&](std::size_t) {
    for (int i = 0; i < 250; ++i) {
      try {
        static_cast<void>(vault.open(bad, kNoContext));
      } catch (const OpenError&) {
        ++refused;
      }
      if (i % 50 == 0 && !comes_back(vault)) throw std::runtime_error("another secret");
    }
  });
  CHECK(refused == 1000);
  CHECK(parts.hsm.fired("F9") >= 1000);
  CHECK(parts.hsm.calls("C_Login") + parts.hsm.calls("C_Initialize") + parts.hsm.calls("C_Finalize") == 0);
  CHECK(parts.count(Event::Kind::TokenLost) == 0);
  CHECK(parts.count(Event::Kind::CircuitOpened) == 0);
}

TEST_CASE(
    "F7, F8: a session encrypts as the token does, whoever makes the IV, wherever it goes and however it is asked") {
  const FaultyHsm hsm;
  const auto module = Pkcs11Module::load(hsm.driver());
  Pkcs11Session session{module, {.label = "one"}};
  session.login(hsm.binding("one").pin);
  const auto key = session.generate_aes_key({.id = Bytes(16, std::byte{7}), .lifetime = KeyLifetime::Session});
  struct Case {
    const char* faults;
    GcmForm form;
    const char* group;
  };
  const auto rule = GENERATE(values<Case>({
      {"gcm_iv writeback", {.iv_rule = IvRule::TokenWrites}, "F7"},
      {"gcm_iv append12", {.iv_rule = IvRule::TokenAppends}, "F7"},
      {"gcm_iv append16", {.iv_rule = IvRule::TokenAppends, .iv_bytes = 16}, "F7"},
      {"gcm_iv prepend", {.iv_rule = IvRule::TokenPrepends}, "F7"},
      {"gcm_layout five", {.parameters = GcmParameters::WithoutIvBits}, ""},
      {"gcm_mechanism 0x8000011c", {.mechanism = 0x8000011c}, ""},
  }));
  CAPTURE(rule.faults);
  const FaultFor now(hsm, rule.faults);
  const bool callers = rule.form.iv_rule == IvRule::Caller;
  const Bytes mine(12, std::byte{9});
  const auto aad = bytes_of("context");
  const ByteView given = callers ? ByteView{mine} : ByteView{};
  const Bytes first = session.encrypt(key, {.iv = given, .aad = aad, .form = rule.form}, bytes_of("secret"));
  REQUIRE(first.size() == (callers ? 0 : rule.form.iv_bytes) + 6 + 16);
  const ByteView iv = callers ? given : ByteView{first}.first(rule.form.iv_bytes);
  const ByteView sealed = callers ? ByteView{first} : ByteView{first}.subspan(rule.form.iv_bytes);
  CHECK(session.decrypt(key, {.iv = iv, .aad = aad, .form = rule.form}, sealed).text() == "secret");
  if (!callers) {
    CHECK(session.encrypt(key, {.aad = aad, .form = rule.form}, bytes_of("secret")) != first);
    CHECK_THROWS_AS(session.encrypt(key, {.iv = mine, .form = rule.form}, bytes_of("x")), InvalidArgumentError);
    CHECK(hsm.fired(rule.group) > 0);
  }
}

TEST_CASE("F7: a token that does not make the IV it is asked for is refused by the session") {
  const FaultyHsm hsm;
  const auto module = Pkcs11Module::load(hsm.driver());
  Pkcs11Session session{module, {.label = "one"}};
  session.login(hsm.binding("one").pin);
  const auto key = session.generate_aes_key({.id = Bytes(16, std::byte{7}), .lifetime = KeyLifetime::Session});
  // The real driver encrypts under the zeros that it is given.
  const auto rule = GENERATE(IvRule::TokenWrites, IvRule::TokenPrepends);
  CHECK_THROWS_AS(session.encrypt(key, {.form = {.iv_rule = rule}}, bytes_of("secret")), TokenError);
  CHECK_FALSE(session.usable());
}
