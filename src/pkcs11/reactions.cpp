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
  Any = 0,
  Early = 1,   ///< runs before a key can be proved
  Fills = 2,   ///< writes what it finds or makes into the caller's buffer
  Judges = 4,  ///< takes bytes from a stranger, whom no answer may lead to more than a new login
  JudgesPin = 8,
  Initializes = 16,
  Closes = 32,
};

struct Function {
  std::string_view name;
  unsigned traits;
};

/// All of PKCS#11 2.40. Any other name stands for C_GetAttributeValue.
constexpr auto kFunctions = std::to_array<Function>({
    {"C_Initialize", Early | Initializes},
    {"C_Finalize", Early},
    {"C_GetInfo", Early},
    {"C_GetFunctionList", Any},
    {"C_GetSlotList", Early | Fills},
    {"C_GetSlotInfo", Early},
    {"C_GetTokenInfo", Early},
    {"C_GetMechanismList", Early | Fills},
    {"C_GetMechanismInfo", Early},
    {"C_InitToken", Any},
    {"C_InitPIN", Any},
    {"C_SetPIN", Any},
    {"C_OpenSession", Early},
    {"C_CloseSession", Early | Closes},
    {"C_CloseAllSessions", Any},
    {"C_GetSessionInfo", Early},
    {"C_GetOperationState", Any},
    {"C_SetOperationState", Any},
    {"C_Login", JudgesPin},
    {"C_Logout", Any},
    {"C_CreateObject", Any},
    {"C_CopyObject", Any},
    {"C_DestroyObject", Any},
    {"C_GetObjectSize", Any},
    {"C_GetAttributeValue", Fills},
    {"C_SetAttributeValue", Any},
    {"C_FindObjectsInit", Any},
    {"C_FindObjects", Any},
    {"C_FindObjectsFinal", Any},
    {"C_EncryptInit", Any},
    {"C_Encrypt", Fills},
    {"C_EncryptUpdate", Any},
    {"C_EncryptFinal", Any},
    {"C_DecryptInit", Any},
    {"C_Decrypt", Fills | Judges},
    {"C_DecryptUpdate", Any},
    {"C_DecryptFinal", Any},
    {"C_DigestInit", Any},
    {"C_Digest", Any},
    {"C_DigestUpdate", Any},
    {"C_DigestKey", Any},
    {"C_DigestFinal", Any},
    {"C_SignInit", Any},
    {"C_Sign", Fills},
    {"C_SignUpdate", Any},
    {"C_SignFinal", Any},
    {"C_SignRecoverInit", Any},
    {"C_SignRecover", Any},
    {"C_VerifyInit", Any},
    {"C_Verify", Judges},
    {"C_VerifyUpdate", Any},
    {"C_VerifyFinal", Any},
    {"C_VerifyRecoverInit", Any},
    {"C_VerifyRecover", Any},
    {"C_DigestEncryptUpdate", Any},
    {"C_DecryptDigestUpdate", Any},
    {"C_SignEncryptUpdate", Any},
    {"C_DecryptVerifyUpdate", Any},
    {"C_GenerateKey", Any},
    {"C_GenerateKeyPair", Any},
    {"C_WrapKey", Fills},
    {"C_UnwrapKey", Judges},
    {"C_DeriveKey", Any},
    {"C_SeedRandom", Any},
    {"C_GenerateRandom", Any},
    {"C_GetFunctionStatus", Any},
    {"C_CancelFunction", Any},
    {"C_WaitForSlotEvent", Any},
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
  unsigned trait;  ///< of the functions that it is for; Any if for those that no other row of the fault is for
  Reaction first, second, later;
};

constexpr Row always(Fault fault, unsigned trait, Reaction reaction) {
  return {fault, trait, reaction, reaction, reaction};
}

using enum Reaction;

// Of the answers that do not tell what is at fault: after one from a function that was given a stranger's bytes, known
// bytes tell it. From C_Login they may mean a wrong PIN.
constexpr auto kRows = std::to_array<Row>({
    always(Fault::None, Any, Proceed),
    always(Fault::LoggedIn, Any, Refuse),
    always(Fault::LoggedIn, JudgesPin, Proceed),
    always(Fault::Initialized, Any, Refuse),
    always(Fault::Initialized, Initializes, Proceed),
    always(Fault::Data, Any, BadData),
    always(Fault::Caller, Any, Refuse),
    always(Fault::Pin, Any, AskOperator),
    always(Fault::Buffer, Any, Refuse),
    {Fault::Buffer, Fills, GrowBuffer, GrowBuffer, Refuse},
    always(Fault::Busy, Any, Pause),
    always(Fault::SessionCount, Any, Shrink),
    {Fault::Memory, Any, Shrink, Pause, Pause},
    {Fault::OperationActive, Any, NewSession, Pause, Pause},
    {Fault::NoOperation, Any, NewSession, NewSession, Prove},
    {Fault::Canceled, Any, NewSession, NewSession, Prove},
    {Fault::Session, Any, NewSession, NewLogin, Restart},
    always(Fault::Session, Closes, Proceed),
    {Fault::Handle, Any, FindKey, FindKey, FindKey},
    {Fault::NotLoggedIn, Any, NewLogin, NewLogin, NewLogin},
    {Fault::Slot, Any, NewSlot, NewSlot, Restart},
    always(Fault::NotInitialized, Any, Restart),
    {Fault::General, Any, Prove, Prove, Restart},
    {Fault::General, Judges, Prove, NewLogin, NewLogin},
    always(Fault::General, JudgesPin, AskOperator),
    {Fault::Device, Any, Prove, NewLogin, Restart},
    {Fault::Device, Judges, Prove, NewLogin, NewLogin},
    always(Fault::Device, JudgesPin, AskOperator),
    {Fault::Failed, Any, Pause, Prove, Restart},
    {Fault::Failed, Judges, Prove, NewLogin, NewLogin},
    always(Fault::Failed, JudgesPin, AskOperator),
    {Fault::Network, Any, NewLogin, Restart, Restart},
    {Fault::Network, Judges, Prove, NewLogin, NewLogin},
    always(Fault::Network, JudgesPin, AskOperator),
    {Fault::Unknown, Any, Prove, NewLogin, Restart},
    {Fault::Unknown, Judges, Prove, NewLogin, NewLogin},
    always(Fault::Unknown, JudgesPin, AskOperator),
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
    if ((row.trait & traits) != 0 || (row.trait == Any && found == nullptr)) found = &row;
  }
  return found;
}

constexpr Reaction reaction_in(const Row& row, unsigned traits, Attempt attempt) noexcept {
  const Reaction reaction = attempt == Attempt::First ? row.first : attempt == Attempt::Second ? row.second : row.later;
  return reaction == Prove && (traits & Early) != 0 ? NewSlot : reaction;
}

// --- what the table must be ----------------------------------------------------------------------------------------

constexpr bool every_fault_has_one_general_row() {
  for (std::size_t fault = 0; fault < kFaults; ++fault) {
    const auto general = std::ranges::count_if(
        kRows, [&](const Row& row) { return row.fault == static_cast<Fault>(fault) && row.trait == Any; });
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
    const Row& judged = *row_for(fault, Judges);
    for (const Reaction reaction : {judged.first, judged.second, judged.later}) {
      if (reaction == Restart) return false;
    }
    const Row& login = *row_for(fault, JudgesPin);
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

}  // namespace

Reaction reaction(std::string_view function, std::uint64_t rv, Attempt attempt) noexcept {
  const unsigned traits = traits_of(function);
  return reaction_in(*row_for(fault_of(rv), traits), traits, attempt);
}

bool retryable(std::string_view function, std::uint64_t rv) noexcept {
  // Somebody at the token said no, and is not asked again unbidden.
  if ((traits_of(function) & JudgesPin) != 0 && fault_of(rv) == Fault::Canceled) return false;
  const Reaction first = reaction(function, rv, Attempt::First);
  return is_rung(first) && first != FindKey;  // a stale handle stays stale: its holder has to look the key up
}

bool lost_sight(const TokenError& error) noexcept {
  return reaction(error.function(), error.rv(), Attempt::First) == FindKey;
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
