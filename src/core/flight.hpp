#pragma once

#include <chrono>
#include <exception>
#include <future>
#include <string>

#include <hsmseal/deadline.hpp>

namespace hsmseal::core {

/// One thread's work at a token, which the others wait for instead of doing the same.
///
/// Thread safety: all members may run concurrently; one of land() and fail() is called, once.
class Flight {
 public:
  /// By the thread that works.
  Flight();
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;
  ~Flight() = default;

  void land() { landed_.set_value(); }
  /// Those who wait fail alike, unless the working thread's deadline has come: they may have more time.
  void fail(const std::exception_ptr& error);

  /// Waits for the end, at most until this thread's Deadline.
  ///
  /// @param too_late  what to say then.
  /// @returns false if the working thread should have ended long ago, at its own Deadline: it hangs in the driver.
  /// @throws TokenUnavailableError  too late; what fail() was given otherwise.
  [[nodiscard]] bool wait(const std::string& too_late) const;

 private:
  const Deadline::Time overdue_;
  std::promise<void> landed_;
  const std::shared_future<void> landing_;
};

}  // namespace hsmseal::core
