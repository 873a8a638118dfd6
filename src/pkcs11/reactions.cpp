#include "pkcs11/reactions.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

#include "pkcs11/return_value_table.hpp"

namespace hsmseal::pkcs11 {
namespace {

// --- functions -----------------------------------------------------------------------------------------------------

/// What about a function makes a difference. Most have nothing.
enum Trait : unsigned {
  kAny = 0,
  kEarly = 1,   ///< runs before a key can be proved
  kFills = 2,   ///< writes what it finds or makes into the caller's buffer
  kJudges = 4,  ///< takes bytes from a stranger, whom no answer may lead to more than a new login
  kJudgesPin = 8,
  kInitializes = 16,
  kCloses = 32,
};

struct Function {
  std::string_view name;
  unsigned traits;
};

/// All of PKCS#11 2.40. Any other name stands for C_GetAttributeValue.
constexpr auto kFunctions = std::to_array<Function>({
    {"C_Initialize", kEarly | kInitializes},
    {"C_Finalize", kEarly},
    {"C_GetInfo", kEarly},
    {"C_GetFunctionList", kAny},
    {"C_GetSlotList", kEarly | kFills},
    {"C_GetSlotInfo", kEarly},
    {"C_GetTokenInfo", kEarly},
    {"C_GetMechanismList", kEarly | kFills},
    {"C_GetMechanismInfo", kEarly},
    {"C_InitToken", kAny},
    {"C_InitPIN", kAny},
    {"C_SetPIN", kAny},
    {"C_OpenSession", kEarly},
    {"C_CloseSession", kEarly | kCloses},
    {"C_CloseAllSessions", kAny},
    {"C_GetSessionInfo", kEarly},
    {"C_GetOperationState", kAny},
    {"C_SetOperationState", kAny},
    {"C_Login", kJudgesPin},
    {"C_Logout", kAny},
    {"C_CreateObject", kAny},
    {"C_CopyObject", kAny},
    {"C_DestroyObject", kAny},
    {"C_GetObjectSize", kAny},
    {"C_GetAttributeValue", kFills},
    {"C_SetAttributeValue", kAny},
    {"C_FindObjectsInit", kAny},
    {"C_FindObjects", kAny},
    {"C_FindObjectsFinal", kAny},
    {"C_EncryptInit", kAny},
    {"C_Encrypt", kFills},
    {"C_EncryptUpdate", kAny},
    {"C_EncryptFinal", kAny},
    {"C_DecryptInit", kAny},
    {"C_Decrypt", kFills | kJudges},
    {"C_DecryptUpdate", kAny},
    {"C_DecryptFinal", kAny},
    {"C_DigestInit", kAny},
    {"C_Digest", kAny},
    {"C_DigestUpdate", kAny},
    {"C_DigestKey", kAny},
    {"C_DigestFinal", kAny},
    {"C_SignInit", kAny},
    {"C_Sign", kFills},
    {"C_SignUpdate", kAny},
    {"C_SignFinal", kAny},
    {"C_SignRecoverInit", kAny},
    {"C_SignRecover", kAny},
    {"C_VerifyInit", kAny},
    {"C_Verify", kJudges},
    {"C_VerifyUpdate", kAny},
    {"C_VerifyFinal", kAny},
    {"C_VerifyRecoverInit", kAny},
    {"C_VerifyRecover", kAny},
    {"C_DigestEncryptUpdate", kAny},
    {"C_DecryptDigestUpdate", kAny},
    {"C_SignEncryptUpdate", kAny},
    {"C_DecryptVerifyUpdate", kAny},
    {"C_GenerateKey", kAny},
    {"C_GenerateKeyPair", kAny},
    {"C_WrapKey", kFills},
    {"C_UnwrapKey", kJudges},
    {"C_DeriveKey", kAny},
    {"C_SeedRandom", kAny},
    {"C_GenerateRandom", kAny},
    {"C_GetFunctionStatus", kAny},
    {"C_CancelFunction", kAny},
    {"C_WaitForSlotEvent", kAny},
});
static_assert(kFunctions.size() == 68);

constexpr unsigned traits_of(std::string_view function) noexcept {
  for (const auto& known : kFunctions) {
    if (known.name == function) return known.traits;
  }
  return traits_of("C_GetAttributeValue");
}

// --- reactions -----------------------------------------------------------------------------------------------------

struct Row {
  Fault fault;
  unsigned trait;  ///< of the functions that it is for; kAny if for those that no other row of the fault is for
  Reaction first, second, later;
};

constexpr Row always(Fault fault, unsigned trait, Reaction reaction) {
  return {fault, trait, reaction, reaction, reaction};
}

using enum Reaction;

// Of the answers that do not tell what is at fault: after one from a function that was given a stranger's bytes, known
// bytes tell it. From C_Login they may mean a wrong PIN.
constexpr auto kRows = std::to_array<Row>({
    always(Fault::None, kAny, Proceed),
    always(Fault::LoggedIn, kAny, Refuse),
    always(Fault::LoggedIn, kJudgesPin, Proceed),
    always(Fault::Initialized, kAny, Refuse),
    always(Fault::Initialized, kInitializes, Proceed),
    always(Fault::Data, kAny, BadData),
    always(Fault::Caller, kAny, Refuse),
    always(Fault::Pin, kAny, AskOperator),
    always(Fault::Buffer, kAny, Refuse),
    {Fault::Buffer, kFills, GrowBuffer, GrowBuffer, Refuse},
    always(Fault::Busy, kAny, Pause),
    always(Fault::SessionCount, kAny, Shrink),
    {Fault::Memory, kAny, Shrink, Pause, Pause},
    {Fault::OperationActive, kAny, NewSession, Pause, Pause},
    {Fault::NoOperation, kAny, NewSession, NewSession, Prove},
    {Fault::Canceled, kAny, NewSession, NewSession, Prove},
    {Fault::Session, kAny, NewSession, NewLogin, Restart},
    always(Fault::Session, kCloses, Proceed),
    {Fault::Handle, kAny, FindKey, FindKey, FindKey},
    {Fault::NotLoggedIn, kAny, NewLogin, NewLogin, NewLogin},
    {Fault::Slot, kAny, NewSlot, NewSlot, Restart},
    always(Fault::NotInitialized, kAny, Restart),
    {Fault::General, kAny, Prove, Prove, Restart},
    {Fault::General, kJudges, Prove, NewLogin, NewLogin},
    always(Fault::General, kJudgesPin, AskOperator),
    {Fault::Device, kAny, Prove, NewLogin, Restart},
    {Fault::Device, kJudges, Prove, NewLogin, NewLogin},
    always(Fault::Device, kJudgesPin, AskOperator),
    {Fault::Failed, kAny, Pause, Prove, Restart},
    {Fault::Failed, kJudges, Prove, NewLogin, NewLogin},
    always(Fault::Failed, kJudgesPin, AskOperator),
    {Fault::Network, kAny, NewLogin, Restart, Restart},
    {Fault::Network, kJudges, Prove, NewLogin, NewLogin},
    always(Fault::Network, kJudgesPin, AskOperator),
    {Fault::Unknown, kAny, Prove, NewLogin, Restart},
    {Fault::Unknown, kJudges, Prove, NewLogin, NewLogin},
    always(Fault::Unknown, kJudgesPin, AskOperator),
});

/// Vendors' own numbers: Utimaco's for secure messaging or the network, Proteccio's for "no route to host".
constexpr std::array<std::uint64_t, 2> kNetwork{0x80000384, 0x81000071};

constexpr Fault fault_of(std::uint64_t rv) noexcept {
  if (const auto* named = find_code(kReturnValues, rv)) return named->fault;
  return std::ranges::find(kNetwork, rv) != kNetwork.end() ? Fault::Network : Fault::Unknown;
}

constexpr const Row* row_for(Fault fault, unsigned traits) noexcept {
  const Row* found = nullptr;
  for (const Row& row : kRows) {
    if (row.fault != fault) continue;
    if ((row.trait & traits) != 0 || (row.trait == kAny && found == nullptr)) found = &row;
  }
  return found;
}

constexpr Reaction reaction_in(const Row& row, unsigned traits, Attempt attempt) noexcept {
  const Reaction reaction = attempt == Attempt::First ? row.first : attempt == Attempt::Second ? row.second : row.later;
  return reaction == Prove && (traits & kEarly) != 0 ? NewSlot : reaction;
}

// --- what the table must be ----------------------------------------------------------------------------------------

constexpr bool every_fault_has_one_general_row() {
  for (std::size_t fault = 0; fault < kFaults; ++fault) {
    const auto general = std::ranges::count_if(
        kRows, [&](const Row& row) { return row.fault == static_cast<Fault>(fault) && row.trait == kAny; });
    if (general != 1) return false;
  }
  return true;
}

/// No function is in the scope of two of a fault's special rows, of which the latter would hide the former.
constexpr bool no_two_special_rows_meet() {
  for (std::size_t second = 0; second < kRows.size(); ++second) {
    for (std::size_t first = 0; first < second; ++first) {
      if (kRows[first].fault != kRows[second].fault) continue;
      for (const auto& function : kFunctions) {
        if ((function.traits & kRows[first].trait) != 0 && (function.traits & kRows[second].trait) != 0) return false;
      }
    }
  }
  return true;
}

constexpr bool every_row_is_reached() {
  return std::ranges::all_of(kRows, [](const Row& row) {
    return std::ranges::any_of(kFunctions,
                               [&](const Function& function) { return row_for(row.fault, function.traits) == &row; });
  });
}

constexpr bool every_fault_has_a_number() {
  for (std::size_t fault = 0; fault < kFaults; ++fault) {
    const bool named = std::ranges::any_of(
        kReturnValues, [&](const ReturnValue& value) { return value.fault == static_cast<Fault>(fault); });
    if (!named && static_cast<Fault>(fault) != Fault::Network) return false;
  }
  return std::ranges::all_of(kNetwork, [](std::uint64_t rv) { return fault_of(rv) == Fault::Network; });
}

/// With a ciphertext of his own making nobody may have the driver started anew, nor a PIN tried.
constexpr bool unclear_answers_are_harmless() {
  for (const Fault fault : {Fault::General, Fault::Device, Fault::Failed, Fault::Network, Fault::Unknown}) {
    const Row& judged = *row_for(fault, kJudges);
    for (const Reaction reaction : {judged.first, judged.second, judged.later}) {
      if (reaction == Restart) return false;
    }
    const Row& login = *row_for(fault, kJudgesPin);
    for (const Reaction reaction : {login.first, login.second, login.later}) {
      if (reaction != AskOperator) return false;
    }
  }
  return true;
}

static_assert(every_fault_has_one_general_row());
static_assert(no_two_special_rows_meet());
static_assert(every_row_is_reached());
static_assert(every_fault_has_a_number());
static_assert(unclear_answers_are_harmless());

/// Whether the same call, unchanged, may then succeed without a person.
constexpr bool may_recover(Reaction reaction) noexcept {
  switch (reaction) {
    case Proceed:
    case BadData:
    case Refuse:
    case AskOperator:
    case GrowBuffer:
    case FindKey:  // the handle stays stale: its holder has to look the key up
      return false;
    case Pause:
    case Shrink:
    case NewSession:
    case Prove:
    case NewLogin:
    case NewSlot:
    case Restart:
      break;
  }
  return true;
}

}  // namespace

Reaction reaction(std::string_view function, std::uint64_t rv, Attempt attempt) noexcept {
  const unsigned traits = traits_of(function);
  return reaction_in(*row_for(fault_of(rv), traits), traits, attempt);
}

bool retryable(std::string_view function, std::uint64_t rv) noexcept {
  // Somebody at the token said no, and is not asked again unbidden.
  if ((traits_of(function) & kJudgesPin) != 0 && fault_of(rv) == Fault::Canceled) return false;
  return may_recover(reaction(function, rv, Attempt::First));
}

std::string_view name_of(Reaction reaction) noexcept {
  switch (reaction) {
    case Proceed:
      return "Proceed";
    case BadData:
      return "BadData";
    case Refuse:
      return "Refuse";
    case AskOperator:
      return "AskOperator";
    case GrowBuffer:
      return "GrowBuffer";
    case Pause:
      return "Pause";
    case Shrink:
      return "Shrink";
    case NewSession:
      return "NewSession";
    case Prove:
      return "Prove";
    case FindKey:
      return "FindKey";
    case NewLogin:
      return "NewLogin";
    case NewSlot:
      return "NewSlot";
    case Restart:
      break;
  }
  return "Restart";
}

}  // namespace hsmseal::pkcs11
