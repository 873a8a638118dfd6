#include <cstddef>
#include <cstdint>
#include <string>

#include <p11-kit/pkcs11.h>

#include "pkcs11/reactions.hpp"
#include "pkcs11/return_value_table.hpp"
#include "support/catch.hpp"

namespace {

using hsmseal::pkcs11::Attempt;
using hsmseal::pkcs11::kReturnValues;
using hsmseal::pkcs11::name_of;
using hsmseal::pkcs11::Reaction;
using hsmseal::pkcs11::reaction;
using hsmseal::pkcs11::retryable;

constexpr std::uint64_t kUnknown = 0x4, kVendors = 0x80000123, kNetwork = 0x80000384;

}  // namespace

TEST_CASE("what comes from a session, a device or memory is worth another try", "[unit]") {
  for (const std::uint64_t rv :
       {CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_HOST_MEMORY, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY,
        CKR_DEVICE_REMOVED, CKR_SESSION_CLOSED, CKR_SESSION_COUNT, CKR_SESSION_HANDLE_INVALID, CKR_TOKEN_NOT_PRESENT,
        CKR_USER_NOT_LOGGED_IN, CKR_CRYPTOKI_NOT_INITIALIZED}) {
    for (const char* const function : {"C_Encrypt", "C_Decrypt", "C_UnwrapKey", "C_FindObjects", "C_OpenSession"}) {
      CAPTURE(rv, function);
      CHECK(retryable(function, rv));
    }
  }
}

TEST_CASE("no PIN, key, mechanism, template or data is tried again", "[unit]") {
  std::size_t seen = 0;
  for (const auto& value : kReturnValues) {
    const std::string name{value.name};
    for (const char* const kind : {"PIN", "KEY", "WRAP", "MECHANISM", "TEMPLATE", "ATTRIBUTE", "DATA", "SIGNATURE",
                                   "ARGUMENTS", "NOT_SUPPORTED", "DECRYPT"}) {
      if (name.find(kind) == std::string::npos) continue;
      for (const char* const function : {"C_Login", "C_Encrypt", "C_Decrypt", "C_GetTokenInfo"}) {
        CAPTURE(name, function);
        CHECK_FALSE(retryable(function, value.code));
        ++seen;
      }
    }
  }
  CHECK(seen > 4 * 40);
  CHECK_FALSE(retryable("C_Encrypt", CKR_OK));
}

TEST_CASE("of the failures of C_Login those alone that did not judge the PIN are tried again", "[unit]") {
  std::size_t tried = 0;
  for (const auto& value : kReturnValues) tried += retryable("C_Login", value.code) ? 1 : 0;
  CHECK(tried == 16);
  for (const std::uint64_t rv : {CKR_TOKEN_NOT_PRESENT, CKR_SESSION_HANDLE_INVALID, CKR_HOST_MEMORY}) {
    CHECK(retryable("C_Login", rv));
  }
  for (const std::uint64_t rv : {std::uint64_t{CKR_GENERAL_ERROR}, std::uint64_t{CKR_FUNCTION_FAILED},
                                 std::uint64_t{CKR_FUNCTION_CANCELED}, kUnknown, kVendors, kNetwork}) {
    CAPTURE(rv);
    CHECK_FALSE(retryable("C_Login", rv));
  }
}

TEST_CASE("an unknown return value is tried again, but for C_Login's", "[unit]") {
  for (const std::uint64_t rv : {kUnknown, kVendors, kNetwork}) {
    CAPTURE(rv);
    CHECK(retryable("C_Encrypt", rv));
    CHECK(retryable("C_Decrypt", rv));
    CHECK(retryable("a function that nobody knows", rv));
  }
}

TEST_CASE("every reaction has a name, and a failure that leads to it", "[unit]") {
  for (int number = 0; number <= static_cast<int>(Reaction::Restart); ++number) {
    const auto wanted = static_cast<Reaction>(number);
    CAPTURE(name_of(wanted));
    CHECK_FALSE(name_of(wanted).empty());
    bool found = false;
    for (const auto& value : kReturnValues) {
      for (const char* const function : {"C_Login", "C_Encrypt", "C_OpenSession"}) {
        found = found || reaction(function, value.code, Attempt::First) == wanted;
      }
    }
    CHECK(found);
  }
}
