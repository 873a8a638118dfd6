#pragma once

#include <hsmseal/credential_set.hpp>

namespace hsmseal::test {

/// What a token and the library do together to wrap under a profile, in software: src/FORMAT.md section 3.2.
///
/// @param mac_key  of WrapAlgorithm::Aes256CbcHmac; else of no meaning.
/// @throws InvalidArgumentError  the profile does not wrap so many bytes.
[[nodiscard]] Bytes software_wrap(const WrapProfile& profile, ByteView kek, ByteView mac_key, ByteView plain,
                                  ByteView aad);

/// @throws OpenError
[[nodiscard]] SecretBytes software_unwrap(const WrapProfile& profile, ByteView kek, ByteView mac_key, ByteView wrapped,
                                          ByteView aad);

}  // namespace hsmseal::test
