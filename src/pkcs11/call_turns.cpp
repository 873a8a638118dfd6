#include "pkcs11/call_turns.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "pkcs11/driver.hpp"
#include "pkcs11/lock_until.hpp"

namespace hsmseal::pkcs11 {
namespace {

using Clock = std::chrono::steady_clock;

/// Longer than searches and C_GenerateKey take at slow HSMs, shorter than a caller's usual Deadline.
constexpr std::chrono::seconds kLongestTurn{2};

TokenUnavailableError too_late(const std::string& token) {
  return {failure("", CKR_FUNCTION_CANCELED),
          fmt::format("token '{}' was not asked: another thread's call to its driver had not returned in time", token)};
}

}  // namespace

std::unique_lock<std::mutex> lock_in_time(std::mutex& mutex, const std::string& token) {
  auto lock = lock_until(mutex, Deadline::current());
  if (!lock) throw too_late(token);
  return lock;
}

CallTurns::Turn::Turn(CallTurns& turns, const std::string& token) : turns_(turns) {
  std::unique_lock lock{turns.mutex_};
  turns.waiting_.push_back(this);
  try {
    had_ = comes(lock, token);
  } catch (...) {
    turns.waiting_.remove(this);
    turns.ended_.notify_all();
    throw;
  }
  turns.waiting_.remove(this);
  if (!had_) return;
  turns.taken_ = true;
  turns.began_ = Clock::now();
}

/// @returns false if whoever has the turn hangs.
bool CallTurns::Turn::comes(std::unique_lock<std::mutex>& lock, const std::string& token) const {
  while (turns_.taken_ || turns_.waiting_.front() != this) {
    const auto now = Clock::now();
    const auto hangs = turns_.taken_ ? turns_.began_ + kLongestTurn : now + kLongestTurn;
    if (now >= hangs) return false;
    if (now >= Deadline::current()) throw too_late(token);
    turns_.ended_.wait_until(lock, std::min(hangs, Deadline::current()));
  }
  return true;
}

CallTurns::Turn::~Turn() {
  if (!had_) return;
  {
    const std::scoped_lock lock{turns_.mutex_};
    turns_.taken_ = false;
  }
  turns_.ended_.notify_all();
}

}  // namespace hsmseal::pkcs11
