#pragma once

#include <hsmseal/pkcs11_session.hpp>

namespace hsmseal::pkcs11 {

/// What hsmseal does with a session and applications shall not by accident.
struct SessionAccess {
  /// Destroys a key that was made a moment ago and has sealed nothing.
  static void destroy_new_key(Pkcs11Session& session, KeyHandle key);
};

}  // namespace hsmseal::pkcs11
