#pragma once

#include <memory>
#include <string>

#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "keywrap/session_pool.hpp"

namespace hsmseal::keywrap {

/// A key found in a token: wraps and unwraps in sessions of a pool.
///
/// Thread safety: as KeyWrapper says.
class Pkcs11Key final : public KeyWrapper {
 public:
  Pkcs11Key(std::shared_ptr<SessionPool> pool, KeyHandle handle, WrapProfile profile);

  [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override;

  /// Drivers answer a wrong tag with errors that also mean a broken device. Which of the two it is shows a round trip of
  /// bytes that are known to be right: then, and after a second try, it was the ciphertext.
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override;

  /// Unwraps in a given session, with the token's own error.
  [[nodiscard]] SecretBytes unwrap_in(Pkcs11Session& session, KeyHandle handle, ByteView wrapped, ByteView aad) const;

 private:
  [[nodiscard]] bool round_trip_works();

  std::shared_ptr<SessionPool> pool_;
  KeyHandle handle_;
  WrapProfile profile_;
};

}  // namespace hsmseal::keywrap
