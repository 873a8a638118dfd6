#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string_view>

#include <p11-kit/pkcs11.h>

namespace faulty {

// Every function of CK_FUNCTION_LIST 2.40, in its order, and whether its first argument is a session.
#define FAULTYHSM_FUNCTIONS(X)        \
  X(C_Initialize, NoSession)          \
  X(C_Finalize, NoSession)            \
  X(C_GetInfo, NoSession)             \
  X(C_GetFunctionList, NoSession)     \
  X(C_GetSlotList, NoSession)         \
  X(C_GetSlotInfo, NoSession)         \
  X(C_GetTokenInfo, NoSession)        \
  X(C_GetMechanismList, NoSession)    \
  X(C_GetMechanismInfo, NoSession)    \
  X(C_InitToken, NoSession)           \
  X(C_InitPIN, InSession)             \
  X(C_SetPIN, InSession)              \
  X(C_OpenSession, NoSession)         \
  X(C_CloseSession, InSession)        \
  X(C_CloseAllSessions, NoSession)    \
  X(C_GetSessionInfo, InSession)      \
  X(C_GetOperationState, InSession)   \
  X(C_SetOperationState, InSession)   \
  X(C_Login, InSession)               \
  X(C_Logout, InSession)              \
  X(C_CreateObject, InSession)        \
  X(C_CopyObject, InSession)          \
  X(C_DestroyObject, InSession)       \
  X(C_GetObjectSize, InSession)       \
  X(C_GetAttributeValue, InSession)   \
  X(C_SetAttributeValue, InSession)   \
  X(C_FindObjectsInit, InSession)     \
  X(C_FindObjects, InSession)         \
  X(C_FindObjectsFinal, InSession)    \
  X(C_EncryptInit, InSession)         \
  X(C_Encrypt, InSession)             \
  X(C_EncryptUpdate, InSession)       \
  X(C_EncryptFinal, InSession)        \
  X(C_DecryptInit, InSession)         \
  X(C_Decrypt, InSession)             \
  X(C_DecryptUpdate, InSession)       \
  X(C_DecryptFinal, InSession)        \
  X(C_DigestInit, InSession)          \
  X(C_Digest, InSession)              \
  X(C_DigestUpdate, InSession)        \
  X(C_DigestKey, InSession)           \
  X(C_DigestFinal, InSession)         \
  X(C_SignInit, InSession)            \
  X(C_Sign, InSession)                \
  X(C_SignUpdate, InSession)          \
  X(C_SignFinal, InSession)           \
  X(C_SignRecoverInit, InSession)     \
  X(C_SignRecover, InSession)         \
  X(C_VerifyInit, InSession)          \
  X(C_Verify, InSession)              \
  X(C_VerifyUpdate, InSession)        \
  X(C_VerifyFinal, InSession)         \
  X(C_VerifyRecoverInit, InSession)   \
  X(C_VerifyRecover, InSession)       \
  X(C_DigestEncryptUpdate, InSession) \
  X(C_DecryptDigestUpdate, InSession) \
  X(C_SignEncryptUpdate, InSession)   \
  X(C_DecryptVerifyUpdate, InSession) \
  X(C_GenerateKey, InSession)         \
  X(C_GenerateKeyPair, InSession)     \
  X(C_WrapKey, InSession)             \
  X(C_UnwrapKey, InSession)           \
  X(C_DeriveKey, InSession)           \
  X(C_SeedRandom, InSession)          \
  X(C_GenerateRandom, InSession)      \
  X(C_GetFunctionStatus, InSession)   \
  X(C_CancelFunction, InSession)      \
  X(C_WaitForSlotEvent, NoSession)

enum class Scope { NoSession, InSession };

// clang-format off
enum class Function : std::size_t {
#define FAULTYHSM_ENUMERATOR(name, scope) name,
  FAULTYHSM_FUNCTIONS(FAULTYHSM_ENUMERATOR)
#undef FAULTYHSM_ENUMERATOR
};

inline constexpr std::string_view kFunctionNames[] = {
#define FAULTYHSM_NAME(name, scope) #name,
  FAULTYHSM_FUNCTIONS(FAULTYHSM_NAME)
#undef FAULTYHSM_NAME
};
// clang-format on

inline constexpr std::size_t kFunctions = std::size(kFunctionNames);
static_assert(kFunctions == 68);
static_assert(sizeof(CK_FUNCTION_LIST) == sizeof(void*) * (kFunctions + 1));

constexpr std::size_t index_of(Function function) { return static_cast<std::size_t>(function); }

inline std::optional<std::size_t> index_of(std::string_view name) {
  const auto* const found = std::find(std::begin(kFunctionNames), std::end(kFunctionNames), name);
  if (found == std::end(kFunctionNames)) return std::nullopt;
  return static_cast<std::size_t>(found - std::begin(kFunctionNames));
}

}  // namespace faulty
