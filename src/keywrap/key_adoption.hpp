#pragma once

#include <hsmseal/credential_set.hpp>
#include <hsmseal/pkcs11_session.hpp>

namespace hsmseal::keywrap {

/// An existing key that the operator names, as a session finds it.
struct AdoptedKey {
  KeyHandle handle;
  std::string label;  ///< CKA_LABEL; empty if the token does not tell
};

/// Finds a key and holds it to the policy.
///
/// @param id   its CKA_ID.
/// @param use  KeyUse::EncryptDecrypt for an AES-256 key, KeyUse::Mac for a generic secret of 32 bytes or more.
/// @throws KeyNotFoundError  there is none.
/// @throws WrongKeyError     it is not such a key, or falls short in a way that SetSpec::policy does not accept.
/// @throws TokenError        nobody is logged in any more, so that keys are invisible: a loss, and no absence.
[[nodiscard]] AdoptedKey adopt_key(Pkcs11Session& session, const SetSpec& spec, const Bytes& id, KeyUse use);

/// find_key(), which tells an absence from a loss.
/// @throws TokenError  nobody is logged in any more.
[[nodiscard]] std::optional<KeyHandle> find_visible(Pkcs11Session& session, const Bytes& id);

}  // namespace hsmseal::keywrap
