// What tokens say of themselves.

#include <algorithm>
#include <cstring>

#include "faultyhsm/call.hpp"
#include "faultyhsm/objects.hpp"
#include "faultyhsm/pins.hpp"

namespace faulty {
namespace {

template <std::size_t Size>
void pad(CK_UTF8CHAR (&field)[Size], std::string text) {
  text.resize(Size, ' ');
  std::memcpy(field, text.data(), Size);
}

template <std::size_t Size>
bool is(const CK_UTF8CHAR (&field)[Size], std::string text) {
  text.resize(Size, ' ');
  return std::memcmp(field, text.data(), Size) == 0;
}

template <std::size_t Size>
void pad_with_nul(CK_UTF8CHAR (&field)[Size]) {
  for (std::size_t i = Size; i > 0 && field[i - 1] == ' '; --i) field[i - 1] = '\0';
}

/// A driver that adds its flags to what is in the caller's memory (F31).
void keep_garbage(CK_FLAGS& flags, CK_FLAGS before) {
  if (!on(Fault::GarbageOut)) return;
  flags |= before;
  trigger(Fault::GarbageOut).note();
}

void swap_label(CK_TOKEN_INFO& token) {
  auto& swap = trigger(Fault::SwapLabels);
  if (!on(Fault::SwapLabels)) return;
  for (const std::size_t one : {0U, 1U}) {
    if (!is(token.label, swap.text(one))) continue;
    pad(token.label, swap.text(1 - one));
    swap.note();
    return;
  }
}

CK_RV get_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO* info) {
  const CK_FLAGS before = info != nullptr ? info->flags : 0;
  const CK_RV rv = real().C_GetSlotInfo(real_slot(slot), info);
  if (rv != CKR_OK) return rv;
  keep_garbage(info->flags, before);
  if (on(Fault::TokenAbsent)) {
    info->flags &= ~CKF_TOKEN_PRESENT;
    trigger(Fault::TokenAbsent).note();
  }
  return rv;
}

CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO* info) {
  if (on(Fault::TokenAbsent)) return CKR_TOKEN_NOT_PRESENT;
  const CK_FLAGS before = info != nullptr ? info->flags : 0;
  const CK_RV rv = real().C_GetTokenInfo(real_slot(slot), info);
  if (rv != CKR_OK) return rv;
  keep_garbage(info->flags, before);
  swap_label(*info);
  add_pin_flags(real_slot(slot), info->flags);
  if (on(Fault::SessionMax)) {
    info->ulMaxSessionCount = info->ulMaxRwSessionCount = trigger(Fault::SessionMax).number();
    trigger(Fault::SessionMax).note();
  }
  if (on(Fault::OtherSerial)) {
    pad(info->serialNumber, trigger(Fault::OtherSerial).text());
    trigger(Fault::OtherSerial).note();
  }
  if (on(Fault::NulPadded)) {
    pad_with_nul(info->label);
    pad_with_nul(info->serialNumber);
    trigger(Fault::NulPadded).note();
  }
  return rv;
}

CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE* mechanisms, CK_ULONG* count) {
  const CK_RV rv = real().C_GetMechanismList(real_slot(slot), mechanisms, count);
  if (rv != CKR_OK || mechanisms == nullptr) return rv;
  if (on(Fault::GcmMechanism))
    std::replace(mechanisms, mechanisms + *count, CK_MECHANISM_TYPE{CKM_AES_GCM},
                 trigger(Fault::GcmMechanism).number());
  if (on(Fault::KwpMechanism))
    std::replace(mechanisms, mechanisms + *count, CK_MECHANISM_TYPE{CKM_AES_KEY_WRAP_PAD},
                 trigger(Fault::KwpMechanism).number());
  return rv;
}

CK_MECHANISM_TYPE real_mechanism(CK_MECHANISM_TYPE mechanism) {
  if (on(Fault::GcmMechanism) && mechanism == trigger(Fault::GcmMechanism).number()) return CKM_AES_GCM;
  if (on(Fault::KwpMechanism) && mechanism == trigger(Fault::KwpMechanism).number()) return CKM_AES_KEY_WRAP_PAD;
  return mechanism;
}

CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism, CK_MECHANISM_INFO* info) {
  const bool is_hidden = (on(Fault::GcmMechanism) && mechanism == CKM_AES_GCM) ||
                         (on(Fault::KwpMechanism) && mechanism == CKM_AES_KEY_WRAP_PAD);
  if (is_hidden) return CKR_MECHANISM_INVALID;
  const CK_FLAGS before = info != nullptr ? info->flags : 0;
  if (info != nullptr) info->flags = 0;
  const CK_RV rv = real().C_GetMechanismInfo(real_slot(slot), real_mechanism(mechanism), info);
  if (rv == CKR_OK) keep_garbage(info->flags, before);
  return rv;
}

CK_RV init_token(CK_SLOT_ID slot, CK_BYTE* pin, CK_ULONG pin_size, CK_BYTE* label) {
  return real().C_InitToken(real_slot(slot), pin, pin_size, label);
}

}  // namespace

void add_token_overrides(CK_FUNCTION_LIST& list) {
  list.C_GetSlotInfo = get_slot_info;
  list.C_GetTokenInfo = get_token_info;
  list.C_GetMechanismList = get_mechanism_list;
  list.C_GetMechanismInfo = get_mechanism_info;
  list.C_InitToken = init_token;
}

}  // namespace faulty
