#include "keywrap/cbc_hmac.hpp"

#include <hsmseal/error.hpp>

#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using FencedUse = pkcs11::SessionAccess::KeyUse;

ByteView without_mac(ByteView wrapped) { return wrapped.first(wrapped.size() - core::kCbcMacBytes); }

Bytes mac_of(Pkcs11Session& session, const FoundKeys& keys, ByteView aad, ByteView sealed) {
  const FencedUse use{session, keys.watch, keys.mac};
  return session.sign(keys.mac, MacMechanism::HmacSha256, core::cbc_mac_input(aad, sealed));
}

}  // namespace

Bytes cbc_hmac_wrap(Pkcs11Session& session, const FoundKeys& keys, ByteView key, ByteView aad) {
  const auto iv = crypto::random_array<core::kCbcIvBytes>();
  Bytes wrapped(iv.begin(), iv.end());
  {
    const FencedUse use{session, keys.watch, keys.kek};
    const Bytes ciphertext = session.encrypt(keys.kek, AesCbc{iv}, key);
    wrapped.insert(wrapped.end(), ciphertext.begin(), ciphertext.end());
  }
  const Bytes mac = mac_of(session, keys, aad, wrapped);
  wrapped.insert(wrapped.end(), mac.begin(), mac.end());
  return wrapped;
}

bool mac_is_right(Pkcs11Session& session, const FoundKeys& keys, ByteView wrapped, ByteView aad) {
  return crypto::equal(mac_of(session, keys, aad, without_mac(wrapped)), wrapped.last(core::kCbcMacBytes));
}

SecretBytes decrypt_unauthenticated(Pkcs11Session& session, const FoundKeys& keys, ByteView wrapped) {
  const ByteView sealed = without_mac(wrapped);
  const FencedUse use{session, keys.watch, keys.kek};
  return session.decrypt(keys.kek, AesCbc{sealed.first(core::kCbcIvBytes)}, sealed.subspan(core::kCbcIvBytes));
}

SecretBytes cbc_hmac_unwrap(Pkcs11Session& session, const FoundKeys& keys, ByteView wrapped, ByteView aad) {
  if (!mac_is_right(session, keys, wrapped, aad)) throw OpenError();
  return decrypt_unauthenticated(session, keys, wrapped);
}

}  // namespace hsmseal::keywrap
