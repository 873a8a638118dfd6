#include "pkcs11/return_values.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <string_view>

namespace hsmseal::pkcs11 {
namespace {

enum class Retry { No, Yes };

struct ReturnValue {
  std::uint64_t code;
  std::string_view name;
  Retry retry;
};

struct Mechanism {
  std::uint64_t code;
  std::string_view name;
};

// The numbers are those of the OASIS header pkcs11t.h, for 2.40 and for what 3.0 added (0x042, 0x201, 0x202). Some
// other headers number 0x1b5 to 0x1b9 differently.
//
// What may succeed later: a session or a login that was lost (hsmseal opens and logs in again), a device, slot or token
// that may come back, memory and sessions that may be freed, failures without a cause given, and a search for primes
// that gave up.
constexpr auto kReturnValues = std::to_array<ReturnValue>({
    {0x000, "CKR_OK", Retry::No},
    {0x001, "CKR_CANCEL", Retry::No},
    {0x002, "CKR_HOST_MEMORY", Retry::Yes},
    {0x003, "CKR_SLOT_ID_INVALID", Retry::Yes},
    {0x005, "CKR_GENERAL_ERROR", Retry::Yes},
    {0x006, "CKR_FUNCTION_FAILED", Retry::Yes},
    {0x007, "CKR_ARGUMENTS_BAD", Retry::No},
    {0x008, "CKR_NO_EVENT", Retry::Yes},
    {0x009, "CKR_NEED_TO_CREATE_THREADS", Retry::No},
    {0x00a, "CKR_CANT_LOCK", Retry::No},
    {0x010, "CKR_ATTRIBUTE_READ_ONLY", Retry::No},
    {0x011, "CKR_ATTRIBUTE_SENSITIVE", Retry::No},
    {0x012, "CKR_ATTRIBUTE_TYPE_INVALID", Retry::No},
    {0x013, "CKR_ATTRIBUTE_VALUE_INVALID", Retry::No},
    {0x01b, "CKR_ACTION_PROHIBITED", Retry::No},
    {0x020, "CKR_DATA_INVALID", Retry::No},
    {0x021, "CKR_DATA_LEN_RANGE", Retry::No},
    {0x030, "CKR_DEVICE_ERROR", Retry::Yes},
    {0x031, "CKR_DEVICE_MEMORY", Retry::Yes},
    {0x032, "CKR_DEVICE_REMOVED", Retry::Yes},
    {0x040, "CKR_ENCRYPTED_DATA_INVALID", Retry::No},
    {0x041, "CKR_ENCRYPTED_DATA_LEN_RANGE", Retry::No},
    {0x042, "CKR_AEAD_DECRYPT_FAILED", Retry::No},
    {0x050, "CKR_FUNCTION_CANCELED", Retry::No},
    {0x051, "CKR_FUNCTION_NOT_PARALLEL", Retry::No},
    {0x054, "CKR_FUNCTION_NOT_SUPPORTED", Retry::No},
    {0x060, "CKR_KEY_HANDLE_INVALID", Retry::No},
    {0x062, "CKR_KEY_SIZE_RANGE", Retry::No},
    {0x063, "CKR_KEY_TYPE_INCONSISTENT", Retry::No},
    {0x064, "CKR_KEY_NOT_NEEDED", Retry::No},
    {0x065, "CKR_KEY_CHANGED", Retry::No},
    {0x066, "CKR_KEY_NEEDED", Retry::No},
    {0x067, "CKR_KEY_INDIGESTIBLE", Retry::No},
    {0x068, "CKR_KEY_FUNCTION_NOT_PERMITTED", Retry::No},
    {0x069, "CKR_KEY_NOT_WRAPPABLE", Retry::No},
    {0x06a, "CKR_KEY_UNEXTRACTABLE", Retry::No},
    {0x070, "CKR_MECHANISM_INVALID", Retry::No},
    {0x071, "CKR_MECHANISM_PARAM_INVALID", Retry::No},
    {0x082, "CKR_OBJECT_HANDLE_INVALID", Retry::No},
    {0x090, "CKR_OPERATION_ACTIVE", Retry::Yes},
    {0x091, "CKR_OPERATION_NOT_INITIALIZED", Retry::Yes},
    {0x0a0, "CKR_PIN_INCORRECT", Retry::No},
    {0x0a1, "CKR_PIN_INVALID", Retry::No},
    {0x0a2, "CKR_PIN_LEN_RANGE", Retry::No},
    {0x0a3, "CKR_PIN_EXPIRED", Retry::No},
    {0x0a4, "CKR_PIN_LOCKED", Retry::No},
    {0x0b0, "CKR_SESSION_CLOSED", Retry::Yes},
    {0x0b1, "CKR_SESSION_COUNT", Retry::Yes},
    {0x0b3, "CKR_SESSION_HANDLE_INVALID", Retry::Yes},
    {0x0b4, "CKR_SESSION_PARALLEL_NOT_SUPPORTED", Retry::No},
    {0x0b5, "CKR_SESSION_READ_ONLY", Retry::No},
    {0x0b6, "CKR_SESSION_EXISTS", Retry::Yes},
    {0x0b7, "CKR_SESSION_READ_ONLY_EXISTS", Retry::No},
    {0x0b8, "CKR_SESSION_READ_WRITE_SO_EXISTS", Retry::Yes},
    {0x0c0, "CKR_SIGNATURE_INVALID", Retry::No},
    {0x0c1, "CKR_SIGNATURE_LEN_RANGE", Retry::No},
    {0x0d0, "CKR_TEMPLATE_INCOMPLETE", Retry::No},
    {0x0d1, "CKR_TEMPLATE_INCONSISTENT", Retry::No},
    {0x0e0, "CKR_TOKEN_NOT_PRESENT", Retry::Yes},
    {0x0e1, "CKR_TOKEN_NOT_RECOGNIZED", Retry::Yes},
    {0x0e2, "CKR_TOKEN_WRITE_PROTECTED", Retry::No},
    {0x0f0, "CKR_UNWRAPPING_KEY_HANDLE_INVALID", Retry::No},
    {0x0f1, "CKR_UNWRAPPING_KEY_SIZE_RANGE", Retry::No},
    {0x0f2, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", Retry::No},
    {0x100, "CKR_USER_ALREADY_LOGGED_IN", Retry::No},
    {0x101, "CKR_USER_NOT_LOGGED_IN", Retry::Yes},
    {0x102, "CKR_USER_PIN_NOT_INITIALIZED", Retry::No},
    {0x103, "CKR_USER_TYPE_INVALID", Retry::No},
    {0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", Retry::No},
    {0x105, "CKR_USER_TOO_MANY_TYPES", Retry::No},
    {0x110, "CKR_WRAPPED_KEY_INVALID", Retry::No},
    {0x112, "CKR_WRAPPED_KEY_LEN_RANGE", Retry::No},
    {0x113, "CKR_WRAPPING_KEY_HANDLE_INVALID", Retry::No},
    {0x114, "CKR_WRAPPING_KEY_SIZE_RANGE", Retry::No},
    {0x115, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT", Retry::No},
    {0x120, "CKR_RANDOM_SEED_NOT_SUPPORTED", Retry::No},
    {0x121, "CKR_RANDOM_NO_RNG", Retry::No},
    {0x130, "CKR_DOMAIN_PARAMS_INVALID", Retry::No},
    {0x140, "CKR_CURVE_NOT_SUPPORTED", Retry::No},
    {0x150, "CKR_BUFFER_TOO_SMALL", Retry::No},
    {0x160, "CKR_SAVED_STATE_INVALID", Retry::No},
    {0x170, "CKR_INFORMATION_SENSITIVE", Retry::No},
    {0x180, "CKR_STATE_UNSAVEABLE", Retry::No},
    {0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", Retry::Yes},
    {0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED", Retry::No},
    {0x1a0, "CKR_MUTEX_BAD", Retry::No},
    {0x1a1, "CKR_MUTEX_NOT_LOCKED", Retry::No},
    {0x1b0, "CKR_NEW_PIN_MODE", Retry::No},
    {0x1b1, "CKR_NEXT_OTP", Retry::No},
    {0x1b5, "CKR_EXCEEDED_MAX_ITERATIONS", Retry::Yes},
    {0x1b6, "CKR_FIPS_SELF_TEST_FAILED", Retry::No},
    {0x1b7, "CKR_LIBRARY_LOAD_FAILED", Retry::No},
    {0x1b8, "CKR_PIN_TOO_WEAK", Retry::No},
    {0x1b9, "CKR_PUBLIC_KEY_INVALID", Retry::No},
    {0x200, "CKR_FUNCTION_REJECTED", Retry::No},
    {0x201, "CKR_TOKEN_RESOURCE_EXCEEDED", Retry::Yes},
    {0x202, "CKR_OPERATION_CANCEL_FAILED", Retry::No},
    {0x80000000, "CKR_VENDOR_DEFINED", Retry::No},
});

constexpr auto kMechanisms = std::to_array<Mechanism>({
    {0x0000, "CKM_RSA_PKCS_KEY_PAIR_GEN"},
    {0x0001, "CKM_RSA_PKCS"},
    {0x0003, "CKM_RSA_X_509"},
    {0x0006, "CKM_SHA1_RSA_PKCS"},
    {0x0009, "CKM_RSA_PKCS_OAEP"},
    {0x000a, "CKM_RSA_X9_31_KEY_PAIR_GEN"},
    {0x000d, "CKM_RSA_PKCS_PSS"},
    {0x000e, "CKM_SHA1_RSA_PKCS_PSS"},
    {0x0040, "CKM_SHA256_RSA_PKCS"},
    {0x0041, "CKM_SHA384_RSA_PKCS"},
    {0x0042, "CKM_SHA512_RSA_PKCS"},
    {0x0043, "CKM_SHA256_RSA_PKCS_PSS"},
    {0x0044, "CKM_SHA384_RSA_PKCS_PSS"},
    {0x0045, "CKM_SHA512_RSA_PKCS_PSS"},
    {0x0046, "CKM_SHA224_RSA_PKCS"},
    {0x0047, "CKM_SHA224_RSA_PKCS_PSS"},
    {0x0131, "CKM_DES3_KEY_GEN"},
    {0x0132, "CKM_DES3_ECB"},
    {0x0133, "CKM_DES3_CBC"},
    {0x0136, "CKM_DES3_CBC_PAD"},
    {0x0220, "CKM_SHA_1"},
    {0x0221, "CKM_SHA_1_HMAC"},
    {0x0222, "CKM_SHA_1_HMAC_GENERAL"},
    {0x0250, "CKM_SHA256"},
    {0x0251, "CKM_SHA256_HMAC"},
    {0x0252, "CKM_SHA256_HMAC_GENERAL"},
    {0x0255, "CKM_SHA224"},
    {0x0256, "CKM_SHA224_HMAC"},
    {0x0257, "CKM_SHA224_HMAC_GENERAL"},
    {0x0260, "CKM_SHA384"},
    {0x0261, "CKM_SHA384_HMAC"},
    {0x0262, "CKM_SHA384_HMAC_GENERAL"},
    {0x0270, "CKM_SHA512"},
    {0x0271, "CKM_SHA512_HMAC"},
    {0x0272, "CKM_SHA512_HMAC_GENERAL"},
    {0x02b0, "CKM_SHA3_256"},
    {0x02b1, "CKM_SHA3_256_HMAC"},
    {0x02c0, "CKM_SHA3_384"},
    {0x02c1, "CKM_SHA3_384_HMAC"},
    {0x02d0, "CKM_SHA3_512"},
    {0x02d1, "CKM_SHA3_512_HMAC"},
    {0x0350, "CKM_GENERIC_SECRET_KEY_GEN"},
    {0x03ac, "CKM_SP800_108_COUNTER_KDF"},
    {0x1040, "CKM_EC_KEY_PAIR_GEN"},
    {0x1041, "CKM_ECDSA"},
    {0x1042, "CKM_ECDSA_SHA1"},
    {0x1043, "CKM_ECDSA_SHA224"},
    {0x1044, "CKM_ECDSA_SHA256"},
    {0x1045, "CKM_ECDSA_SHA384"},
    {0x1046, "CKM_ECDSA_SHA512"},
    {0x1050, "CKM_ECDH1_DERIVE"},
    {0x1051, "CKM_ECDH1_COFACTOR_DERIVE"},
    {0x1053, "CKM_ECDH_AES_KEY_WRAP"},
    {0x1054, "CKM_RSA_AES_KEY_WRAP"},
    {0x1055, "CKM_EC_EDWARDS_KEY_PAIR_GEN"},
    {0x1056, "CKM_EC_MONTGOMERY_KEY_PAIR_GEN"},
    {0x1057, "CKM_EDDSA"},
    {0x1071, "CKM_AES_XTS"},
    {0x1072, "CKM_AES_XTS_KEY_GEN"},
    {0x1080, "CKM_AES_KEY_GEN"},
    {0x1081, "CKM_AES_ECB"},
    {0x1082, "CKM_AES_CBC"},
    {0x1083, "CKM_AES_MAC"},
    {0x1084, "CKM_AES_MAC_GENERAL"},
    {0x1085, "CKM_AES_CBC_PAD"},
    {0x1086, "CKM_AES_CTR"},
    {0x1087, "CKM_AES_GCM"},
    {0x1088, "CKM_AES_CCM"},
    {0x1089, "CKM_AES_CTS"},
    {0x108a, "CKM_AES_CMAC"},
    {0x108b, "CKM_AES_CMAC_GENERAL"},
    {0x108e, "CKM_AES_GMAC"},
    {0x1104, "CKM_AES_ECB_ENCRYPT_DATA"},
    {0x1105, "CKM_AES_CBC_ENCRYPT_DATA"},
    {0x1225, "CKM_CHACHA20_KEY_GEN"},
    {0x1226, "CKM_CHACHA20"},
    {0x2104, "CKM_AES_OFB"},
    {0x2107, "CKM_AES_CFB128"},
    {0x2109, "CKM_AES_KEY_WRAP"},
    {0x210a, "CKM_AES_KEY_WRAP_PAD"},
    {0x210b, "CKM_AES_KEY_WRAP_KWP"},
    {0x4003, "CKM_SHA_1_KEY_GEN"},
    {0x4005, "CKM_SHA256_KEY_GEN"},
    {0x4006, "CKM_SHA384_KEY_GEN"},
    {0x4007, "CKM_SHA512_KEY_GEN"},
    {0x4021, "CKM_CHACHA20_POLY1305"},
    {0x402a, "CKM_HKDF_DERIVE"},
    {0x402b, "CKM_HKDF_DATA"},
    {0x402c, "CKM_HKDF_KEY_GEN"},
});

template <typename Table>
constexpr bool strictly_ascending(const Table& table) {
  for (std::size_t i = 1; i < table.size(); ++i) {
    if (table[i - 1].code >= table[i].code) return false;
  }
  return true;
}

// The look-up needs the order, and two rows with one number would hide each other.
static_assert(strictly_ascending(kReturnValues));
static_assert(strictly_ascending(kMechanisms));

template <typename Table>
const typename Table::value_type* find(const Table& table, std::uint64_t code) noexcept {
  const auto row = std::lower_bound(table.begin(), table.end(), code,
                                    [](const auto& entry, std::uint64_t wanted) { return entry.code < wanted; });
  return row != table.end() && row->code == code ? &*row : nullptr;
}

std::string hexadecimal(std::uint64_t number) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, 16).ptr;
  return "0x" + std::string(digits.data(), end);
}

template <typename Table>
std::string name_of(const Table& table, std::uint64_t code) {
  const auto* row = find(table, code);
  return row != nullptr ? std::string(row->name) : hexadecimal(code);
}

}  // namespace

std::string rv_name(std::uint64_t rv) { return name_of(kReturnValues, rv); }

bool rv_retryable(std::uint64_t rv) noexcept {
  const auto* row = find(kReturnValues, rv);
  return row != nullptr && row->retry == Retry::Yes;
}

std::string mechanism_name(std::uint64_t type) { return name_of(kMechanisms, type); }

}  // namespace hsmseal::pkcs11
