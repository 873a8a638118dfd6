#pragma once

#include <chrono>
#include <mutex>
#include <thread>

namespace hsmseal::pkcs11 {

/// Locks a mutex that another thread may hold while it hangs in a driver. Not std::timed_mutex, whose waiting
/// ThreadSanitizer of g++ 12 does not see.
/// @returns a lock that owns nothing if it was not to be had in time.
[[nodiscard]] inline std::unique_lock<std::mutex> lock_until(std::mutex& mutex,
                                                             std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock{mutex, std::try_to_lock};
  while (!lock && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
    static_cast<void>(lock.try_lock());
  }
  return lock;
}

}  // namespace hsmseal::pkcs11
