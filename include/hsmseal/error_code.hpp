#pragma once

#include <stdexcept>
#include <string>

#include <hsmseal/export.hpp>

namespace hsmseal {

/// What went wrong, as a number that never changes its meaning. Zero is not used.
enum class ErrorCode : int {
  InvalidArgument = 1,    ///< InvalidArgumentError
  Format = 2,             ///< FormatError
  Open = 3,               ///< OpenError
  WrongRing = 4,          ///< WrongRingError
  UnknownVersion = 5,     ///< UnknownVersionError
  RingOutOfDate = 6,      ///< RingOutOfDateError
  DeletedVersion = 7,     ///< DeletedVersionError
  RingTampered = 8,       ///< RingTamperedError
  RingRolledBack = 9,     ///< RingRolledBackError
  RingForked = 10,        ///< RingForkedError
  RingStale = 11,         ///< RingStaleError
  Token = 12,             ///< TokenError
  TokenLogin = 13,        ///< TokenLoginError
  TokenUnavailable = 14,  ///< TokenUnavailableError
  KeyNotFound = 15,       ///< KeyNotFoundError
  WrongKey = 16,          ///< WrongKeyError
  UsageLimit = 17,        ///< UsageLimitError
  Store = 18,             ///< StoreError
  StoreConflict = 19,     ///< StoreConflictError
  StoreInDoubt = 20,      ///< StoreInDoubtError
  SetInUse = 21,          ///< SetInUseError
};

/// The root of every exception of hsmseal.
///
/// Messages say what happened, where, and what to do next; they never hold a PIN, a key or a secret.
class HSMSEAL_API Error : public std::runtime_error {
 public:
  /// Tells the derived classes apart where they cannot be caught one by one: in logs, across languages.
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  ~Error() override;

 protected:
  Error(ErrorCode code, const std::string& message);

 private:
  ErrorCode code_;
};

}  // namespace hsmseal
