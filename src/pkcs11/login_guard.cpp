#include "pkcs11/login_guard.hpp"

#include "crypto/crypto.hpp"

namespace hsmseal::pkcs11 {

LoginGuard::PinDigest LoginGuard::digest(ByteView pin) {
  // Never destroyed: a ring in a static object may still log in while the process ends.
  static const auto& key = *new SecretBytes(crypto::random_secret(crypto::kKeyBytes));
  return crypto::hmac_sha256(key.view(), pin);
}

}  // namespace hsmseal::pkcs11
