#include "pkcs11/return_values.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <p11-kit/pkcs11.h>

#include "support/catch.hpp"

namespace {

using hsmseal::pkcs11::mechanism_name;
using hsmseal::pkcs11::rv_name;

// PKCS#11 2.40 has 94 codes and CKR_VENDOR_DEFINED, where the vendors' own begin. 3.0 added CKR_AEAD_DECRYPT_FAILED,
// CKR_TOKEN_RESOURCE_EXCEEDED and CKR_OPERATION_CANCEL_FAILED.
constexpr std::size_t kCodesOf240 = 95;
constexpr std::size_t kCodesOf300 = kCodesOf240 + 3;

struct Code {
  std::uint64_t number;
  std::string name;
};

/// Every code with a name, found by asking for all numbers that a standard has ever used.
std::vector<Code> named_codes() {
  std::vector<Code> codes;
  for (const auto& [first, last] : {std::pair<std::uint64_t, std::uint64_t>{0, 0xffff}, {0x7fffff00, 0x800000ff}}) {
    for (std::uint64_t rv = first; rv <= last; ++rv) {
      auto name = rv_name(rv);
      if (name.rfind("CKR_", 0) == 0) codes.push_back({rv, std::move(name)});
    }
  }
  return codes;
}

#define HSMSEAL_CODE(name) \
  Code { name, #name }

/// What p11-kit's header of PKCS#11 2.40 defines, but for the numbers it has of its own.
std::vector<Code> codes_of_header() {
  return {
      HSMSEAL_CODE(CKR_OK),
      HSMSEAL_CODE(CKR_CANCEL),
      HSMSEAL_CODE(CKR_HOST_MEMORY),
      HSMSEAL_CODE(CKR_SLOT_ID_INVALID),
      HSMSEAL_CODE(CKR_GENERAL_ERROR),
      HSMSEAL_CODE(CKR_FUNCTION_FAILED),
      HSMSEAL_CODE(CKR_ARGUMENTS_BAD),
      HSMSEAL_CODE(CKR_NO_EVENT),
      HSMSEAL_CODE(CKR_NEED_TO_CREATE_THREADS),
      HSMSEAL_CODE(CKR_CANT_LOCK),
      HSMSEAL_CODE(CKR_ATTRIBUTE_READ_ONLY),
      HSMSEAL_CODE(CKR_ATTRIBUTE_SENSITIVE),
      HSMSEAL_CODE(CKR_ATTRIBUTE_TYPE_INVALID),
      HSMSEAL_CODE(CKR_ATTRIBUTE_VALUE_INVALID),
      HSMSEAL_CODE(CKR_ACTION_PROHIBITED),
      HSMSEAL_CODE(CKR_DATA_INVALID),
      HSMSEAL_CODE(CKR_DATA_LEN_RANGE),
      HSMSEAL_CODE(CKR_DEVICE_ERROR),
      HSMSEAL_CODE(CKR_DEVICE_MEMORY),
      HSMSEAL_CODE(CKR_DEVICE_REMOVED),
      HSMSEAL_CODE(CKR_ENCRYPTED_DATA_INVALID),
      HSMSEAL_CODE(CKR_ENCRYPTED_DATA_LEN_RANGE),
      HSMSEAL_CODE(CKR_FUNCTION_CANCELED),
      HSMSEAL_CODE(CKR_FUNCTION_NOT_PARALLEL),
      HSMSEAL_CODE(CKR_FUNCTION_NOT_SUPPORTED),
      HSMSEAL_CODE(CKR_KEY_HANDLE_INVALID),
      HSMSEAL_CODE(CKR_KEY_SIZE_RANGE),
      HSMSEAL_CODE(CKR_KEY_TYPE_INCONSISTENT),
      HSMSEAL_CODE(CKR_KEY_NOT_NEEDED),
      HSMSEAL_CODE(CKR_KEY_CHANGED),
      HSMSEAL_CODE(CKR_KEY_NEEDED),
      HSMSEAL_CODE(CKR_KEY_INDIGESTIBLE),
      HSMSEAL_CODE(CKR_KEY_FUNCTION_NOT_PERMITTED),
      HSMSEAL_CODE(CKR_KEY_NOT_WRAPPABLE),
      HSMSEAL_CODE(CKR_KEY_UNEXTRACTABLE),
      HSMSEAL_CODE(CKR_MECHANISM_INVALID),
      HSMSEAL_CODE(CKR_MECHANISM_PARAM_INVALID),
      HSMSEAL_CODE(CKR_OBJECT_HANDLE_INVALID),
      HSMSEAL_CODE(CKR_OPERATION_ACTIVE),
      HSMSEAL_CODE(CKR_OPERATION_NOT_INITIALIZED),
      HSMSEAL_CODE(CKR_PIN_INCORRECT),
      HSMSEAL_CODE(CKR_PIN_INVALID),
      HSMSEAL_CODE(CKR_PIN_LEN_RANGE),
      HSMSEAL_CODE(CKR_PIN_EXPIRED),
      HSMSEAL_CODE(CKR_PIN_LOCKED),
      HSMSEAL_CODE(CKR_SESSION_CLOSED),
      HSMSEAL_CODE(CKR_SESSION_COUNT),
      HSMSEAL_CODE(CKR_SESSION_HANDLE_INVALID),
      HSMSEAL_CODE(CKR_SESSION_PARALLEL_NOT_SUPPORTED),
      HSMSEAL_CODE(CKR_SESSION_READ_ONLY),
      HSMSEAL_CODE(CKR_SESSION_EXISTS),
      HSMSEAL_CODE(CKR_SESSION_READ_ONLY_EXISTS),
      HSMSEAL_CODE(CKR_SESSION_READ_WRITE_SO_EXISTS),
      HSMSEAL_CODE(CKR_SIGNATURE_INVALID),
      HSMSEAL_CODE(CKR_SIGNATURE_LEN_RANGE),
      HSMSEAL_CODE(CKR_TEMPLATE_INCOMPLETE),
      HSMSEAL_CODE(CKR_TEMPLATE_INCONSISTENT),
      HSMSEAL_CODE(CKR_TOKEN_NOT_PRESENT),
      HSMSEAL_CODE(CKR_TOKEN_NOT_RECOGNIZED),
      HSMSEAL_CODE(CKR_TOKEN_WRITE_PROTECTED),
      HSMSEAL_CODE(CKR_UNWRAPPING_KEY_HANDLE_INVALID),
      HSMSEAL_CODE(CKR_UNWRAPPING_KEY_SIZE_RANGE),
      HSMSEAL_CODE(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT),
      HSMSEAL_CODE(CKR_USER_ALREADY_LOGGED_IN),
      HSMSEAL_CODE(CKR_USER_NOT_LOGGED_IN),
      HSMSEAL_CODE(CKR_USER_PIN_NOT_INITIALIZED),
      HSMSEAL_CODE(CKR_USER_TYPE_INVALID),
      HSMSEAL_CODE(CKR_USER_ANOTHER_ALREADY_LOGGED_IN),
      HSMSEAL_CODE(CKR_USER_TOO_MANY_TYPES),
      HSMSEAL_CODE(CKR_WRAPPED_KEY_INVALID),
      HSMSEAL_CODE(CKR_WRAPPED_KEY_LEN_RANGE),
      HSMSEAL_CODE(CKR_WRAPPING_KEY_HANDLE_INVALID),
      HSMSEAL_CODE(CKR_WRAPPING_KEY_SIZE_RANGE),
      HSMSEAL_CODE(CKR_WRAPPING_KEY_TYPE_INCONSISTENT),
      HSMSEAL_CODE(CKR_RANDOM_SEED_NOT_SUPPORTED),
      HSMSEAL_CODE(CKR_RANDOM_NO_RNG),
      HSMSEAL_CODE(CKR_DOMAIN_PARAMS_INVALID),
      HSMSEAL_CODE(CKR_CURVE_NOT_SUPPORTED),
      HSMSEAL_CODE(CKR_BUFFER_TOO_SMALL),
      HSMSEAL_CODE(CKR_SAVED_STATE_INVALID),
      HSMSEAL_CODE(CKR_INFORMATION_SENSITIVE),
      HSMSEAL_CODE(CKR_STATE_UNSAVEABLE),
      HSMSEAL_CODE(CKR_CRYPTOKI_NOT_INITIALIZED),
      HSMSEAL_CODE(CKR_CRYPTOKI_ALREADY_INITIALIZED),
      HSMSEAL_CODE(CKR_MUTEX_BAD),
      HSMSEAL_CODE(CKR_MUTEX_NOT_LOCKED),
      HSMSEAL_CODE(CKR_NEW_PIN_MODE),
      HSMSEAL_CODE(CKR_NEXT_OTP),
      HSMSEAL_CODE(CKR_FUNCTION_REJECTED),
      HSMSEAL_CODE(CKR_VENDOR_DEFINED),
  };
}

/// The five codes that p11-kit's header numbers from 0x1c0 on, against the standard.
std::vector<Code> misnumbered_codes_of_header() {
  return {
      HSMSEAL_CODE(CKR_EXCEEDED_MAX_ITERATIONS), HSMSEAL_CODE(CKR_FIPS_SELF_TEST_FAILED),
      HSMSEAL_CODE(CKR_LIBRARY_LOAD_FAILED),     HSMSEAL_CODE(CKR_PIN_TOO_WEAK),
      HSMSEAL_CODE(CKR_PUBLIC_KEY_INVALID),
  };
}

#undef HSMSEAL_CODE

}  // namespace

TEST_CASE("every return value of PKCS#11 2.40 and 3.0 has one name", "[unit]") {
  const auto codes = named_codes();
  CHECK(codes.size() == kCodesOf300);
  std::set<std::string> names;
  for (const auto& code : codes) {
    CAPTURE(code.number, code.name);
    CHECK(names.insert(code.name).second);
  }
}

TEST_CASE("return values are named as in p11-kit's header", "[unit]") {
  const auto codes = codes_of_header();
  const auto misnumbered = misnumbered_codes_of_header();
  REQUIRE(codes.size() + misnumbered.size() == kCodesOf240);
  for (const auto& code : codes) CHECK(rv_name(code.number) == code.name);
  // A header that learns the standard's numbers is as good as one that has its own.
  std::uint64_t standard = 0x1b5;
  for (const auto& code : misnumbered) {
    CAPTURE(code.name, code.number);
    CHECK(rv_name(standard) == code.name);
    CHECK((code.number == standard || rv_name(code.number).rfind("0x1c", 0) == 0));
    ++standard;
  }
}

TEST_CASE("return values that 3.0 added have their names", "[unit]") {
  CHECK(rv_name(0x42) == "CKR_AEAD_DECRYPT_FAILED");
  CHECK(rv_name(0x201) == "CKR_TOKEN_RESOURCE_EXCEEDED");
  CHECK(rv_name(0x202) == "CKR_OPERATION_CANCEL_FAILED");
}

TEST_CASE("a return value without a name is a hexadecimal number", "[unit]") {
  CHECK(rv_name(0x80000384) == "0x80000384");
  CHECK(rv_name(0x4) == "0x4");
  CHECK(rv_name(0xffffffffffffffff) == "0xffffffffffffffff");
}

TEST_CASE("mechanisms are named as in p11-kit's header", "[unit]") {
  const std::pair<std::uint64_t, const char*> mechanisms[] = {
      {CKM_RSA_PKCS_KEY_PAIR_GEN, "CKM_RSA_PKCS_KEY_PAIR_GEN"},
      {CKM_RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP"},
      {CKM_RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS"},
      {CKM_SHA256_RSA_PKCS, "CKM_SHA256_RSA_PKCS"},
      {CKM_SHA_1, "CKM_SHA_1"},
      {CKM_SHA256_HMAC, "CKM_SHA256_HMAC"},
      {CKM_SHA512, "CKM_SHA512"},
      {CKM_GENERIC_SECRET_KEY_GEN, "CKM_GENERIC_SECRET_KEY_GEN"},
      {CKM_ECDSA, "CKM_ECDSA"},
      {CKM_ECDH1_DERIVE, "CKM_ECDH1_DERIVE"},
      {CKM_AES_KEY_GEN, "CKM_AES_KEY_GEN"},
      {CKM_AES_CBC_PAD, "CKM_AES_CBC_PAD"},
      {CKM_AES_CTR, "CKM_AES_CTR"},
      {CKM_AES_GCM, "CKM_AES_GCM"},
      {CKM_AES_CMAC, "CKM_AES_CMAC"},
      {CKM_AES_KEY_WRAP, "CKM_AES_KEY_WRAP"},
      {CKM_AES_KEY_WRAP_PAD, "CKM_AES_KEY_WRAP_PAD"},
      {0x210b, "CKM_AES_KEY_WRAP_KWP"},
      {0x402a, "CKM_HKDF_DERIVE"},
  };
  for (const auto& [type, name] : mechanisms) CHECK(mechanism_name(type) == name);
}

TEST_CASE("a mechanism without a name is a hexadecimal number", "[unit]") {
  CHECK(mechanism_name(0x80000170) == "0x80000170");
}
