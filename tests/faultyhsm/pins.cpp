#include "faultyhsm/pins.hpp"

#include "faultyhsm/call.hpp"
#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

CK_RV real_login(CK_USER_TYPE user, const std::string& pin) {
  std::string copy = pin;  // the function takes a pointer to what it must not change
  return real().C_Login(real_session(), user, reinterpret_cast<CK_BYTE*>(copy.data()), copy.size());
}

/// The real PIN for the one that the host sent, which may have been changed (`pin NEW REAL`).
std::optional<std::string> real_pin_for(const std::string& sent, const Slot& slot) {
  if (!on(Fault::Pin)) return sent;
  auto& changed = trigger(Fault::Pin);
  if (sent != changed.text(0)) {
    changed.note();
    return std::nullopt;
  }
  const auto real_pin = changed.text(1);
  return real_pin.empty() ? slot.pin : real_pin;
}

/// @returns whether the token is locked now.
bool is_locked(const Slot& slot) { return on(Fault::PinTries) && slot.wrong_pins >= trigger(Fault::PinTries).number(); }

void right_pin(const std::string& pin) {
  const auto slot_id = this_session().slot;
  state().tables.locked(slot_id, [&](Slot& slot) {
    slot.wrong_pins = 0;
    slot.pin = pin;
    slot.login_lost = false;
  });
  if (!on(Fault::Renumber)) return;
  forget_objects(slot_id);
  number_all(slot_id);
}

CK_RV wrong_pin() {
  ++state().wrong_pins;
  const bool locked = state().tables.locked(this_session().slot, [](Slot& slot) {
    ++slot.wrong_pins;
    return is_locked(slot);
  });
  if (locked) trigger(Fault::PinTries).note();
  if (!fires(Fault::PinWrongRv)) return CKR_PIN_INCORRECT;
  return trigger(Fault::PinWrongRv).number();
}

/// A PIN pad, before which somebody stands who takes their time.
CK_RV login_at_pad(CK_USER_TYPE user) {
  auto& path = trigger(Fault::ProtectedPath);
  path.note();
  hang_for(std::chrono::milliseconds(path.number(1)));
  const CK_RV rv = real_login(user, path.text());
  if (rv == CKR_OK) right_pin(path.text());
  return rv == CKR_PIN_INCORRECT ? wrong_pin() : rv;
}

}  // namespace

void add_pin_flags(CK_SLOT_ID slot_id, CK_FLAGS& flags) {
  if (on(Fault::ProtectedPath)) flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
  if (!on(Fault::PinTries)) return;
  flags &= ~(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
  const auto wrong = state().tables.locked(slot_id, [](const Slot& slot) { return slot.wrong_pins; });
  if (wrong == 0) return;
  if (on(Fault::PinFlagsNever)) {
    trigger(Fault::PinFlagsNever).note();
    return;
  }
  trigger(Fault::PinTries).note();
  const auto tries = trigger(Fault::PinTries).number();
  flags |= CKF_USER_PIN_COUNT_LOW;
  if (wrong + 1 == tries) flags |= CKF_USER_PIN_FINAL_TRY;
  if (wrong >= tries) flags |= CKF_USER_PIN_LOCKED;
}

CK_RV login(CK_SESSION_HANDLE, CK_USER_TYPE user, CK_BYTE* pin, CK_ULONG pin_size) {
  if (user != CKU_USER) return real().C_Login(real_session(), user, pin, pin_size);
  if (fires(Fault::LoginAlready)) return CKR_USER_ALREADY_LOGGED_IN;
  CK_SESSION_INFO info{};
  const bool already = real().C_GetSessionInfo(real_session(), &info) == CKR_OK &&
                       (info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS);
  if (already) return CKR_USER_ALREADY_LOGGED_IN;
  const bool locked = state().tables.locked(this_session().slot, [](const Slot& slot) { return is_locked(slot); });
  if (locked) {
    trigger(Fault::PinTries).note();
    return CKR_PIN_LOCKED;
  }
  if (pin == nullptr) {
    return on(Fault::ProtectedPath) ? login_at_pad(user) : real().C_Login(real_session(), user, pin, pin_size);
  }
  const std::string sent(reinterpret_cast<const char*>(pin), pin_size);
  const auto known =
      state().tables.locked(this_session().slot, [&](const Slot& slot) { return real_pin_for(sent, slot); });
  if (!known) return wrong_pin();
  const CK_RV rv = real_login(user, *known);
  if (rv == CKR_PIN_INCORRECT || rv == CKR_PIN_LEN_RANGE) return wrong_pin();
  if (rv == CKR_OK) right_pin(*known);
  return rv;
}

}  // namespace faulty
