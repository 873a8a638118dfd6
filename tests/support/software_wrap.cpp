#include "support/software_wrap.hpp"

#include <array>

#include <hsmseal/error.hpp>

#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::test {
namespace {

bool is_gcm(const WrapProfile& profile) { return profile.algorithm == WrapAlgorithm::Aes256Gcm; }

}  // namespace

Bytes software_wrap(const WrapProfile& profile, ByteView kek, ByteView mac_key, ByteView plain, ByteView aad) {
  if (!core::can_wrap(profile, plain.size())) throw InvalidArgumentError("not so many bytes are wrapped at once");
  Bytes iv(core::iv_bytes(profile));
  crypto::random_fill(iv);
  SecretBytes text{plain};
  core::Binding wrapped{""};
  wrapped.append(iv);
  if (is_gcm(profile)) {
    std::array<std::byte, crypto::kTagBytes> tag;
    crypto::aes256_gcm_encrypt(kek, iv, aad, text.writable(), tag);
    return wrapped.append(text.view()).append(ByteView{tag}).take();
  }
  crypto::aes256_cbc_encrypt(kek, iv, text.writable());
  const auto mac = crypto::hmac_sha256(mac_key, core::cbc_mac_input(aad, wrapped.append(text.view()).view()));
  return wrapped.append(ByteView{mac}).take();
}

SecretBytes software_unwrap(const WrapProfile& profile, ByteView kek, ByteView mac_key, ByteView wrapped,
                            ByteView aad) {
  if (wrapped.size() < core::overhead(profile)) throw OpenError();
  const ByteView iv = wrapped.first(core::iv_bytes(profile));
  const ByteView sealed = wrapped.first(wrapped.size() - core::tag_bytes(profile.algorithm));
  SecretBytes text{sealed.subspan(iv.size())};
  if (!core::can_wrap(profile, text.size())) throw OpenError();
  if (is_gcm(profile)) {
    const auto tag = wrapped.last<crypto::kTagBytes>();
    if (!crypto::aes256_gcm_decrypt(kek, iv, aad, text.writable(), tag)) throw OpenError();
    return text;
  }
  const auto mac = crypto::hmac_sha256(mac_key, core::cbc_mac_input(aad, sealed));
  if (!crypto::equal(mac, wrapped.last<core::kCbcMacBytes>())) throw OpenError();
  crypto::aes256_cbc_decrypt(kek, iv, text.writable());
  return text;
}

}  // namespace hsmseal::test
