// Sessions and logins.

#include "faultyhsm/call.hpp"
#include "faultyhsm/objects.hpp"
#include "faultyhsm/pins.hpp"

namespace faulty {
namespace {

CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void* application, CK_NOTIFY notify, CK_SESSION_HANDLE* session) {
  auto& tables = state().tables;
  if ((flags & CKF_RW_SESSION) == 0 && fires(Fault::RefuseRo)) {
    const CK_RV rv = trigger(Fault::RefuseRo).number();
    return rv != CKR_OK ? rv : CKR_FUNCTION_FAILED;
  }
  const bool limited = on(Fault::SessionLimit);
  const auto most = limited ? std::optional(trigger(Fault::SessionLimit).number()) : std::nullopt;
  if (!tables.reserve(most)) {
    trigger(Fault::SessionLimit).note();
    return CKR_SESSION_COUNT;
  }
  CK_SESSION_HANDLE opened = 0;
  const CK_RV rv =
      real().C_OpenSession(real_slot(slot), flags, application, notify, session != nullptr ? &opened : nullptr);
  if (rv != CKR_OK) {
    tables.cancel_reservation();
    return rv;
  }
  *session = tables.open(opened, real_slot(slot), member_of_new_session())->number;
  return rv;
}

CK_RV close_session(CK_SESSION_HANDLE) {
  auto& session = this_session();
  const CK_RV rv = real().C_CloseSession(session.real);
  if (rv != CKR_OK && rv != CKR_SESSION_HANDLE_INVALID && rv != CKR_SESSION_CLOSED) return rv;
  state().tables.closed(session);
  if (!state().tables.is_used(session.slot)) forget_objects(session.slot);
  return rv;
}

CK_RV close_all_sessions(CK_SLOT_ID slot) {
  const CK_RV rv = real().C_CloseAllSessions(real_slot(slot));
  if (rv != CKR_OK) return rv;
  state().tables.forget(real_slot(slot), EndedBy::Host);
  forget_objects(real_slot(slot));
  return rv;
}

CK_RV get_session_info(CK_SESSION_HANDLE, CK_SESSION_INFO* info) {
  const CK_FLAGS before = info != nullptr ? info->flags : 0;
  const CK_RV rv = real().C_GetSessionInfo(real_session(), info);
  if (rv != CKR_OK) return rv;
  info->slotID = shown(info->slotID);
  if (on(Fault::GarbageOut)) {
    info->flags |= before;
    trigger(Fault::GarbageOut).note();
  }
  return rv;
}

CK_RV logout(CK_SESSION_HANDLE) {
  const CK_RV rv = real().C_Logout(real_session());
  if (rv == CKR_OK) forget_objects(this_session().slot);
  return rv;
}

}  // namespace

void add_session_overrides(CK_FUNCTION_LIST& list) {
  list.C_OpenSession = open_session;
  list.C_CloseSession = close_session;
  list.C_CloseAllSessions = close_all_sessions;
  list.C_GetSessionInfo = get_session_info;
  list.C_Login = login;
  list.C_Logout = logout;
}

}  // namespace faulty
