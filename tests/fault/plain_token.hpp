#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <p11-kit/pkcs11.h>

#include "support/catch.hpp"
#include "support/faultyhsm.hpp"

namespace hsmseal::test {

using Octets = std::vector<CK_BYTE>;

inline Octets octets_of(const std::string& text) { return {text.begin(), text.end()}; }

/// A call's answer and what it put out.
struct Output {
  CK_RV rv;
  Octets bytes;
};

/// AES-GCM parameters of one operation, with what they point to.
struct Gcm {
  Octets iv = octets_of("twelve bytes");
  Octets aad = octets_of("context");
  CK_MECHANISM_TYPE mechanism = CKM_AES_GCM;
  CK_GCM_PARAMS parameters{};

  CK_MECHANISM made() {
    parameters = {iv.data(), iv.size(), iv.size() * 8, aad.data(), aad.size(), 128};
    return {mechanism, &parameters, sizeof(parameters)};
  }
};

/// The faulty driver as any program would use it, with nothing of hsmseal between: started, with a session that is
/// logged in.
class PlainToken {
 public:
  explicit PlainToken(const std::vector<std::string>& labels = {"one"}) : hsm(labels) {
    for (const auto& [name, value] : hsm.driver().environment) ::setenv(name.c_str(), value.c_str(), 1);
    REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(hsm.symbol("C_GetFunctionList"))(&p11) == CKR_OK);
    start();
  }

  void start() {
    REQUIRE(initialize() == CKR_OK);
    const auto all = slots();
    slot = *std::find_if(all.begin(), all.end(), [&](CK_SLOT_ID id) { return token(id).label[0] == 'o'; });  // "one"
    session = open();
    const CK_RV rv = login();
    REQUIRE((rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN));
  }

  void restart() {
    REQUIRE(p11->C_Finalize(nullptr) == CKR_OK);
    start();
  }

  CK_RV initialize() const {
    CK_C_INITIALIZE_ARGS arguments{};
    arguments.flags = CKF_OS_LOCKING_OK;
    return p11->C_Initialize(&arguments);
  }

  std::vector<CK_SLOT_ID> slots() const {
    std::vector<CK_SLOT_ID> all(8);
    CK_ULONG count = all.size();
    REQUIRE(p11->C_GetSlotList(CK_TRUE, all.data(), &count) == CKR_OK);
    all.resize(count);
    // SoftHSM adds a slot with a token that is not initialized.
    all.erase(std::remove_if(all.begin(), all.end(),
                             [&](CK_SLOT_ID one) { return (token(one).flags & CKF_TOKEN_INITIALIZED) == 0; }),
              all.end());
    return all;
  }

  CK_TOKEN_INFO token(CK_SLOT_ID of) const {
    CK_TOKEN_INFO info{};
    REQUIRE(p11->C_GetTokenInfo(of, &info) == CKR_OK);
    return info;
  }

  CK_SESSION_HANDLE open() const {
    CK_SESSION_HANDLE opened = 0;
    REQUIRE(open(CKF_RW_SESSION, opened) == CKR_OK);
    return opened;
  }
  CK_RV open(CK_FLAGS flags, CK_SESSION_HANDLE& opened) const {
    return p11->C_OpenSession(slot, CKF_SERIAL_SESSION | flags, nullptr, nullptr, &opened);
  }

  /// In the place of the one in which an operation may be active. The login stays.
  void another_session() {
    const auto next = open();
    REQUIRE(p11->C_CloseSession(session) == CKR_OK);
    session = next;
  }

  CK_RV login() const { return login(hsm.tokens().pin("one")); }
  CK_RV login(std::string pin) const {
    return p11->C_Login(session, CKU_USER, reinterpret_cast<CK_BYTE*>(pin.data()), pin.size());
  }

  CK_STATE state() const {
    CK_SESSION_INFO info{};
    REQUIRE(p11->C_GetSessionInfo(session, &info) == CKR_OK);
    return info.state;
  }

  CK_RV make_key(const std::string& label, CK_OBJECT_HANDLE& key) const {
    CK_ULONG size = 32;
    CK_BBOOL yes = CK_TRUE;
    CK_BBOOL no = CK_FALSE;
    std::string name = label;
    std::vector<CK_ATTRIBUTE> attributes = {{CKA_TOKEN, &yes, 1},      {CKA_LABEL, name.data(), name.size()},
                                            {CKA_VALUE_LEN, &size, 8}, {CKA_ENCRYPT, &yes, 1},
                                            {CKA_DECRYPT, &yes, 1},    {CKA_WRAP, &yes, 1},
                                            {CKA_UNWRAP, &yes, 1},     {CKA_SENSITIVE, &yes, 1},
                                            {CKA_EXTRACTABLE, &no, 1}};
    CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
    return p11->C_GenerateKey(session, &mechanism, attributes.data(), attributes.size(), &key);
  }
  CK_OBJECT_HANDLE key(const std::string& label) const {
    CK_OBJECT_HANDLE made = 0;
    REQUIRE(make_key(label, made) == CKR_OK);
    return made;
  }

  std::vector<CK_OBJECT_HANDLE> find(const std::string& label, CK_SESSION_HANDLE in = 0) const {
    std::string name = label;
    CK_ATTRIBUTE attribute{CKA_LABEL, name.data(), name.size()};
    std::vector<CK_OBJECT_HANDLE> found(8);
    CK_ULONG count = 0;
    if (in == 0) in = session;
    REQUIRE(p11->C_FindObjectsInit(in, &attribute, 1) == CKR_OK);
    REQUIRE(p11->C_FindObjects(in, found.data(), found.size(), &count) == CKR_OK);
    REQUIRE(p11->C_FindObjectsFinal(in) == CKR_OK);
    found.resize(count);
    return found;
  }

  std::string label_of(CK_OBJECT_HANDLE object) const {
    std::string label(64, '\0');
    CK_ATTRIBUTE attribute{CKA_LABEL, label.data(), label.size()};
    if (p11->C_GetAttributeValue(session, object, &attribute, 1) != CKR_OK) return {};
    label.resize(attribute.ulValueLen);
    return label;
  }

  CK_RV encrypt_init(CK_OBJECT_HANDLE key_handle) const {
    Gcm gcm;
    CK_MECHANISM mechanism = gcm.made();
    return p11->C_EncryptInit(session, &mechanism, key_handle);
  }

  Output encrypt(CK_OBJECT_HANDLE key_handle, Gcm& gcm, const std::string& text = "the text") const {
    CK_MECHANISM mechanism = gcm.made();
    return encrypt(key_handle, mechanism, text);
  }
  Output encrypt(CK_OBJECT_HANDLE key_handle, CK_MECHANISM& mechanism, const std::string& text) const {
    if (const CK_RV rv = p11->C_EncryptInit(session, &mechanism, key_handle); rv != CKR_OK) return {rv, {}};
    return finish(p11->C_Encrypt, octets_of(text));
  }
  Output encrypt(CK_OBJECT_HANDLE key_handle) const {
    Gcm gcm;
    return encrypt(key_handle, gcm);
  }

  Output decrypt(CK_OBJECT_HANDLE key_handle, Gcm& gcm, const Octets& sealed) const {
    CK_MECHANISM mechanism = gcm.made();
    return decrypt(key_handle, mechanism, sealed);
  }
  Output decrypt(CK_OBJECT_HANDLE key_handle, CK_MECHANISM& mechanism, const Octets& sealed) const {
    if (const CK_RV rv = p11->C_DecryptInit(session, &mechanism, key_handle); rv != CKR_OK) return {rv, {}};
    return finish(p11->C_Decrypt, sealed);
  }

  /// C_Encrypt or C_Decrypt, with room for anything.
  template <typename Call>
  Output finish(Call call, Octets input, CK_ULONG room = 128) const {
    Octets output(room, 0xee);
    CK_ULONG size = room;
    const CK_RV rv = call(session, input.data(), input.size(), output.data(), &size);
    if (rv == CKR_OK && size <= room) output.resize(size);
    if (rv == CKR_OK && size > room) output.push_back(0);  // it said more than there was room for
    return {rv, rv == CKR_OK ? output : Octets{}};
  }

  FaultyHsm hsm;
  CK_FUNCTION_LIST* p11 = nullptr;
  CK_SLOT_ID slot = 0;
  CK_SESSION_HANDLE session = 0;
};

}  // namespace hsmseal::test
