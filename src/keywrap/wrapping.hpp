#pragma once

#include <cstddef>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "pkcs11/handle_watch.hpp"

/// Wrapping in one session, with the token's own errors. The only place that knows how each profile is done.
namespace hsmseal::keywrap {

/// The keys of a set as they were made or found in a token. Each use of them is fenced by the watch.
struct FoundKeys {
  KeyHandle kek;
  KeyHandle mac = {};         ///< the second key of WrapAlgorithm::Aes256CbcHmac; 0 with another
  pkcs11::HandleWatch watch;  ///< taken before the first of them was made or looked up

  /// Whether the handles still stand for these keys.
  [[nodiscard]] bool current() const { return watch.still_names(kek) && (mac.value == 0 || watch.still_names(mac)); }
};

/// Whether this many bytes can be what wrap_in() returned. Otherwise no token need be asked.
[[nodiscard]] bool can_be_wrapped(const WrapProfile& profile, std::size_t size) noexcept;

/// Two calls with AES-GCM: C_EncryptInit and C_Encrypt; with CBC and HMAC four, C_SignInit and C_Sign after these.
///
/// @param key  of a size that core::can_wrap() takes.
/// @returns IV, ciphertext, tag or MAC: whoever made the IV, and wherever the token puts it.
[[nodiscard]] Bytes wrap_in(Pkcs11Session& session, const FoundKeys& keys, const WrapProfile& profile, ByteView key,
                            ByteView aad);

/// Two calls with AES-GCM, four with CBC and HMAC: C_SignInit, C_Sign, and then, if the MAC is right, C_DecryptInit and
/// C_Decrypt.
///
/// @throws OpenError  found on the host: the size, or the MAC. The token has decrypted nothing.
[[nodiscard]] SecretBytes unwrap_in(Pkcs11Session& session, const FoundKeys& keys, const WrapProfile& profile,
                                    ByteView wrapped, ByteView aad);

}  // namespace hsmseal::keywrap
