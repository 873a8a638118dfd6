// The faulty driver itself: keys, ciphers and random numbers.

#include <unistd.h>

#include "fault/plain_token.hpp"

using namespace hsmseal::test;

namespace {

Gcm with_zero_iv() {
  Gcm gcm;
  gcm.iv.assign(12, 0);
  return gcm;
}

Octets tail_of(const Octets& bytes, std::size_t size) {
  return {bytes.end() - static_cast<std::ptrdiff_t>(size), bytes.end()};
}

Octets without_tail(Octets bytes, std::size_t size) {
  bytes.resize(bytes.size() - size);
  return bytes;
}

/// Encrypts, then decrypts with these parameters.
Octets opened(const PlainToken& token, CK_OBJECT_HANDLE key, Gcm gcm, const Octets& iv, const Octets& sealed) {
  gcm.iv = iv;
  return token.decrypt(key, gcm, sealed).bytes;
}

const Octets kText = octets_of("the text");

CK_BBOOL flag_of(const PlainToken& token, CK_OBJECT_HANDLE key, CK_ATTRIBUTE_TYPE type) {
  CK_BBOOL flag = 0xff;
  CK_ATTRIBUTE attribute{type, &flag, sizeof(flag)};
  REQUIRE(token.p11->C_GetAttributeValue(token.session, key, &attribute, 1) == CKR_OK);
  return flag;
}

CK_OBJECT_HANDLE generic_key(const PlainToken& token, CK_ULONG size) {
  CK_OBJECT_CLASS object_class = CKO_SECRET_KEY;
  CK_KEY_TYPE type = CKK_GENERIC_SECRET;
  CK_BBOOL yes = CK_TRUE;
  CK_BBOOL no = CK_FALSE;
  Octets value(size, 7);
  CK_ATTRIBUTE attributes[] = {{CKA_CLASS, &object_class, sizeof(object_class)},
                               {CKA_KEY_TYPE, &type, sizeof(type)},
                               {CKA_VALUE, value.data(), value.size()},
                               {CKA_TOKEN, &no, 1},
                               {CKA_EXTRACTABLE, &yes, 1},
                               {CKA_SENSITIVE, &no, 1}};
  CK_OBJECT_HANDLE key = 0;
  REQUIRE(token.p11->C_CreateObject(token.session, attributes, std::size(attributes), &key) == CKR_OK);
  return key;
}

Output wrap(const PlainToken& token, CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE with, CK_OBJECT_HANDLE key) {
  CK_MECHANISM mechanism{type, nullptr, 0};
  Octets wrapped(128, 0xee);
  CK_ULONG size = wrapped.size();
  const CK_RV rv = token.p11->C_WrapKey(token.session, &mechanism, with, key, wrapped.data(), &size);
  wrapped.resize(rv == CKR_OK ? size : 0);
  return {rv, wrapped};
}

CK_RV unwrap(const PlainToken& token, CK_MECHANISM_TYPE mechanism_type, CK_OBJECT_HANDLE with, Octets wrapped,
             bool length_given) {
  CK_MECHANISM mechanism{mechanism_type, nullptr, 0};
  CK_OBJECT_CLASS object_class = CKO_SECRET_KEY;
  CK_KEY_TYPE type = CKK_GENERIC_SECRET;
  CK_ULONG length = 16;
  CK_ATTRIBUTE attributes[] = {{CKA_CLASS, &object_class, sizeof(object_class)},
                               {CKA_KEY_TYPE, &type, sizeof(type)},
                               {CKA_VALUE_LEN, &length, sizeof(length)}};
  CK_OBJECT_HANDLE key = 0;
  return token.p11->C_UnwrapKey(token.session, &mechanism, with, wrapped.data(), wrapped.size(), attributes,
                                length_given ? 3 : 2, &key);
}

}  // namespace

TEST_CASE("the IV of AES-GCM is made and handed over as the token's rule says") {
  const PlainToken token;
  const auto key = token.key("k");
  SECTION("written back") {
    const FaultFor fault(token.hsm, "gcm_iv writeback");
    Gcm gcm = with_zero_iv();
    const auto sealed = token.encrypt(key, gcm).bytes;
    CHECK(sealed.size() == 24);
    CHECK(gcm.iv != Octets(12, 0));
    CHECK(opened(token, key, Gcm{}, gcm.iv, sealed) == kText);
  }
  SECTION("appended") {
    for (const std::size_t size : {12U, 16U}) {
      const FaultFor fault(token.hsm, "gcm_iv append" + std::to_string(size));
      Gcm gcm;
      const auto sealed = token.encrypt(key, gcm).bytes;
      REQUIRE(sealed.size() == 24 + size);
      CHECK(gcm.iv == Gcm{}.iv);
      CHECK(opened(token, key, Gcm{}, tail_of(sealed, size), without_tail(sealed, size)) == kText);
    }
  }
  SECTION("prepended") {
    const FaultFor fault(token.hsm, "gcm_iv prepend");
    const auto sealed = token.encrypt(key).bytes;
    REQUIRE(sealed.size() == 36);
    CHECK(opened(token, key, Gcm{}, {sealed.begin(), sealed.begin() + 12}, {sealed.begin() + 12, sealed.end()}) ==
          kText);
  }
  SECTION("made longer, of which the parameters tell") {
    const FaultFor fault(token.hsm, "gcm_iv longer");
    Gcm gcm;
    const auto sealed = token.encrypt(key, gcm).bytes;
    CHECK(sealed.size() == 24);
    CHECK(gcm.parameters.ulIvLen == 16);
    CHECK(gcm.iv == Gcm{}.iv);
    CHECK(opened(token, key, Gcm{}, Gcm{}.iv, sealed).empty());
  }
  SECTION("used, and not there afterwards") {
    for (const char* const how : {"zeroed", "null"}) {
      const FaultFor fault(token.hsm, std::string{"gcm_iv "} + how);
      Gcm gcm;
      const auto sealed = token.encrypt(key, gcm).bytes;
      CHECK((gcm.iv == Octets(12, 0)) == (gcm.parameters.pIv != nullptr));
      CHECK(opened(token, key, Gcm{}, Gcm{}.iv, sealed) == kText);
    }
  }
  SECTION("replaced, and nobody is told") {
    const FaultFor fault(token.hsm, "gcm_iv replace");
    const auto sealed = token.encrypt(key).bytes;
    CHECK(sealed.size() == 24);
    CHECK(opened(token, key, Gcm{}, Gcm{}.iv, sealed).empty());
  }
  CHECK(token.hsm.fired("F7") > 0);
  CHECK(token.encrypt(key).bytes.size() == 24);
}

TEST_CASE("AES-GCM that does not keep what it promises") {
  const PlainToken token;
  const auto key = token.key("k");
  Gcm gcm;
  auto changed = token.encrypt(key).bytes;
  changed.back() ^= 1;
  CHECK(token.decrypt(key, gcm, changed).rv == CKR_GENERAL_ERROR);
  SECTION("a context that is ignored") {
    const FaultFor fault(token.hsm, "gcm_no_aad");
    const auto sealed = token.encrypt(key).bytes;
    gcm.aad = octets_of("another context");
    CHECK(token.decrypt(key, gcm, sealed).bytes == kText);
  }
  SECTION("a tag that is ignored") {
    const FaultFor fault(token.hsm, "gcm_no_tag");
    CHECK(token.decrypt(key, gcm, changed).bytes == kText);
  }
  SECTION("a plaintext that is not encrypted") {
    const FaultFor fault(token.hsm, "gcm_plain");
    const auto sealed = token.encrypt(key).bytes;
    CHECK(sealed.size() == 24);
    CHECK(Octets(sealed.begin(), sealed.begin() + 8) == kText);
  }
  SECTION("a ciphertext that is always the same") {
    const FaultFor fault(token.hsm, "gcm_same");
    const auto sealed = token.encrypt(key).bytes;
    gcm.iv.at(0) ^= 1;
    CHECK(token.encrypt(key, gcm, "others!!").bytes == sealed);
  }
  SECTION("a bad tag by another name") {
    const FaultFor fault(token.hsm, "gcm_bad_tag CKR_DEVICE_ERROR");
    CHECK(token.decrypt(key, gcm, changed).rv == CKR_DEVICE_ERROR);
    CHECK(token.hsm.fired("F9") == 1);
    return;
  }
  CHECK(token.hsm.fired("F7") > 0);
}

TEST_CASE("parameters of AES-GCM in the layout that the token knows") {
  const PlainToken token;
  const auto key = token.key("k");
  Gcm gcm;
  const auto sealed = token.encrypt(key).bytes;
  SECTION("five fields") {
    const FaultFor fault(token.hsm, "gcm_layout five");
    struct {
      CK_BYTE* iv;
      CK_ULONG iv_size;
      CK_BYTE* aad;
      CK_ULONG aad_size;
      CK_ULONG tag_bits;
    } five{gcm.iv.data(), gcm.iv.size(), gcm.aad.data(), gcm.aad.size(), 128};
    CK_MECHANISM mechanism{CKM_AES_GCM, &five, sizeof(five)};
    CHECK(token.encrypt(key, mechanism, "the text").bytes == sealed);
    CHECK(token.decrypt(key, mechanism, sealed).bytes == kText);
    CHECK(token.encrypt(key).rv == CKR_MECHANISM_PARAM_INVALID);
  }
  SECTION("the length in bits") {
    const FaultFor fault(token.hsm, "gcm_layout bits");
    CHECK(token.encrypt(key).bytes == sealed);
    CK_MECHANISM mechanism = gcm.made();
    gcm.parameters.ulIvBits = 0;
    CHECK(token.encrypt(key, mechanism, "the text").rv == CKR_MECHANISM_PARAM_INVALID);
  }
  SECTION("a vendor's number") {
    const FaultFor fault(token.hsm, "gcm_mechanism 0x8000011c");
    CK_MECHANISM_INFO info{};
    CHECK(token.p11->C_GetMechanismInfo(token.slot, CKM_AES_GCM, &info) == CKR_MECHANISM_INVALID);
    CHECK(token.p11->C_GetMechanismInfo(token.slot, 0x8000011c, &info) == CKR_OK);
    CHECK(token.encrypt(key).rv == CKR_MECHANISM_INVALID);
    gcm.mechanism = 0x8000011c;
    CHECK(token.encrypt(key, gcm).bytes == sealed);
  }
  CHECK(token.hsm.fired("F8") > 0);
}

TEST_CASE("CBC with padding that is not looked at, or told of") {
  const PlainToken token;
  const auto key = token.key("k");
  Octets iv(16, 3);
  CK_MECHANISM mechanism{CKM_AES_CBC_PAD, iv.data(), iv.size()};
  auto sealed = token.encrypt(key, mechanism, "the text").bytes;
  REQUIRE(sealed.size() == 16);
  sealed.back() ^= 1;
  CHECK(token.decrypt(key, mechanism, sealed).rv != CKR_OK);
  {
    const FaultFor fault(token.hsm, "cbc_pad_garbage");
    const auto [rv, garbage] = token.decrypt(key, mechanism, sealed);
    CHECK(rv == CKR_OK);
    CHECK_FALSE(garbage.empty());
  }
  const FaultFor fault(token.hsm, "cbc_pad_rv CKR_ENCRYPTED_DATA_INVALID");
  CHECK(token.decrypt(key, mechanism, sealed).rv == CKR_ENCRYPTED_DATA_INVALID);
  CHECK(token.hsm.fired("F10") == 2);
}

TEST_CASE("keys are wrapped under a vendor's number, and unwrapped with or without a length") {
  const PlainToken token;
  const auto key = token.key("k");
  const auto inner = generic_key(token, 16);
  {
    const FaultFor fault(token.hsm, "kwp_mechanism 0x80000171");
    CHECK(wrap(token, CKM_AES_KEY_WRAP_PAD, key, inner).rv == CKR_MECHANISM_INVALID);
    CHECK(wrap(token, 0x80000171, key, inner).rv == CKR_OK);
  }
  const auto wrapped = wrap(token, CKM_AES_KEY_WRAP, key, inner).bytes;
  REQUIRE(wrapped.size() == 24);
  {
    const FaultFor fault(token.hsm, "unwrap_length needs");
    CHECK(unwrap(token, CKM_AES_KEY_WRAP, key, wrapped, false) == CKR_TEMPLATE_INCOMPLETE);
    CHECK(unwrap(token, CKM_AES_KEY_WRAP, key, wrapped, true) == CKR_OK);
  }
  {
    const FaultFor fault(token.hsm, "unwrap_length rejects");
    CHECK(unwrap(token, CKM_AES_KEY_WRAP, key, wrapped, true) == CKR_ATTRIBUTE_TYPE_INVALID);
    CHECK(unwrap(token, CKM_AES_KEY_WRAP, key, wrapped, false) == CKR_OK);
  }
  CHECK(token.hsm.fired("F11") >= 4);
  // Of itself the real driver makes 24 bytes of 20.
  CHECK(wrap(token, CKM_AES_KEY_WRAP, key, generic_key(token, 20)).bytes.size() == 32);
}

TEST_CASE("lengths that are told wrongly, and buffers that are refused") {
  const PlainToken token;
  const auto key = token.key("k");
  const auto asked = [&](const std::string& how) {
    const FaultFor fault(token.hsm, "length_query " + how);
    REQUIRE(token.encrypt_init(key) == CKR_OK);
    Octets text = kText;
    CK_ULONG size = 0;
    const CK_RV rv = token.p11->C_Encrypt(token.session, text.data(), text.size(), nullptr, &size);
    const CK_RV next = token.finish(token.p11->C_Encrypt, kText).rv;
    return std::vector<CK_ULONG>{rv, size, next};
  };
  CHECK(asked("over") == std::vector<CK_ULONG>{CKR_OK, 31, CKR_OK});
  CHECK(asked("under") == std::vector<CK_ULONG>{CKR_OK, 17, CKR_OK});
  CHECK(asked("zero") == std::vector<CK_ULONG>{CKR_OK, 0, CKR_OK});
  CHECK(asked("too_small") == std::vector<CK_ULONG>{CKR_BUFFER_TOO_SMALL, 24, CKR_OK});
  CHECK(asked("consumes") == std::vector<CK_ULONG>{CKR_OK, 24, CKR_OPERATION_NOT_INITIALIZED});
  CHECK(token.hsm.length_queries() == 5);
  {
    const FaultFor fault(token.hsm, "too_small");
    CHECK(token.encrypt(key).rv == CKR_BUFFER_TOO_SMALL);
    CHECK(token.finish(token.p11->C_Encrypt, kText).bytes.size() == 24);
  }
  {
    const FaultFor fault(token.hsm, "too_small 200");
    CHECK(token.encrypt(key).rv == CKR_BUFFER_TOO_SMALL);
    CHECK(token.finish(token.p11->C_Encrypt, kText, 200).bytes.size() == 24);
  }
  const auto sealed = token.encrypt(key).bytes;
  const FaultFor fault(token.hsm, "exact_refused times=1");
  Gcm gcm;
  CK_MECHANISM mechanism = gcm.made();
  REQUIRE(token.p11->C_DecryptInit(token.session, &mechanism, key) == CKR_OK);
  CHECK(token.finish(token.p11->C_Decrypt, sealed, kText.size()).rv == CKR_BUFFER_TOO_SMALL);
  CHECK(token.finish(token.p11->C_Decrypt, sealed).bytes == kText);
  CHECK(token.hsm.fired("F12") == 8);
}

TEST_CASE("an operation that begins while another one is active, and is mixed with it") {
  const PlainToken token;
  const auto key = token.key("k");
  const FaultFor mixes(token.hsm, "init_mixes");
  Gcm second;
  second.iv = octets_of("another IV!!");
  const auto under_its_own = token.encrypt(key, second).bytes;
  const auto first = token.encrypt(key).bytes;
  CHECK(token.hsm.fired("init_mixes") == 0);
  token.hsm.apply("stays_active");
  CHECK(token.encrypt(key).rv == CKR_GENERAL_ERROR);
  CHECK(token.encrypt(key, second).bytes == first);
  CHECK(token.hsm.fired("F13") == 2);
  CHECK(token.encrypt(key, second).bytes == under_its_own);
  CHECK(token.hsm.counter("other_ciphers") == 0);
}

TEST_CASE("outputs that are not what was computed") {
  const PlainToken token;
  const auto key = token.key("k");
  const auto size_with = [&](const std::string& how) {
    const FaultFor fault(token.hsm, "output C_Encrypt " + how);
    return token.encrypt(key).bytes.size();
  };
  CHECK(size_with("short") == 23);
  CHECK(size_with("long") == 25);
  CHECK(size_with("overrun") == 129);
  const FaultFor fault(token.hsm, "output C_Encrypt untouched");
  CHECK(token.encrypt(key).bytes == Octets(24, 0xee));
  CHECK(token.hsm.fired("F14") == 4);
}

TEST_CASE("random numbers that are none") {
  const PlainToken token;
  const auto random = [&](const std::string& how) {
    const FaultFor fault(token.hsm, "random " + how);
    Octets bytes(32, 0xee);
    REQUIRE(token.p11->C_GenerateRandom(token.session, bytes.data(), bytes.size()) == CKR_OK);
    return bytes;
  };
  CHECK(tail_of(random("first8"), 24) == Octets(24, 0xee));
  CHECK(random("zeros") == Octets(32, 0));
  CHECK(random("repeated") == random("repeated"));
  CHECK(random("limits") != random("limits"));
  CHECK(token.hsm.fired("F15") == 4);
}

TEST_CASE("keys and attributes that are not as they were asked for") {
  const PlainToken token;
  const auto read_label = [&](CK_OBJECT_HANDLE key, const std::string& how) {
    const FaultFor fault(token.hsm, "attribute CKA_LABEL " + how);
    Octets label(8);
    CK_ATTRIBUTE attribute{CKA_LABEL, label.data(), label.size()};
    const CK_RV rv = token.p11->C_GetAttributeValue(token.session, key, &attribute, 1);
    return std::vector<CK_ULONG>{rv, attribute.ulValueLen, label.at(0)};
  };
  const auto key = token.key("k");
  CHECK(read_label(key, "unknown") == std::vector<CK_ULONG>{CKR_ATTRIBUTE_TYPE_INVALID, ~0UL, 'k'});
  CHECK(read_label(key, "minus_one") == std::vector<CK_ULONG>{CKR_OK, ~0UL, 'k'});
  CHECK(read_label(key, "empty") == std::vector<CK_ULONG>{CKR_OK, 0, 'k'});
  CHECK(read_label(key, "wrong") == std::vector<CK_ULONG>{CKR_OK, 1, 'k' ^ 1});
  CHECK(token.hsm.fired("F17") == 4);

  CHECK(flag_of(token, key, CKA_EXTRACTABLE) == CK_FALSE);
  const FaultFor fault(token.hsm, "generate_sets CKA_EXTRACTABLE 1");
  CHECK(flag_of(token, token.key("other"), CKA_EXTRACTABLE) == CK_TRUE);
  CHECK(token.hsm.fired("F16") == 1);
}

TEST_CASE("searches that find too much, too little, or do not end") {
  PlainToken token;
  const auto key = token.key("k");
  {
    const FaultFor fault(token.hsm, "find duplicates");
    CHECK(token.find("k") == std::vector{key, key});
  }
  token.hsm.reset();
  {
    const FaultFor fault(token.hsm, "find zero_one_two");
    CHECK(token.find("k").empty());
    CHECK(token.find("k").size() == 1);
    CHECK(token.find("k").size() == 2);
  }
  {
    const FaultFor fault(token.hsm, "find_limit 0");
    CHECK(token.find("k").empty());
  }
  {
    const FaultFor fault(token.hsm, "find twins");
    CK_OBJECT_CLASS certificate = CKO_CERTIFICATE;
    CK_ATTRIBUTE attribute{CKA_CLASS, &certificate, sizeof(certificate)};
    CK_OBJECT_HANDLE found = 0;
    CK_ULONG count = 0;
    REQUIRE(token.p11->C_FindObjectsInit(token.session, &attribute, 1) == CKR_OK);
    CHECK(token.p11->C_FindObjects(token.session, &found, 1, &count) == CKR_OK);
    CHECK(token.p11->C_FindObjectsFinal(token.session) == CKR_OK);
    CHECK(count == 1);
    CHECK(found == key);
  }
  const FaultFor fault(token.hsm, "find stays_active");
  CHECK(token.find("k").size() == 1);
  CHECK(token.p11->C_FindObjectsInit(token.session, nullptr, 0) == CKR_OPERATION_ACTIVE);
  CHECK(token.hsm.fired("F18") == 6);
}

TEST_CASE("keys that are not everywhere at once") {
  PlainToken token;
  const auto other = token.open();
  SECTION("found later") {
    const FaultFor fault(token.hsm, "lag_finds 2");
    static_cast<void>(token.key("k"));
    CHECK(token.find("k").empty());
    CHECK(token.find("k").empty());
    CHECK(token.find("k").size() == 1);
  }
  SECTION("found after a time") {
    const FaultFor fault(token.hsm, "lag_ms 50");
    static_cast<void>(token.key("k"));
    CHECK(token.find("k").empty());
    ::usleep(60'000);
    CHECK(token.find("k").size() == 1);
  }
  SECTION("found, but of no use yet") {
    const FaultFor fault(token.hsm, "lag_unusable 60000");
    static_cast<void>(token.key("k"));
    REQUIRE(token.find("k").size() == 1);
    CHECK(token.encrypt(token.find("k").at(0)).rv != CKR_OK);
  }
  SECTION("on one of two members, which dies") {
    const FaultFor fault(token.hsm, "members per_session");
    const auto there = token.open();
    const auto elsewhere = token.open();
    token.session = there;
    static_cast<void>(token.key("k"));
    CHECK(token.find("k", there).size() == 1);
    CHECK(token.find("k", elsewhere).empty());
    token.session = elsewhere;
    const unsigned long member = token.find("k", other).size() == 1 ? 0 : 1;
    const FaultFor death(token.hsm, "member_dies " + std::to_string(member) + " CKR_DEVICE_REMOVED");
    CK_SESSION_INFO info{};
    CHECK(token.p11->C_GetSessionInfo(there, &info) == CKR_DEVICE_REMOVED);
    CHECK(token.p11->C_GetSessionInfo(elsewhere, &info) == CKR_OK);
    CHECK(token.find("k", token.open()).empty());
  }
  SECTION("on every other call") {
    const FaultFor fault(token.hsm, "members per_call");
    static_cast<void>(token.key("k"));
    std::size_t found = 0;
    for (int i = 0; i < 10; ++i) found += token.find("k").size();
    CHECK(found == 5);
  }
  CHECK(token.hsm.fired("F19") > 0);
}
