// F7, F8, F10: every way in which a token wraps, from the set that is added to the envelope that is opened elsewhere.

#include <set>

#include "crypto/crypto.hpp"
#include "fault/faulty_ring.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// A form of AES-GCM, and what makes the driver keep to it.
struct Form {
  const char* name;
  std::vector<const char*> faults;
  GcmForm form;
};

const std::vector<Form>& forms() {
  static const std::vector<Form> all{
      {"the token writes its IV", {"gcm_iv writeback"}, {.iv_rule = IvRule::TokenWrites}},
      {"the token appends 12 bytes", {"gcm_iv append12"}, {.iv_rule = IvRule::TokenAppends}},
      {"the token appends 16 bytes", {"gcm_iv append16"}, {.iv_rule = IvRule::TokenAppends, .iv_bytes = 16}},
      {"the token prepends its IV", {"gcm_iv prepend"}, {.iv_rule = IvRule::TokenPrepends}},
      {"five fields", {"gcm_layout five"}, {.parameters = GcmParameters::WithoutIvBits}},
      {"ulIvBits filled in", {"gcm_layout bits"}, {}},
      {"a vendor's number", {"gcm_mechanism 0x8000011c"}, {.mechanism = 0x8000011c}},
      {"five fields and the token's IV under a vendor's number",
       {"gcm_layout five", "gcm_iv append12", "gcm_mechanism 0x80001087"},
       {.iv_rule = IvRule::TokenAppends, .mechanism = 0x80001087, .parameters = GcmParameters::WithoutIvBits}},
  };
  return all;
}

/// Faults that end with the scope.
std::vector<std::unique_ptr<FaultFor>> keeping_to(const FaultyRing& parts, const std::vector<const char*>& faults) {
  std::vector<std::unique_ptr<FaultFor>> now;
  for (const char* const fault : faults) now.push_back(std::make_unique<FaultFor>(parts.hsm, fault));
  return now;
}

/// add() refuses the token as it is now, names the check that failed, and leaves nothing behind.
void check_refused(FaultyRing& parts, KeyRing& ring, const SetSpec& spec, const std::vector<const char*>& faults,
                   const std::string& check) {
  CAPTURE(faults.front(), check);
  parts.hsm.reset();
  {
    const auto now = keeping_to(parts, faults);
    const auto message = message_of<WrongKeyError>([&] { return ring.add(spec); });
    CHECK_NAMES(message, "token 'one' cannot protect keys: ");
    CHECK_NAMES(message, check);
  }
  const std::string fault{faults.front()};
  CHECK(parts.hsm.fired(fault.substr(0, fault.find(' '))) > 0);
  CHECK(parts.hsm.calls("C_GenerateKey") > 0);
  CHECK(parts.hsm.calls("C_DestroyObject") >= parts.hsm.calls("C_GenerateKey"));
  CHECK(ring.list().size() == 1);
  CHECK(parts.keys_in_token(ring) == 1);
}

}  // namespace

TEST_CASE("F7, F8: a set is added, seals, opens and is rewrapped in every form of AES-GCM that is named") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  const Bytes early = EnvelopeEncryptor{ring}.seal(bytes_of("early"), kNoContext);
  REQUIRE(forms().size() == 8);
  std::size_t rewrapped = 0;
  for (const Form& form : forms()) {
    CAPTURE(form.name);
    const auto now = keeping_to(parts, form.faults);
    const Version version = ring.add({.token = "one", .gcm = form.form});
    const auto set = ring.find(version);
    REQUIRE(set);
    CHECK(set->key.profile == WrapProfile{.gcm = form.form});
    CHECK(set->key.proof.wrapped.size() == form.form.iv_bytes + 32 + 16);
    const EnvelopeEncryptor vault{ring};
    // A driver that takes one kind of parameters or one number does not open what it sealed with others.
    const bool opens_early = form.form.parameters == GcmParameters::WithIvBits && form.form.mechanism == CKM_AES_GCM;
    const Bytes sealed = opens_early ? vault.rewrap(early) : vault.seal(bytes_of("early"), kNoContext);
    rewrapped += opens_early ? 1 : 0;
    CHECK(inspect(sealed).version == version);
    const EnvelopeEncryptor anew{parts.open()};
    for (const EnvelopeEncryptor* const one : {&vault, &anew}) {
      CHECK(comes_back(*one));
      CHECK(one->open(sealed, kNoContext).text() == "early");
      CHECK_THROWS_AS(one->open(corrupted(*one), kNoContext), OpenError);
    }
    CHECK(comes_back(EnvelopeEncryptor{ring, {.suite = Suite::Token}}));
  }
  CHECK(rewrapped == 5);
}

TEST_CASE("F7, F8: what no set names is found: five fields, and AES-CBC with HMAC where AES-GCM is another's") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  struct Case {
    const char* fault;
    WrapAlgorithm algorithm;
    GcmParameters parameters = GcmParameters::WithIvBits;
  };
  for (const Case& one :
       {Case{"gcm_layout five", WrapAlgorithm::Aes256Gcm, GcmParameters::WithoutIvBits},
        Case{"gcm_layout bits", WrapAlgorithm::Aes256Gcm},
        Case{"gcm_mechanism 0x8000011c", WrapAlgorithm::Aes256CbcHmac},
        Case{"gcm_iv writeback", WrapAlgorithm::Aes256CbcHmac}, Case{"gcm_iv append12", WrapAlgorithm::Aes256CbcHmac},
        Case{"gcm_iv append16", WrapAlgorithm::Aes256CbcHmac}, Case{"gcm_iv prepend", WrapAlgorithm::Aes256CbcHmac},
        Case{"gcm_iv replace", WrapAlgorithm::Aes256CbcHmac}, Case{"gcm_iv zeroed", WrapAlgorithm::Aes256CbcHmac},
        Case{"gcm_iv null", WrapAlgorithm::Aes256CbcHmac}, Case{"gcm_iv longer", WrapAlgorithm::Aes256CbcHmac}}) {
    CAPTURE(one.fault);
    parts.hsm.reset();
    const FaultFor now(parts.hsm, one.fault);
    const Version version = ring.add({.token = "one"});
    const auto key = ring.find(version)->key;
    CHECK(key.profile.algorithm == one.algorithm);
    CHECK(key.profile.gcm == GcmForm{.parameters = one.parameters});
    CHECK(key.mac_key_id.size() == (one.algorithm == WrapAlgorithm::Aes256CbcHmac ? 16 : 0));
    CHECK(comes_back(EnvelopeEncryptor{ring}));
    CHECK(comes_back(EnvelopeEncryptor{parts.open()}));
    CHECK(ring.orphans().empty());  // the keys that did not do are gone
  }
}

TEST_CASE("F7: a token is refused that ignores associated data or tags, repeats IVs or returns the plaintext") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  struct Case {
    const char* fault;
    const char* check;
  };
  // Whatever else it could do.
  for (const Case& one : {Case{"gcm_no_aad", "gcm-changed-aad (changed associated data are refused) failed: it was"},
                          Case{"gcm_no_tag", "gcm-changed-iv (a changed IV is refused) failed: it was opened"},
                          Case{"gcm_plain", "gcm-hides"}, Case{"gcm_same", "gcm-wraps-anew"}}) {
    check_refused(parts, ring, {.token = "one"}, {one.fault}, one.check);
  }
  for (const char* const rule : {"gcm_iv writeback", "gcm_iv append12", "gcm_iv prepend"}) {
    const IvRule named = std::string{rule} == "gcm_iv writeback"  ? IvRule::TokenWrites
                         : std::string{rule} == "gcm_iv append12" ? IvRule::TokenAppends
                                                                  : IvRule::TokenPrepends;
    const SetSpec spec{.token = "one", .gcm = GcmForm{.iv_rule = named}};
    check_refused(parts, ring, spec, {"gcm_ivs counted", rule}, "gcm-fresh-ivs");
    check_refused(parts, ring, spec, {"gcm_ivs repeated", rule}, "the same IV was used twice");
    check_refused(parts, ring, spec, {"gcm_no_aad", rule}, "gcm-changed-aad");
  }
  CHECK(comes_back(EnvelopeEncryptor{ring}));
}

TEST_CASE("F7, F8: a form that is named and not the token's is refused, and nothing else is tried") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  const auto named = [](const GcmForm& form) { return SetSpec{.token = "one", .gcm = form}; };
  check_refused(parts, ring, named({.iv_rule = IvRule::TokenAppends, .iv_bytes = 16}), {"gcm_iv append12"},
                "AES-GCM with the token's IV behind the tag, 16 bytes: gcm-wraps");
  check_refused(parts, ring, named({.iv_rule = IvRule::TokenWrites}), {"gcm_iv append12"}, "gcm-wraps");
  check_refused(parts, ring, named({.iv_rule = IvRule::TokenPrepends}), {"gcm_iv writeback"}, "gcm-wraps");
  check_refused(parts, ring, named({}), {"gcm_iv writeback"}, "AES-GCM with the caller's IV: gcm-wraps");
  check_refused(parts, ring, named({}), {"gcm_mechanism 0x8000011c"}, "CKR_MECHANISM_INVALID");
  check_refused(parts, ring, named({}), {"gcm_layout five"}, "CKR_MECHANISM_PARAM_INVALID");
  check_refused(parts, ring, {.token = "one", .algorithm = WrapAlgorithm::Aes256Gcm}, {"gcm_iv writeback"},
                "AES-GCM with the caller's IV, parameters of five fields: gcm-wraps");
  CHECK(comes_back(EnvelopeEncryptor{ring}));
}

TEST_CASE("F10: a token whose AES-CBC or HMAC is none is refused") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  const SetSpec spec{.token = "one", .algorithm = WrapAlgorithm::Aes256CbcHmac};
  check_refused(parts, ring, spec, {"cbc_plain"}, "cbc-chains");
  check_refused(parts, ring, spec, {"cbc_garbage"}, "cbc-hmac-comes-back");
  check_refused(parts, ring, spec, {"cbc_rv CKR_ENCRYPTED_DATA_INVALID"}, "cbc-hmac-comes-back");
  check_refused(parts, ring, spec, {"mac same"}, "mac-made");
  check_refused(parts, ring, spec, {"mac drawn"}, "mac-made");
  check_refused(parts, ring, spec, {"mac other"}, "mac-is-hmac");
  check_refused(parts, ring, spec, {"mechanism_refused CKM_AES_CBC"}, "CKR_MECHANISM_INVALID");
  CHECK(comes_back(EnvelopeEncryptor{ring}));
}

TEST_CASE("F10: with AES-CBC and HMAC a changed envelope is one OpenError, and the token decrypts none of it") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  ring.add({.token = "one", .algorithm = WrapAlgorithm::Aes256CbcHmac});
  const EnvelopeEncryptor vault{ring};
  const Bytes good = vault.seal(bytes_of("a secret"), kNoContext);
  constexpr std::size_t kWrapped = 16 + 32 + 32;
  REQUIRE(inspect(good).version == 2);
  const auto key = ring.active().key;
  const auto wrapper = parts.provider()->connect(key, 2);
  const Bytes wrapped = wrapper->wrap(Bytes(32, std::byte{7}), bytes_of("context"));
  REQUIRE(wrapped.size() == kWrapped);
  parts.hsm.reset();
  std::set<std::string> messages;
  const auto refused = [&](ByteView bytes, const std::string& context) {
    messages.insert(message_of<OpenError>([&] { return wrapper->unwrap(bytes, bytes_of(context)); }));
  };
  for (std::size_t at = 0; at < wrapped.size(); ++at) {
    Bytes changed = wrapped;
    changed[at] ^= std::byte{1};
    refused(changed, "context");
  }
  refused(wrapped, "another");
  // One decryption for each, that of the proof, which shows that the token is well.
  CHECK(parts.hsm.calls("C_Decrypt") == kWrapped + 1);
  parts.hsm.reset();
  for (std::size_t size = 0; size < wrapped.size(); ++size) {
    if (size != 64) refused(ByteView{wrapped}.first(size), "context");
  }
  CHECK(parts.hsm.calls_total() == 0);
  refused(ByteView{wrapped}.first(64), "context");  // as long as one block of plaintext would be
  CHECK(messages.size() == 1);
  CHECK(crypto::equal(wrapper->unwrap(wrapped, bytes_of("context")).view(), Bytes(32, std::byte{7})));
  for (const char* const never : {"C_Login", "C_Initialize", "C_Finalize", "C_Logout"}) {
    CHECK(parts.hsm.calls(never) == 0);
  }
  CHECK(vault.open(good, kNoContext).text() == "a secret");
}

TEST_CASE("F10: a decryption that goes wrong behind a right MAC is an OpenError, or is done again") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  ring.add({.token = "one", .algorithm = WrapAlgorithm::Aes256CbcHmac});
  const EnvelopeEncryptor vault{ring};
  const Bytes good = vault.seal(bytes_of("a secret"), kNoContext);
  struct Case {
    const char* fault;
    bool opens;
  };
  for (const Case& one :
       {Case{"cbc_garbage times=1", false}, Case{"cbc_rv CKR_ENCRYPTED_DATA_INVALID times=1", false},
        Case{"cbc_rv CKR_DATA_LEN_RANGE times=1", false}, Case{"cbc_rv CKR_GENERAL_ERROR times=1", true},
        Case{"cbc_rv CKR_DEVICE_ERROR times=1", true}}) {
    CAPTURE(one.fault);
    parts.hsm.reset();
    parts.hsm.apply(one.fault);
    if (one.opens) {
      CHECK(vault.open(good, kNoContext).text() == "a secret");
    } else {
      CHECK_THROWS_AS(vault.open(good, kNoContext), OpenError);
    }
    CHECK(parts.hsm.fired("F10") == 1);
    CHECK(vault.open(good, kNoContext).text() == "a secret");
    CHECK(comes_back(vault));
  }
  CHECK(parts.count(Event::Kind::TokenLost) == 0);
}

TEST_CASE("F10: a token that forgets how to make MACs seals nothing that does not come back") {
  FaultyRing parts{both_policies()};
  auto ring = parts.create();
  ring.add({.token = "one", .algorithm = WrapAlgorithm::Aes256CbcHmac});
  const Bytes good = EnvelopeEncryptor{ring}.seal(bytes_of("a secret"), kNoContext);
  for (const char* const fault : {"mac drawn", "mac other"}) {
    CAPTURE(fault);
    const EnvelopeEncryptor vault{parts.open()};
    parts.hsm.reset();
    {
      const FaultFor now(parts.hsm, fault);
      // A token that makes one other MAC for each is found out by what it made before.
      if (std::string{fault} == "mac drawn") CHECK_THROWS_AS(vault.seal(bytes_of("x"), kNoContext), Error);
      CHECK_THROWS_AS(vault.open(good, kNoContext), Error);
      CHECK(parts.hsm.fired("mac") > 0);
    }
    CHECK(vault.open(good, kNoContext).text() == "a secret");
    CHECK(comes_back(vault));
  }
}

TEST_CASE("F16: a MAC key that is made with other flags than asked for is refused, and both keys are destroyed") {
  FaultyRing parts;
  auto ring = parts.create();
  for (const char* const flag : {"CKA_VERIFY 1", "CKA_EXTRACTABLE 1", "CKA_SENSITIVE 0", "CKA_DERIVE 1"}) {
    CAPTURE(flag);
    parts.hsm.reset();
    const FaultFor now(parts.hsm, std::string{"generate_sets "} + flag + " skip=1");
    CHECK_THROWS_AS(ring.add({.token = "one", .algorithm = WrapAlgorithm::Aes256CbcHmac}), WrongKeyError);
    CHECK(parts.hsm.fired("generate_sets") == 1);
    CHECK(parts.hsm.calls("C_DestroyObject") == 2);
    CHECK(parts.keys_in_token(ring) == 1);
  }
}

TEST_CASE("F16: an attribute that a token refuses is left out if it decides over nothing") {
  FaultyRing parts;
  auto ring = parts.create();
  for (const char* const attribute : {"CKA_CLASS", "CKA_KEY_TYPE", "CKA_DERIVE"}) {
    for (const auto algorithm : {WrapAlgorithm::Aes256Gcm, WrapAlgorithm::Aes256CbcHmac}) {
      CAPTURE(attribute, static_cast<int>(algorithm));
      parts.hsm.reset();
      const FaultFor now(parts.hsm, std::string{"generate_rejects "} + attribute);
      CHECK_NOTHROW(ring.add({.token = "one", .algorithm = algorithm}));
      CHECK(parts.hsm.fired("generate_rejects") > 0);
      CHECK(comes_back(EnvelopeEncryptor{ring}));
    }
  }
  CHECK(ring.orphans().empty());
}
