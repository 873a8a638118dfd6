#include "pkcs11/return_values.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <string_view>

#include "pkcs11/return_value_table.hpp"

namespace hsmseal::pkcs11 {
namespace {

struct Mechanism {
  std::uint64_t code;
  std::string_view name;
};

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

static_assert(strictly_ascending(kMechanisms));

std::string hexadecimal(std::uint64_t number) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, 16).ptr;
  return "0x" + std::string(digits.data(), end);
}

template <typename Table>
std::string name_of(const Table& table, std::uint64_t code) {
  const auto* row = find_code(table, code);
  return row != nullptr ? std::string(row->name) : hexadecimal(code);
}

}  // namespace

std::string rv_name(std::uint64_t rv) { return name_of(kReturnValues, rv); }

std::string mechanism_name(std::uint64_t type) { return name_of(kMechanisms, type); }

}  // namespace hsmseal::pkcs11
