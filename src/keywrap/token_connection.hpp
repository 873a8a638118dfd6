#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/pkcs11_session.hpp>
#include <hsmseal/token_binding.hpp>

#include "keywrap/session_pool.hpp"

namespace hsmseal::keywrap {

/// One token of this host: its driver, the anchor session that keeps the login, and the pool of sessions that work.
///
/// Thread safety: all members may run concurrently.
class TokenConnection {
 public:
  /// Touches nothing yet.
  TokenConnection(std::string alias, TokenBinding binding, DriverOptions driver);

  /// What a credential set remembers of the token.
  struct Identity {
    std::string label, serial;
  };

  /// The pool; loads the driver, opens the anchor and logs in when called for the first time. Tried again at the next
  /// call if it failed, but no PIN is tried twice.
  ///
  /// @param expected  what the token must be called; compared before any PIN is sent. Null: any.
  /// @throws WrongKeyError         it is another token.
  /// @throws InvalidArgumentError, TokenError  as Pkcs11Module::load(), Pkcs11Session and Pkcs11Session::login().
  [[nodiscard]] std::shared_ptr<SessionPool> connect(const Identity* expected);

  /// The token; only after connect() succeeded.
  [[nodiscard]] TokenInfo token() const;

  [[nodiscard]] const std::string& alias() const noexcept { return alias_; }

  /// Whether the binding says how to log in.
  [[nodiscard]] bool logs_in() const noexcept { return binding_.pin.kind() != PinSource::Kind::None; }

 private:
  void check_identity(const TokenInfo& found, const Identity* expected) const;

  const std::string alias_;
  const TokenBinding binding_;
  const DriverOptions driver_;
  mutable std::mutex mutex_;  ///< held over the first connection, so that many threads make one login
  std::shared_ptr<Pkcs11Module> module_;
  std::optional<Pkcs11Session> anchor_;
  std::shared_ptr<SessionPool> pool_;
};

}  // namespace hsmseal::keywrap
