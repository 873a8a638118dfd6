#pragma once

#include <string>

#include <hsmseal/error_code.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/token_error.hpp>

namespace hsmseal {

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

/// The credential set was removed. KeyRing::restore() brings it back while its key exists.
class HSMSEAL_API DeletedVersionError final : public Error {
 public:
  explicit DeletedVersionError(const std::string& message);
  ~DeletedVersionError() override;
};

/// The credential set may still be needed: envelopes name it, or its grace or quarantine is not over. Nothing was
/// changed.
class HSMSEAL_API SetInUseError final : public Error {
 public:
  explicit SetInUseError(const std::string& message);
  ~SetInUseError() override;
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

/// The store could not be read for so long that another host may have rotated the ring: nothing is sealed. Opening goes
/// on. Try again when the store works.
class HSMSEAL_API RingStaleError final : public Error {
 public:
  explicit RingStaleError(const std::string& message);
  ~RingStaleError() override;
};

/// So much was wrapped under the active set's key that more would weaken it. Add a set.
class HSMSEAL_API UsageLimitError final : public Error {
 public:
  explicit UsageLimitError(const std::string& message);
  ~UsageLimitError() override;
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

/// The connection broke while a change was being stored: it may be in force or not. Read the ring again to see; keys
/// that were made for it are not destroyed.
class HSMSEAL_API StoreInDoubtError final : public StoreError {
 public:
  explicit StoreInDoubtError(const std::string& message);
  ~StoreInDoubtError() override;
};

}  // namespace hsmseal
