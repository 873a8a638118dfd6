#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "platform/socket.hpp"

namespace hsmseal::sql {

/// Ends calls that take too long, by cutting off the connection that they wait for.
///
/// libpq waits without end for a server that keeps the connection and says nothing. What limits there are besides, of
/// statements and of TCP, are kept by that server, or by a network that finds nothing wrong.
///
/// Thread safety: members may run concurrently; a thread of its own, started by the first call, looks after the time.
class CallDeadline {
 public:
  using Clock = std::chrono::steady_clock;

  /// @param limit  how long a call may take, from its begin or from when its connection was made.
  explicit CallDeadline(std::chrono::milliseconds limit) : limit_(limit) {}
  CallDeadline(const CallDeadline&) = delete;
  CallDeadline& operator=(const CallDeadline&) = delete;
  ~CallDeadline();

  /// A call, while it lives; one at a time.
  class Call {
   public:
    /// @param deadline  nothing if calls are not limited.
    /// @throws StoreError  no thread could be started.
    explicit Call(CallDeadline* deadline) : deadline_(deadline) {
      if (deadline_ != nullptr) deadline_->begin();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call() {
      if (deadline_ != nullptr) deadline_->end();
    }

   private:
    CallDeadline* deadline_;
  };

  /// Names the connection to be cut off, from now on.
  /// @throws StoreError  the process can open no more files.
  void watch(std::intptr_t socket);
  /// To be called before it is closed, since the server sees it open until then.
  void unwatch() noexcept;

  /// Whether the connection of the present call was cut off.
  [[nodiscard]] bool passed();

 private:
  void begin();
  void end() noexcept;
  void run();

  const std::chrono::milliseconds limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<platform::SharedSocket> socket_;
  std::optional<Clock::time_point> deadline_;  ///< of the present call
  bool passed_ = false, ending_ = false;
  std::thread thread_;
};

}  // namespace hsmseal::sql
