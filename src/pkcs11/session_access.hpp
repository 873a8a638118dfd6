#pragma once

#include <hsmseal/pkcs11_session.hpp>

namespace hsmseal::pkcs11 {

/// What hsmseal does with a session and applications shall not by accident.
struct SessionAccess {
  /// Opens a session with a token that was found a moment ago, without a look at all slots again.
  [[nodiscard]] static Pkcs11Session open(const Pkcs11Module& module, const TokenSelector& selector,
                                          const TokenInfo& token);

  /// Destroys a key that was made a moment ago and has sealed nothing.
  static void destroy_new_key(Pkcs11Session& session, KeyHandle key) noexcept;
};

}  // namespace hsmseal::pkcs11
