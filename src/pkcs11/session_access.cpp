#include "pkcs11/session_access.hpp"

#include "pkcs11/session_state.hpp"

namespace hsmseal::pkcs11 {

void SessionAccess::destroy_new_key(Pkcs11Session& session, KeyHandle key) {
  const std::scoped_lock alone{session.state_->driver->shared().object_store};
  session.state_->call(&CK_FUNCTION_LIST::C_DestroyObject, static_cast<CK_OBJECT_HANDLE>(key.value));
}

}  // namespace hsmseal::pkcs11
