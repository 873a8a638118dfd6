#pragma once

#include <cstdint>
#include <string>

#include <hsmseal/error_code.hpp>
#include <hsmseal/export.hpp>

namespace hsmseal {

/// One failed call of the PKCS#11 driver.
struct TokenFailure {
  std::string function;    ///< the C function, such as "C_Encrypt"
  std::uint64_t rv = 0;    ///< its CK_RV
  std::string rv_name;     ///< the name in PKCS#11 2.40 or 3.0, or a hexadecimal number for a vendor's own
  bool retryable = false;  ///< the same call may succeed later with nothing changed
};

/// A call into the PKCS#11 driver failed.
class HSMSEAL_API TokenError : public Error {
 public:
  TokenError(TokenFailure failure, const std::string& message);
  ~TokenError() override;

  /// See TokenFailure::function.
  [[nodiscard]] const std::string& function() const noexcept { return failure_.function; }
  /// See TokenFailure::rv.
  [[nodiscard]] std::uint64_t rv() const noexcept { return failure_.rv; }
  /// See TokenFailure::rv_name.
  [[nodiscard]] const std::string& rv_name() const noexcept { return failure_.rv_name; }
  /// Never true for a PIN failure.
  [[nodiscard]] bool retryable() const noexcept { return failure_.retryable; }

 protected:
  TokenError(ErrorCode code, TokenFailure failure, const std::string& message);

 private:
  TokenFailure failure_;
};

/// The token does not let the user in. Never retried by hsmseal, and not to be retried by the caller: tokens lock.
class HSMSEAL_API TokenLoginError final : public TokenError {
 public:
  TokenLoginError(TokenFailure failure, const std::string& message);
  ~TokenLoginError() override;
};

/// No token answers to the selector, or no session was free in time.
class HSMSEAL_API TokenUnavailableError final : public TokenError {
 public:
  TokenUnavailableError(TokenFailure failure, const std::string& message);
  ~TokenUnavailableError() override;
};

/// The token has no key with the set's CKA_ID. In an HA group it may not have been replicated yet.
class HSMSEAL_API KeyNotFoundError final : public Error {
 public:
  explicit KeyNotFoundError(const std::string& message);
  ~KeyNotFoundError() override;
};

/// A key answers, but it is not the one that was asked for, or not as protected as it must be. Nothing was sealed.
class HSMSEAL_API WrongKeyError final : public Error {
 public:
  explicit WrongKeyError(const std::string& message);
  ~WrongKeyError() override;
};

}  // namespace hsmseal
