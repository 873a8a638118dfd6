#include "envelope/patience.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace hsmseal::envelope {
namespace {

void sleep_until_stopped(std::chrono::nanoseconds time, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock{mutex};
  never.wait_for(lock, stop, time, [] { return false; });
}

}  // namespace

Fault fault_of(const Error& error) noexcept {
  if (const auto* token = dynamic_cast<const TokenError*>(&error)) {
    return token->retryable() ? Fault::Passing : Fault::Lasting;
  }
  switch (error.code()) {
    case ErrorCode::InvalidArgument:
    case ErrorCode::Format:
    case ErrorCode::Open:
    case ErrorCode::WrongRing:
    case ErrorCode::UnknownVersion:
    case ErrorCode::RingOutOfDate:  // what a damaged version comes to as well
    case ErrorCode::DeletedVersion:
      return Fault::Row;
    case ErrorCode::RingStale:
    case ErrorCode::KeyNotFound:  // members of an HA group may not all have it yet
    case ErrorCode::Store:
    case ErrorCode::StoreConflict:
    case ErrorCode::StoreInDoubt:
      return Fault::Passing;
    default:
      return Fault::Lasting;
  }
}

void Patience::pause(std::chrono::nanoseconds time) const {
  if (time.count() > 0) {
    if (options_.sleep) {
      options_.sleep(time, stop_);
    } else {
      sleep_until_stopped(time, stop_);
    }
  }
  check();
}

std::chrono::milliseconds Patience::pause_after(std::size_t failures) const noexcept {
  constexpr std::size_t kMostDoublings = 20;
  const auto doubled = options_.retry.first_pause * (1LL << std::min(failures - 1, kMostDoublings));
  return std::min<std::chrono::milliseconds>(doubled, options_.retry.longest_pause);
}

}  // namespace hsmseal::envelope
