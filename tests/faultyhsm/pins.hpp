#pragma once

#include "faultyhsm/state.hpp"

namespace faulty {

/// What the count of wrong PINs says in CK_TOKEN_INFO (F5, F6).
void add_pin_flags(CK_SLOT_ID slot, CK_FLAGS& flags);

CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE* pin, CK_ULONG pin_size);

}  // namespace faulty
