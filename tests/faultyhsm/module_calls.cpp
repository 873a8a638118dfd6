// C_Initialize, C_Finalize and slots.

#include <cstring>

#include "faultyhsm/call.hpp"
#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

/// What another instance in front of the same real driver has started is used as it is, and not ended.
CK_RV start_real(void* arguments) {
  auto& shared = state();
  if (shared.real_initialized) {  // of which somebody else took the state away (F23)
    if (shared.owns_real) real().C_Finalize(nullptr);
    shared.real_initialized = false;
  }
  const CK_RV rv = real().C_Initialize(arguments);
  if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED) return rv;
  shared.owns_real = rv == CKR_OK;
  shared.real_initialized = true;
  return CKR_OK;
}

void start_anew(const void* arguments) {
  auto& shared = state();
  const auto* const given = static_cast<const CK_C_INITIALIZE_ARGS*>(arguments);
  shared.may_thread = given != nullptr && ((given->flags & CKF_OS_LOCKING_OK) != 0 || given->CreateMutex != nullptr);
  shared.device_dead = CKR_OK;
  shared.removed = false;
  shared.tables.restart_numbers();
  forget_all_objects();
  if (shared.was_finalized && on(Fault::SlotsRenumber)) {
    ++shared.slot_shift;
    trigger(Fault::SlotsRenumber).note();
  }
  ++shared.starts;
  shared.initialized = true;
}

CK_RV initialize(void* arguments) {
  auto& shared = state();
  if (shared.in_child && shared.initialized) return CKR_CRYPTOKI_ALREADY_INITIALIZED;
  if (shared.initialized) return CKR_CRYPTOKI_ALREADY_INITIALIZED;
  if (shared.was_finalized && fires(Fault::InitFailsAfterFinalize))
    return trigger(Fault::InitFailsAfterFinalize).number();
  read_script();
  if (fires(Fault::InitLies)) return CKR_OK;
  const bool somebody_did = fires(Fault::AlreadyInitialized);
  if (const CK_RV rv = start_real(arguments); rv != CKR_OK) return rv;
  start_anew(arguments);
  if (!somebody_did) return CKR_OK;
  shared.may_thread = true;
  return CKR_CRYPTOKI_ALREADY_INITIALIZED;
}

CK_RV finalize(void* reserved) {
  auto& shared = state();
  if (reserved != nullptr) return CKR_ARGUMENTS_BAD;
  if (shared.owns_real) {
    if (const CK_RV rv = real().C_Finalize(reserved); rv != CKR_OK) return rv;
    shared.real_initialized = false;
  } else {
    shared.tables.kill(CKR_SESSION_HANDLE_INVALID, [](const Session&) { return true; });
  }
  shared.tables.forget(std::nullopt, EndedBy::Host);
  forget_all_objects();
  shared.initialized = false;
  shared.was_finalized = true;
  return CKR_OK;
}

CK_RV get_slot_list(CK_BBOOL token_present, CK_SLOT_ID* slots, CK_ULONG* count) {
  if (count == nullptr) return CKR_ARGUMENTS_BAD;
  const bool none = fires(Fault::SlotsEmpty) || (token_present != CK_FALSE && on(Fault::TokenAbsent));
  if (none) {
    if (on(Fault::TokenAbsent)) trigger(Fault::TokenAbsent).note();
    *count = 0;
    return CKR_OK;
  }
  const CK_RV rv = real().C_GetSlotList(token_present, slots, count);
  if (rv != CKR_OK) return rv;
  if (slots == nullptr) {
    if (*count != 0 && fires(Fault::SlotsGrow)) --*count;
    return CKR_OK;
  }
  for (CK_ULONG i = 0; i < *count; ++i) slots[i] = shown(slots[i]);
  return CKR_OK;
}

CK_RV wait_for_slot_event(CK_FLAGS flags, CK_SLOT_ID* slot, void* reserved) {
  const CK_RV rv = real().C_WaitForSlotEvent(flags, slot, reserved);
  if (rv == CKR_OK && slot != nullptr) *slot = shown(*slot);
  return rv;
}

}  // namespace

void add_module_overrides(CK_FUNCTION_LIST& list) {
  list.C_Initialize = initialize;
  list.C_Finalize = finalize;
  list.C_GetSlotList = get_slot_list;
  list.C_WaitForSlotEvent = wait_for_slot_event;
}

}  // namespace faulty
