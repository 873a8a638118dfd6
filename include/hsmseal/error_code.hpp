#pragma once

#include <stdexcept>
#include <string>

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
  DeletedVersion = 7,
  RingTampered = 8,
  RingRolledBack = 9,
  RingForked = 10,
  RingStale = 11,
  Token = 12,
  TokenLogin = 13,
  TokenUnavailable = 14,
  KeyNotFound = 15,
  WrongKey = 16,
  UsageLimit = 17,
  Store = 18,
  StoreConflict = 19,
  StoreInDoubt = 20,
  SetInUse = 21,
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

}  // namespace hsmseal
