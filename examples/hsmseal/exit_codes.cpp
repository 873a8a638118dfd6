#include "exit_codes.hpp"

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "failure.hpp"

namespace tool {

const std::vector<ExitCode>& exit_codes() {
  static const std::vector<ExitCode> table = {
      {Exit::Success, "done"},
      {Exit::Failed, "failed; the message says why"},
      {Exit::Usage, "the command line, the host file or another setting is wrong; nothing was done"},
      {Exit::Refused, "it does not open: no envelope, altered, or of another context, ring or removed set"},
      {Exit::Unavailable, "the HSM or its driver does not answer, or a call failed"},
      {Exit::Login, "no login: a wrong PIN, or one that hsmseal does not try so that the token does not lock"},
      {Exit::WrongKey, "a key is missing, or another key answers, or the token is not fit to hold one"},
      {Exit::Tampered, "the ring was changed by somebody else, rolled back or forked"},
      {Exit::Store, "the ring's store does not work, or holds no ring"},
      {Exit::Conflict, "another host changed the ring first, or the outcome of a change is in doubt"},
      {Exit::InUse, "a set cannot go yet: envelopes name it, or its grace or quarantine is not over"},
      {Exit::Limit, "the active key has wrapped as much as it may; add a set"},
      {Exit::Problems, "doctor found problems"},
      {Exit::NotConformant, "conformance: the token does not do what hsmseal needs"},
  };
  return table;
}

std::string exit_code_table() {
  std::string text = "exit codes:\n";
  for (const auto& [code, meaning] : exit_codes()) text += fmt::format("  {:2}  {}\n", static_cast<int>(code), meaning);
  return text;
}

namespace {

Exit of_error_code(hsmseal::ErrorCode code) {
  using hsmseal::ErrorCode;
  switch (code) {
    case ErrorCode::InvalidArgument:
      return Exit::Usage;
    case ErrorCode::Format:
    case ErrorCode::Open:
    case ErrorCode::WrongRing:
    case ErrorCode::UnknownVersion:
    case ErrorCode::RingOutOfDate:
    case ErrorCode::DeletedVersion:
      return Exit::Refused;
    case ErrorCode::Token:
    case ErrorCode::TokenUnavailable:
      return Exit::Unavailable;
    case ErrorCode::TokenLogin:
      return Exit::Login;
    case ErrorCode::KeyNotFound:
    case ErrorCode::WrongKey:
      return Exit::WrongKey;
    case ErrorCode::RingTampered:
    case ErrorCode::RingRolledBack:
    case ErrorCode::RingForked:
      return Exit::Tampered;
    case ErrorCode::RingStale:
    case ErrorCode::Store:
      return Exit::Store;
    case ErrorCode::StoreConflict:
    case ErrorCode::StoreInDoubt:
      return Exit::Conflict;
    case ErrorCode::SetInUse:
      return Exit::InUse;
    case ErrorCode::UsageLimit:
      return Exit::Limit;
  }
  return Exit::Failed;
}

}  // namespace

Exit exit_code_of(const std::exception& error) {
  if (const auto* of_tool = dynamic_cast<const Failure*>(&error)) return of_tool->code();
  if (const auto* of_library = dynamic_cast<const hsmseal::Error*>(&error)) return of_error_code(of_library->code());
  return Exit::Failed;
}

}  // namespace tool
