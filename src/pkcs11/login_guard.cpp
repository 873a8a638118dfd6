#include "pkcs11/login_guard.hpp"

#include "crypto/crypto.hpp"

namespace hsmseal::pkcs11 {

LoginGuard::PinDigest LoginGuard::digest(ByteView pin) {
  static const SecretBytes key = crypto::random_secret(crypto::kKeyBytes);
  return crypto::hmac_sha256(key.view(), pin);
}

}  // namespace hsmseal::pkcs11
