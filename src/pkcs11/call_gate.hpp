#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include <hsmseal/deadline.hpp>

namespace hsmseal::pkcs11 {

/// Counts the calls inside a driver, and keeps new ones out while it is restarted: C_Finalize while another thread is in
/// a call is undefined (PKCS#11 2.40 section 5.4).
///
/// Thread safety: all members may run concurrently, close() and open() from one thread at a time.
class CallGate {
 public:
  /// Waits while the gate is closed, at most until `patience` or the thread's Deadline.
  /// @returns false if it did not open; otherwise leave() must follow.
  [[nodiscard]] bool enter(std::chrono::milliseconds patience = std::chrono::seconds{10}) {
    for (;;) {
      ++inside_;
      if (!closed_) return true;
      leave();
      std::unique_lock lock{mutex_};
      const auto until = std::min(Deadline::current(), std::chrono::steady_clock::now() + patience);
      if (!reopened_.wait_until(lock, until, [&] { return !closed_; })) return false;
    }
  }

  void leave() noexcept {
    if (--inside_ != 0 || !closed_) return;
    const std::scoped_lock lock{mutex_};
    drained_.notify_all();
  }

  /// Closes the gate and waits for those inside.
  /// @returns false if somebody is still inside at `deadline`; the gate is open again then.
  [[nodiscard]] bool close(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock{mutex_};
    closed_ = true;
    if (drained_.wait_until(lock, deadline, [&] { return inside_ == 0; })) return true;
    closed_ = false;
    reopened_.notify_all();
    return false;
  }

  void open() noexcept {
    const std::scoped_lock lock{mutex_};
    closed_ = false;
    reopened_.notify_all();
  }

  /// enter() and leave().
  class Visit {
   public:
    explicit Visit(CallGate& gate) : gate_(gate), inside_(gate.enter()) {}
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    ~Visit() {
      if (inside_) gate_.leave();
    }
    [[nodiscard]] bool inside() const noexcept { return inside_; }

   private:
    CallGate& gate_;
    const bool inside_;
  };

 private:
  std::atomic<std::int64_t> inside_ = 0;
  std::atomic<bool> closed_ = false;
  std::mutex mutex_;
  std::condition_variable drained_, reopened_;
};

}  // namespace hsmseal::pkcs11
