#include <hsmseal/error.hpp>

#include <utility>

namespace hsmseal {

Error::Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

InvalidArgumentError::InvalidArgumentError(const std::string& message) : Error(ErrorCode::InvalidArgument, message) {}
FormatError::FormatError(const std::string& message) : Error(ErrorCode::Format, message) {}
OpenError::OpenError()
    : Error(ErrorCode::Open, "the envelope does not open: it was altered, or the context or the key is another") {}
WrongRingError::WrongRingError(const std::string& message) : Error(ErrorCode::WrongRing, message) {}
UnknownVersionError::UnknownVersionError(const std::string& message) : Error(ErrorCode::UnknownVersion, message) {}
UnknownVersionError::UnknownVersionError(ErrorCode code, const std::string& message) : Error(code, message) {}
RingOutOfDateError::RingOutOfDateError(const std::string& message)
    : UnknownVersionError(ErrorCode::RingOutOfDate, message) {}
DeletedVersionError::DeletedVersionError(const std::string& message) : Error(ErrorCode::DeletedVersion, message) {}
SetInUseError::SetInUseError(const std::string& message) : Error(ErrorCode::SetInUse, message) {}
RingTamperedError::RingTamperedError(const std::string& message) : Error(ErrorCode::RingTampered, message) {}
RingRolledBackError::RingRolledBackError(const std::string& message) : Error(ErrorCode::RingRolledBack, message) {}
RingForkedError::RingForkedError(const std::string& message) : Error(ErrorCode::RingForked, message) {}
TokenError::TokenError(TokenFailure failure, const std::string& message)
    : TokenError(ErrorCode::Token, std::move(failure), message) {}
TokenError::TokenError(ErrorCode code, TokenFailure failure, const std::string& message)
    : Error(code, message), failure_(std::move(failure)) {}
TokenLoginError::TokenLoginError(TokenFailure failure, const std::string& message)
    : TokenError(ErrorCode::TokenLogin, {std::move(failure.function), failure.rv, std::move(failure.rv_name), false},
                 message) {}
TokenUnavailableError::TokenUnavailableError(TokenFailure failure, const std::string& message)
    : TokenError(ErrorCode::TokenUnavailable, std::move(failure), message) {}
KeyNotFoundError::KeyNotFoundError(const std::string& message) : Error(ErrorCode::KeyNotFound, message) {}
WrongKeyError::WrongKeyError(const std::string& message) : Error(ErrorCode::WrongKey, message) {}
RingStaleError::RingStaleError(const std::string& message) : Error(ErrorCode::RingStale, message) {}
UsageLimitError::UsageLimitError(const std::string& message) : Error(ErrorCode::UsageLimit, message) {}
StoreError::StoreError(const std::string& message) : Error(ErrorCode::Store, message) {}
StoreError::StoreError(ErrorCode code, const std::string& message) : Error(code, message) {}
StoreInDoubtError::StoreInDoubtError(const std::string& message) : StoreError(ErrorCode::StoreInDoubt, message) {}
StoreConflictError::StoreConflictError(const std::string& message) : StoreError(ErrorCode::StoreConflict, message) {}

// Out of line, so that each class has its type information in this library alone and is caught across its border.
Error::~Error() = default;
InvalidArgumentError::~InvalidArgumentError() = default;
FormatError::~FormatError() = default;
OpenError::~OpenError() = default;
WrongRingError::~WrongRingError() = default;
UnknownVersionError::~UnknownVersionError() = default;
RingOutOfDateError::~RingOutOfDateError() = default;
DeletedVersionError::~DeletedVersionError() = default;
SetInUseError::~SetInUseError() = default;
RingTamperedError::~RingTamperedError() = default;
RingRolledBackError::~RingRolledBackError() = default;
RingForkedError::~RingForkedError() = default;
TokenError::~TokenError() = default;
TokenLoginError::~TokenLoginError() = default;
TokenUnavailableError::~TokenUnavailableError() = default;
KeyNotFoundError::~KeyNotFoundError() = default;
WrongKeyError::~WrongKeyError() = default;
RingStaleError::~RingStaleError() = default;
UsageLimitError::~UsageLimitError() = default;
StoreError::~StoreError() = default;
StoreInDoubtError::~StoreInDoubtError() = default;
StoreConflictError::~StoreConflictError() = default;

}  // namespace hsmseal
