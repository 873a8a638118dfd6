#pragma once

#include <string>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/vendors.hpp>

namespace hsmseal::keywrap {

/// The ways to wrap that are tried on a token, in this order: what the operator names and nothing else; otherwise
/// AES-GCM as its vendor documents it, with the caller's IV and parameters of six fields, of five; and CBC with HMAC.
///
/// A token is asked to make an IV only where the operator or the vendor says that it does: one that does not may encrypt
/// under zeros, or end the process.
///
/// @param vendor  of the token's driver; null: unknown.
/// @throws InvalidArgumentError  the operator's wishes contradict each other.
[[nodiscard]] std::vector<WrapProfile> profiles_to_try(const SetSpec& spec, const Vendor* vendor);

/// For messages, as in `AES-GCM with the caller's IV`.
[[nodiscard]] std::string describe(const WrapProfile& profile);

}  // namespace hsmseal::keywrap
