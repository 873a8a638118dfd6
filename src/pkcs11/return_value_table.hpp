#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace hsmseal::pkcs11 {

/// What is at fault when a call does not return CKR_OK, as far as its number tells: one row of reactions.cpp for each.
enum class Fault : std::uint8_t {
  None,
  LoggedIn,     ///< it is so already
  Initialized,  ///< it is so already
  Data,         ///< the bytes to be opened
  Caller,       ///< the key, mechanism, template, argument or configuration
  Pin,
  Buffer,  ///< it is too short for the result
  Busy,
  SessionCount,  ///< there are as many as the token has
  Memory,
  OperationActive,  ///< one that began before and was not ended
  NoOperation,      ///< the one to go on with is gone
  Canceled,
  Session,
  Handle,  ///< of a key
  NotLoggedIn,
  Slot,  ///< or the token in it
  NotInitialized,
  General,  ///< not said
  Device,   ///< not said, but it is the token's
  Failed,   ///< not said; some tokens that are busy say so
  Network,  ///< a vendor's own number for an HSM out of reach
  Unknown,
};
constexpr std::size_t kFaults = static_cast<std::size_t>(Fault::Unknown) + 1;

struct ReturnValue {
  std::uint64_t code;
  std::string_view name;
  Fault fault;
};

/// Every CK_RV with a name, in ascending order.
///
/// The numbers are those of the OASIS header pkcs11t.h, for 2.40 and for what 3.0 added (0x042, 0x201, 0x202). Some
/// other headers number 0x1b5 to 0x1b9 differently.
inline constexpr auto kReturnValues = std::to_array<ReturnValue>({
    {0x000, "CKR_OK", Fault::None},
    {0x001, "CKR_CANCEL", Fault::Canceled},
    {0x002, "CKR_HOST_MEMORY", Fault::Memory},
    {0x003, "CKR_SLOT_ID_INVALID", Fault::Slot},
    {0x005, "CKR_GENERAL_ERROR", Fault::General},
    {0x006, "CKR_FUNCTION_FAILED", Fault::Failed},
    {0x007, "CKR_ARGUMENTS_BAD", Fault::Caller},
    {0x008, "CKR_NO_EVENT", Fault::Busy},
    {0x009, "CKR_NEED_TO_CREATE_THREADS", Fault::Caller},
    {0x00a, "CKR_CANT_LOCK", Fault::Caller},
    {0x010, "CKR_ATTRIBUTE_READ_ONLY", Fault::Caller},
    {0x011, "CKR_ATTRIBUTE_SENSITIVE", Fault::Caller},
    {0x012, "CKR_ATTRIBUTE_TYPE_INVALID", Fault::Caller},
    {0x013, "CKR_ATTRIBUTE_VALUE_INVALID", Fault::Caller},
    {0x01b, "CKR_ACTION_PROHIBITED", Fault::Caller},
    {0x020, "CKR_DATA_INVALID", Fault::Data},
    {0x021, "CKR_DATA_LEN_RANGE", Fault::Data},
    {0x030, "CKR_DEVICE_ERROR", Fault::Device},
    {0x031, "CKR_DEVICE_MEMORY", Fault::Memory},
    {0x032, "CKR_DEVICE_REMOVED", Fault::Slot},
    {0x040, "CKR_ENCRYPTED_DATA_INVALID", Fault::Data},
    {0x041, "CKR_ENCRYPTED_DATA_LEN_RANGE", Fault::Data},
    {0x042, "CKR_AEAD_DECRYPT_FAILED", Fault::Data},
    {0x050, "CKR_FUNCTION_CANCELED", Fault::Canceled},
    {0x051, "CKR_FUNCTION_NOT_PARALLEL", Fault::Caller},
    {0x054, "CKR_FUNCTION_NOT_SUPPORTED", Fault::Caller},
    {0x060, "CKR_KEY_HANDLE_INVALID", Fault::Handle},
    {0x062, "CKR_KEY_SIZE_RANGE", Fault::Caller},
    {0x063, "CKR_KEY_TYPE_INCONSISTENT", Fault::Caller},
    {0x064, "CKR_KEY_NOT_NEEDED", Fault::Caller},
    {0x065, "CKR_KEY_CHANGED", Fault::Caller},
    {0x066, "CKR_KEY_NEEDED", Fault::Caller},
    {0x067, "CKR_KEY_INDIGESTIBLE", Fault::Caller},
    {0x068, "CKR_KEY_FUNCTION_NOT_PERMITTED", Fault::Caller},
    {0x069, "CKR_KEY_NOT_WRAPPABLE", Fault::Caller},
    {0x06a, "CKR_KEY_UNEXTRACTABLE", Fault::Caller},
    {0x070, "CKR_MECHANISM_INVALID", Fault::Caller},
    {0x071, "CKR_MECHANISM_PARAM_INVALID", Fault::Caller},
    {0x082, "CKR_OBJECT_HANDLE_INVALID", Fault::Handle},
    {0x090, "CKR_OPERATION_ACTIVE", Fault::OperationActive},
    {0x091, "CKR_OPERATION_NOT_INITIALIZED", Fault::NoOperation},
    {0x0a0, "CKR_PIN_INCORRECT", Fault::Pin},
    {0x0a1, "CKR_PIN_INVALID", Fault::Pin},
    {0x0a2, "CKR_PIN_LEN_RANGE", Fault::Pin},
    {0x0a3, "CKR_PIN_EXPIRED", Fault::Pin},
    {0x0a4, "CKR_PIN_LOCKED", Fault::Pin},
    {0x0b0, "CKR_SESSION_CLOSED", Fault::Session},
    {0x0b1, "CKR_SESSION_COUNT", Fault::SessionCount},
    {0x0b3, "CKR_SESSION_HANDLE_INVALID", Fault::Session},
    {0x0b4, "CKR_SESSION_PARALLEL_NOT_SUPPORTED", Fault::Caller},
    {0x0b5, "CKR_SESSION_READ_ONLY", Fault::Caller},
    {0x0b6, "CKR_SESSION_EXISTS", Fault::Caller},
    {0x0b7, "CKR_SESSION_READ_ONLY_EXISTS", Fault::Caller},
    {0x0b8, "CKR_SESSION_READ_WRITE_SO_EXISTS", Fault::Caller},
    {0x0c0, "CKR_SIGNATURE_INVALID", Fault::Data},
    {0x0c1, "CKR_SIGNATURE_LEN_RANGE", Fault::Data},
    {0x0d0, "CKR_TEMPLATE_INCOMPLETE", Fault::Caller},
    {0x0d1, "CKR_TEMPLATE_INCONSISTENT", Fault::Caller},
    {0x0e0, "CKR_TOKEN_NOT_PRESENT", Fault::Slot},
    {0x0e1, "CKR_TOKEN_NOT_RECOGNIZED", Fault::Slot},
    {0x0e2, "CKR_TOKEN_WRITE_PROTECTED", Fault::Caller},
    {0x0f0, "CKR_UNWRAPPING_KEY_HANDLE_INVALID", Fault::Handle},
    {0x0f1, "CKR_UNWRAPPING_KEY_SIZE_RANGE", Fault::Caller},
    {0x0f2, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", Fault::Caller},
    {0x100, "CKR_USER_ALREADY_LOGGED_IN", Fault::LoggedIn},
    {0x101, "CKR_USER_NOT_LOGGED_IN", Fault::NotLoggedIn},
    {0x102, "CKR_USER_PIN_NOT_INITIALIZED", Fault::Pin},
    {0x103, "CKR_USER_TYPE_INVALID", Fault::Caller},
    {0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", Fault::Caller},
    {0x105, "CKR_USER_TOO_MANY_TYPES", Fault::Caller},
    {0x110, "CKR_WRAPPED_KEY_INVALID", Fault::Data},
    {0x112, "CKR_WRAPPED_KEY_LEN_RANGE", Fault::Data},
    {0x113, "CKR_WRAPPING_KEY_HANDLE_INVALID", Fault::Handle},
    {0x114, "CKR_WRAPPING_KEY_SIZE_RANGE", Fault::Caller},
    {0x115, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT", Fault::Caller},
    {0x120, "CKR_RANDOM_SEED_NOT_SUPPORTED", Fault::Caller},
    {0x121, "CKR_RANDOM_NO_RNG", Fault::Caller},
    {0x130, "CKR_DOMAIN_PARAMS_INVALID", Fault::Caller},
    {0x140, "CKR_CURVE_NOT_SUPPORTED", Fault::Caller},
    {0x150, "CKR_BUFFER_TOO_SMALL", Fault::Buffer},
    {0x160, "CKR_SAVED_STATE_INVALID", Fault::Caller},
    {0x170, "CKR_INFORMATION_SENSITIVE", Fault::Caller},
    {0x180, "CKR_STATE_UNSAVEABLE", Fault::Caller},
    {0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", Fault::NotInitialized},
    {0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED", Fault::Initialized},
    {0x1a0, "CKR_MUTEX_BAD", Fault::Caller},
    {0x1a1, "CKR_MUTEX_NOT_LOCKED", Fault::Caller},
    {0x1b0, "CKR_NEW_PIN_MODE", Fault::Caller},
    {0x1b1, "CKR_NEXT_OTP", Fault::Caller},
    {0x1b5, "CKR_EXCEEDED_MAX_ITERATIONS", Fault::Busy},
    {0x1b6, "CKR_FIPS_SELF_TEST_FAILED", Fault::Caller},
    {0x1b7, "CKR_LIBRARY_LOAD_FAILED", Fault::Caller},
    {0x1b8, "CKR_PIN_TOO_WEAK", Fault::Pin},
    {0x1b9, "CKR_PUBLIC_KEY_INVALID", Fault::Caller},
    {0x200, "CKR_FUNCTION_REJECTED", Fault::Caller},
    {0x201, "CKR_TOKEN_RESOURCE_EXCEEDED", Fault::Memory},
    {0x202, "CKR_OPERATION_CANCEL_FAILED", Fault::Caller},
    {0x80000000, "CKR_VENDOR_DEFINED", Fault::Unknown},
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

/// The row of a number in a table that is in ascending order; nullptr if there is none.
template <typename Table>
constexpr const typename Table::value_type* find_code(const Table& table, std::uint64_t code) noexcept {
  const auto row = std::lower_bound(table.begin(), table.end(), code,
                                    [](const auto& entry, std::uint64_t wanted) { return entry.code < wanted; });
  return row != table.end() && row->code == code ? &*row : nullptr;
}

}  // namespace hsmseal::pkcs11
