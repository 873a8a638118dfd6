#include "keywrap/token_connection.hpp"

#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

namespace hsmseal::keywrap {

TokenConnection::TokenConnection(std::string alias, TokenBinding binding, DriverOptions driver)
    : alias_(std::move(alias)), binding_(std::move(binding)), driver_(std::move(driver)) {}

void TokenConnection::check_identity(const TokenInfo& found, const Identity* expected) const {
  if (expected == nullptr || (expected->label == found.label && expected->serial == found.serial)) return;
  throw WrongKeyError(
      fmt::format("token '{}' is '{}' (serial {}) on this host, but the set names '{}' (serial {}); its key is not "
                  "looked for there; correct the binding",
                  alias_, found.label, found.serial, expected->label, expected->serial));
}

std::shared_ptr<SessionPool> TokenConnection::connect(const Identity* expected) {
  const std::scoped_lock lock{mutex_};
  if (pool_) {
    check_identity(anchor_->token(), expected);
    return pool_;
  }
  if (!module_) module_ = Pkcs11Module::load(driver_);
  // The login of a process ends with its last session, so one stays open that nothing else can break.
  Pkcs11Session anchor{module_, binding_.select};
  const TokenInfo& found = anchor.token();
  check_identity(found, expected);
  const std::size_t most = pool_limit(binding_.limits.max_sessions, found.max_sessions);
  if (most == 0) {
    throw InvalidArgumentError(
        fmt::format("token '{}' allows one session only; hsmseal needs one for the login and one to work", alias_));
  }
  anchor.login(binding_.pin, binding_.low_pin_count);
  // From here on it is this very token, even if another takes over its label or its slot.
  const TokenSelector exactly{
      .label = found.label, .serial = found.serial, .model = found.model, .manufacturer = found.manufacturer};
  anchor_.emplace(std::move(anchor));
  pool_ = std::make_shared<SessionPool>(
      alias_,
      [module = module_, exactly] {
        return Pkcs11Session{module, exactly};
      },
      most, binding_.limits.session_wait);
  return pool_;
}

TokenInfo TokenConnection::token() const {
  const std::scoped_lock lock{mutex_};
  return anchor_->token();
}

}  // namespace hsmseal::keywrap
