#include "keywrap/pkcs11_key.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "crypto/crypto.hpp"
#include "pkcs11/cryptoki.hpp"

namespace hsmseal::keywrap {
namespace {

constexpr std::size_t kIvBytes = crypto::kNonceBytes;
constexpr CK_RV kAeadDecryptFailed = 0x42;  // CKR_AEAD_DECRYPT_FAILED of PKCS#11 3.0

enum class Verdict {
  BadCiphertext,  ///< the token says that it does not open
  Unclear,        ///< the ciphertext, or the token
  Trouble,        ///< the token could not try
};

Verdict verdict_on(const TokenError& error) {
  if (error.function() != "C_Decrypt") return Verdict::Trouble;
  switch (error.rv()) {
    case CKR_ENCRYPTED_DATA_INVALID:
    case CKR_ENCRYPTED_DATA_LEN_RANGE:
    case CKR_DATA_INVALID:
    case CKR_DATA_LEN_RANGE:
    case CKR_SIGNATURE_INVALID:
    case CKR_SIGNATURE_LEN_RANGE:
    case kAeadDecryptFailed:
      return Verdict::BadCiphertext;
    case CKR_GENERAL_ERROR:
    case CKR_FUNCTION_FAILED:
    case CKR_DEVICE_ERROR:
      return Verdict::Unclear;
    default:
      return error.rv() >= CKR_VENDOR_DEFINED ? Verdict::Unclear : Verdict::Trouble;
  }
}

}  // namespace

Pkcs11Key::Pkcs11Key(std::shared_ptr<SessionPool> pool, KeyHandle handle, WrapProfile profile)
    : pool_(std::move(pool)), handle_(handle), profile_(profile) {}

Bytes Pkcs11Key::wrap(ByteView key, ByteView aad) {
  if (key.size() > profile_.max_plaintext) {
    throw InvalidArgumentError(fmt::format("{} bytes to encrypt in the token, where at most {} are allowed", key.size(),
                                           profile_.max_plaintext));
  }
  const auto iv = crypto::random_array<kIvBytes>();
  Bytes wrapped(iv.begin(), iv.end());
  auto session = pool_->acquire();
  const Bytes ciphertext = session->encrypt(handle_, {.iv = iv, .aad = aad}, key);
  wrapped.insert(wrapped.end(), ciphertext.begin(), ciphertext.end());
  return wrapped;
}

SecretBytes Pkcs11Key::unwrap_in(Pkcs11Session& session, KeyHandle handle, ByteView wrapped, ByteView aad) const {
  if (wrapped.size() < kIvBytes + crypto::kTagBytes) throw OpenError();
  return session.decrypt(handle, {.iv = wrapped.first(kIvBytes), .aad = aad}, wrapped.subspan(kIvBytes));
}

bool Pkcs11Key::round_trip_works() {
  const SecretBytes sent = crypto::random_secret(crypto::kKeyBytes);
  try {
    const Bytes wrapped = wrap(sent.view(), {});
    auto session = pool_->acquire();
    return crypto::equal(unwrap_in(*session, handle_, wrapped, {}).view(), sent.view());
  } catch (const TokenError&) {
    return false;
  }
}

SecretBytes Pkcs11Key::unwrap(ByteView wrapped, ByteView aad) {
  // The session is given back before another is asked for, so that a pool of one does not wait for itself.
  const auto attempt = [&] {
    auto session = pool_->acquire();
    return unwrap_in(*session, handle_, wrapped, aad);
  };
  try {
    return attempt();
  } catch (const TokenError& error) {
    const Verdict verdict = verdict_on(error);
    if (verdict == Verdict::BadCiphertext) throw OpenError();
    if (verdict == Verdict::Trouble || !round_trip_works()) throw;
  }
  try {
    return attempt();
  } catch (const TokenError& error) {
    if (verdict_on(error) == Verdict::Trouble) throw;
    throw OpenError();
  }
}

}  // namespace hsmseal::keywrap
