#pragma once

#include <cstdint>
#include <string>

namespace hsmseal::pkcs11 {

/// The name of a CK_RV in PKCS#11 2.40 or 3.0, such as "CKR_PIN_INCORRECT".
///
/// @returns a hexadecimal number such as "0x80000384" for a vendor's own and for any other unknown value.
///
/// Thread safety: any thread.
[[nodiscard]] std::string rv_name(std::uint64_t rv);

/// The name of a CK_MECHANISM_TYPE, such as "CKM_AES_GCM", for those that an operator of an HSM meets.
///
/// @returns a hexadecimal number for any other.
///
/// Thread safety: any thread.
[[nodiscard]] std::string mechanism_name(std::uint64_t type);

}  // namespace hsmseal::pkcs11
