#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include <hsmseal/export.hpp>

namespace hsmseal {

/// What went wrong, as a number that never changes its meaning. Zero is not used.
enum class ErrorCode : int {
  InvalidArgument = 1,
  Format = 2,
  Open = 3,
  WrongRing = 4,
  UnknownVersion = 5,
  RingOutOfDate = 6,
  RingTampered = 8,
  RingRolledBack = 9,
  RingForked = 10,
  Token = 12,
  TokenLogin = 13,
  TokenUnavailable = 14,
  KeyNotFound = 15,
  WrongKey = 16,
  Store = 18,
  StoreConflict = 19,
};

/// The root of every exception of hsmseal.
///
/// Messages say what happened, where, and what to do next; they never hold a PIN, a key or a secret.
class HSMSEAL_API Error : public std::runtime_error {
 public:
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  ~Error() override;

 protected:
  Error(ErrorCode code, const std::string& message);

 private:
  ErrorCode code_;
};

/// The caller's arguments or the host's configuration are wrong. Do not retry; change them.
class HSMSEAL_API InvalidArgumentError final : public Error {
 public:
  explicit InvalidArgumentError(const std::string& message);
  ~InvalidArgumentError() override;
};

/// The bytes are not an envelope of a format this version reads. The token was not asked. Do not retry.
class HSMSEAL_API FormatError final : public Error {
 public:
  explicit FormatError(const std::string& message);
  ~FormatError() override;
};

/// The envelope does not open: altered data, wrong context or wrong key, deliberately not told apart. Do not retry.
class HSMSEAL_API OpenError final : public Error {
 public:
  OpenError();
  ~OpenError() override;
};

/// The envelope or the record belongs to another ring than the one that was asked.
class HSMSEAL_API WrongRingError final : public Error {
 public:
  explicit WrongRingError(const std::string& message);
  ~WrongRingError() override;
};

/// The ring has no credential set of this version.
class HSMSEAL_API UnknownVersionError : public Error {
 public:
  explicit UnknownVersionError(const std::string& message);
  ~UnknownVersionError() override;

 protected:
  UnknownVersionError(ErrorCode code, const std::string& message);
};

/// The version is not known here: the ring's store does not show it yet, or was read less than a second ago. Another
/// host may have added it; try again.
class HSMSEAL_API RingOutOfDateError final : public UnknownVersionError {
 public:
  explicit RingOutOfDateError(const std::string& message);
  ~RingOutOfDateError() override;
};

/// The ring's record was changed by somebody without its keys. Nothing is sealed under it; restore a good copy.
class HSMSEAL_API RingTamperedError final : public Error {
 public:
  explicit RingTamperedError(const std::string& message);
  ~RingTamperedError() override;
};

/// The store shows an older generation of the ring than this host has seen.
class HSMSEAL_API RingRolledBackError final : public Error {
 public:
  explicit RingRolledBackError(const std::string& message);
  ~RingRolledBackError() override;
};

/// The store shows another history of the ring than this host has seen, at the same generation.
class HSMSEAL_API RingForkedError final : public Error {
 public:
  explicit RingForkedError(const std::string& message);
  ~RingForkedError() override;
};

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

  [[nodiscard]] const std::string& function() const noexcept { return failure_.function; }
  [[nodiscard]] std::uint64_t rv() const noexcept { return failure_.rv; }
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

/// The ring's store does not work.
class HSMSEAL_API StoreError : public Error {
 public:
  explicit StoreError(const std::string& message);
  ~StoreError() override;

 protected:
  StoreError(ErrorCode code, const std::string& message);
};

/// Another host changed the ring first, again and again: try again. Or there is a ring where a new one was to be made:
/// open that. No set was changed.
class HSMSEAL_API StoreConflictError final : public StoreError {
 public:
  explicit StoreConflictError(const std::string& message);
  ~StoreConflictError() override;
};

}  // namespace hsmseal
