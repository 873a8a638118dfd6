#pragma once

#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <string>

namespace hsmseal::pkcs11 {

/// Locks a mutex that another thread holds over its calls, and which must not be passed by while one of them hangs.
///
/// @throws TokenUnavailableError  not before the thread's Deadline.
[[nodiscard]] std::unique_lock<std::mutex> lock_in_time(std::mutex& mutex, const std::string& token);

/// Keeps calls of several threads apart that the driver does not bear at once, until one of them hangs: then the others
/// go on without it.
///
/// Thread safety: all members may run concurrently.
class CallTurns {
 public:
  /// A thread's turn, as long as it lives.
  class Turn {
   public:
    /// @throws TokenUnavailableError  the turn has not come before the thread's Deadline.
    Turn(CallTurns& turns, const std::string& token);
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn();

   private:
    [[nodiscard]] bool comes(std::unique_lock<std::mutex>& lock, const std::string& token) const;

    CallTurns& turns_;
    bool had_ = false;  ///< not beside a thread that hangs
  };

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::list<const Turn*> waiting_;  ///< in the order of arrival
  bool taken_ = false;
  std::chrono::steady_clock::time_point began_;  ///< the turn that is taken
};

}  // namespace hsmseal::pkcs11
