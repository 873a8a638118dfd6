#include "keywrap/wrapping.hpp"

#include <hsmseal/error.hpp>

#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"
#include "keywrap/cbc_hmac.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

using FencedUse = pkcs11::SessionAccess::KeyUse;

Bytes gcm_wrap(Pkcs11Session& session, const FoundKeys& keys, const GcmForm& form, ByteView key, ByteView aad) {
  const FencedUse use{session, keys.watch, keys.kek};
  if (form.iv_rule != IvRule::Caller) return session.encrypt(keys.kek, {.aad = aad, .form = form}, key);
  const auto iv = crypto::random_array<crypto::kNonceBytes>();
  Bytes wrapped(iv.begin(), iv.end());
  const Bytes sealed = session.encrypt(keys.kek, {.iv = iv, .aad = aad, .form = form}, key);
  wrapped.insert(wrapped.end(), sealed.begin(), sealed.end());
  return wrapped;
}

SecretBytes gcm_unwrap(Pkcs11Session& session, const FoundKeys& keys, const GcmForm& form, ByteView wrapped,
                       ByteView aad) {
  const FencedUse use{session, keys.watch, keys.kek};
  return session.decrypt(keys.kek, {.iv = wrapped.first(form.iv_bytes), .aad = aad, .form = form},
                         wrapped.subspan(form.iv_bytes));
}

}  // namespace

bool can_be_wrapped(const WrapProfile& profile, std::size_t size) noexcept {
  const std::size_t added = core::overhead(profile);
  if (size < added) return false;
  // More than the token wraps now may have been wrapped when it was asked with a higher ceiling.
  return profile.algorithm == WrapAlgorithm::Aes256Gcm ||
         core::can_wrap({profile.algorithm, {}, core::kMostCbcBytes}, size - added);
}

Bytes wrap_in(Pkcs11Session& session, const FoundKeys& keys, const WrapProfile& profile, ByteView key, ByteView aad) {
  return profile.algorithm == WrapAlgorithm::Aes256Gcm ? gcm_wrap(session, keys, profile.gcm, key, aad)
                                                       : cbc_hmac_wrap(session, keys, key, aad);
}

SecretBytes unwrap_in(Pkcs11Session& session, const FoundKeys& keys, const WrapProfile& profile, ByteView wrapped,
                      ByteView aad) {
  if (!can_be_wrapped(profile, wrapped.size())) throw OpenError();
  return profile.algorithm == WrapAlgorithm::Aes256Gcm ? gcm_unwrap(session, keys, profile.gcm, wrapped, aad)
                                                       : cbc_hmac_unwrap(session, keys, wrapped, aad);
}

}  // namespace hsmseal::keywrap
