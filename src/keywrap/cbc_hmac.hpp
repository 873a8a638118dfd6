#pragma once

#include <hsmseal/pkcs11_session.hpp>

#include "keywrap/wrapping.hpp"

/// WrapAlgorithm::Aes256CbcHmac: encrypted under the one key, then a MAC under the other: src/FORMAT.md section 3.2.
namespace hsmseal::keywrap {

[[nodiscard]] Bytes cbc_hmac_wrap(Pkcs11Session& session, const FoundKeys& keys, ByteView key, ByteView aad);

/// The token sees no ciphertext whose MAC is wrong: what it would answer to that is an oracle with some, and nothing at
/// all with others, which return CKR_OK.
///
/// @param wrapped  of a size that can_be_wrapped() takes.
/// @throws OpenError  the MAC is wrong.
[[nodiscard]] SecretBytes cbc_hmac_unwrap(Pkcs11Session& session, const FoundKeys& keys, ByteView wrapped,
                                          ByteView aad);

/// Whether the second key made this MAC.
[[nodiscard]] bool mac_is_right(Pkcs11Session& session, const FoundKeys& keys, ByteView wrapped, ByteView aad);

/// What the first key alone makes of it. Only for bytes whose digest is known.
[[nodiscard]] SecretBytes decrypt_unauthenticated(Pkcs11Session& session, const FoundKeys& keys, ByteView wrapped);

}  // namespace hsmseal::keywrap
