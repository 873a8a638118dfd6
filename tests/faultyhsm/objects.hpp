#pragma once

#include "faultyhsm/state.hpp"

namespace faulty {

/// A session with the real driver of this library's own, closed at the end.
class OwnSession {
 public:
  explicit OwnSession(CK_SLOT_ID slot);
  OwnSession(const OwnSession&) = delete;
  OwnSession& operator=(const OwnSession&) = delete;
  ~OwnSession();
  /// 0 if the real driver refused it.
  [[nodiscard]] CK_SESSION_HANDLE handle() const { return handle_; }

 private:
  CK_SESSION_HANDLE handle_ = 0;
};

/// The real handle of an object, for a call in this thread's session: 0, which no driver knows, if there is none.
[[nodiscard]] CK_OBJECT_HANDLE real_object(CK_OBJECT_HANDLE number);

/// The number that the host gets for a real handle.
[[nodiscard]] CK_OBJECT_HANDLE number_of(CK_OBJECT_HANDLE real_handle);

/// The same for an object that this call has made.
[[nodiscard]] CK_OBJECT_HANDLE number_of_new(CK_OBJECT_HANDLE real_handle);

void forget_object(CK_OBJECT_HANDLE number);

/// Whether a search in this thread's session comes upon an object (F19).
[[nodiscard]] bool is_visible(CK_OBJECT_HANDLE real_handle);

/// Gives numbers to all objects of a slot, if they were renumbered since (F1).
void number_all(CK_SLOT_ID slot);

void forget_objects(CK_SLOT_ID slot);
/// Of slots with which no session is open: tokens forget the login and the handles with the last session.
void forget_objects_of_closed();
void forget_all_objects();

/// Logs every token out behind the host's back (F4).
void lose_logins();
[[nodiscard]] bool login_is_lost(CK_SLOT_ID slot);

/// The member of the pair behind one slot that this call comes to, and that a new session comes to.
[[nodiscard]] unsigned long member_of_call();
[[nodiscard]] unsigned long member_of_new_session();

}  // namespace faulty
