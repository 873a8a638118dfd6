#pragma once

#include <memory>
#include <string>
#include <vector>

#include <p11-kit/pkcs11.h>

#include <hsmseal/error.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "crypto/crypto.hpp"
#include "keywrap/key_label.hpp"
#include "support/catch.hpp"
#include "support/faultyhsm.hpp"

namespace hsmseal::test {

inline RingId random_ring() { return {crypto::random_array<16>()}; }

inline Bytes random_id() {
  const auto id = crypto::random_array<16>();
  return {id.begin(), id.end()};
}

/// A session beside the provider's own, as another program of the process would have it.
inline Pkcs11Session logged_in(const FaultyHsm& hsm, const std::string& label) {
  Pkcs11Session session{hsm.module(), {.label = label}};
  session.login(hsm.binding(label).pin);
  return session;
}

/// Makes a key under a label. @returns its CKA_ID.
inline Bytes make_key(Pkcs11Session& session, const std::string& label) {
  const Bytes id = random_id();
  static_cast<void>(session.generate_aes_key({.id = id, .label = label}));
  return id;
}

/// Puts another key in the place of a described one, as another program would: the same CKA_ID and label, another value.
inline void replace_key(const FaultyHsm& hsm, Pkcs11Session& session, const KeyDescription& key) {
  const CK_OBJECT_HANDLE old = session.find_key({.id = key.key_id}).value().value;
  CK_FUNCTION_LIST* list = nullptr;
  CK_SESSION_HANDLE own = 0;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(hsm.symbol("C_GetFunctionList"))(&list) == CKR_OK);
  REQUIRE(list->C_OpenSession(session.token().slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &own) ==
          CKR_OK);
  REQUIRE(list->C_DestroyObject(own, old) == CKR_OK);
  REQUIRE(list->C_CloseSession(own) == CKR_OK);
  static_cast<void>(session.generate_aes_key({.id = key.key_id, .label = key.key_label}));
}

/// What find_keys() says of one key.
inline FoundKey found_key(const TokenInfo& token, const std::string& alias, const Bytes& id, const RingId& ring,
                          Version version) {
  return {alias, token.label, token.serial, id, keywrap::key_label(ring, version), version};
}

/// A call without a result, for error_of().
template <typename Call>
auto returning_nothing(const Call& call) {
  return [&call] {
    call();
    return 0;
  };
}

}  // namespace hsmseal::test
