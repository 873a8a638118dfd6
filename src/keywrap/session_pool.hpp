#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/pkcs11_session.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal::keywrap {

/// Sessions with one token, each lent to one thread at a time.
///
/// Sessions are opened when they are needed, up to a limit; then callers wait, first come, first served. When the token
/// itself says that it has no more (CKR_SESSION_COUNT), the limit shrinks to what is open, for some time. A session in
/// which a call failed is closed, not lent again. One that was idle for long is looked at before it is lent.
///
/// A session that hangs in a call that was left is written off: another may be opened in its place, up to as many as the
/// limit.
///
/// Thread safety: all members may run concurrently. The lock is not held while the token is called.
class SessionPool : public std::enable_shared_from_this<SessionPool> {
  class InDriver;

 public:
  using OpenSession = std::function<Pkcs11Session()>;

  /// @param token  for messages.
  /// @param most   at least 1.
  SessionPool(std::string token, OpenSession open, std::size_t most, const SessionLimits& limits);

  /// A session for as long as this object lives.
  class Lease {
   public:
    Lease(Lease&&) noexcept;
    Lease& operator=(Lease&&) = delete;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();

    Pkcs11Session* operator->() noexcept { return &session_; }
    Pkcs11Session& operator*() noexcept { return session_; }

   private:
    friend class SessionPool;
    Lease(std::shared_ptr<SessionPool> pool, Pkcs11Session session);

    std::shared_ptr<SessionPool> pool_;
    Pkcs11Session session_;
    std::unique_ptr<InDriver> in_driver_;
  };

  /// @throws TokenUnavailableError  no session became free in time, or the call that asks was left.
  /// @throws TokenError             a new session could not be opened.
  [[nodiscard]] Lease acquire();

  /// Closes the sessions that are not lent, and those that are when they come back; none is lent any more.
  void retire();

  /// Closes the sessions that are not lent, so that the next one lent is most likely a new one.
  void close_idle();

  /// The token has no room for more: none is opened beyond those there are, for some time.
  void shrink();

  /// How many sessions are open, how many may be, and how many callers wait.
  [[nodiscard]] std::size_t open_sessions() const;
  [[nodiscard]] std::size_t limit() const;
  [[nodiscard]] std::size_t waiting() const;

 private:
  struct Waiter {
    std::condition_variable turn;
  };

  struct Idle {
    Pkcs11Session session;
    std::chrono::steady_clock::time_point since;
  };

  [[nodiscard]] std::size_t working_locked() const { return open_ - std::min(written_off_, limit_); }
  [[nodiscard]] bool free_locked() const { return retired_ || !idle_.empty() || working_locked() < most_; }
  [[nodiscard]] std::optional<Pkcs11Session> take_idle(std::unique_lock<std::mutex>& lock);
  void shrink_locked();
  void write_off();
  void write_back();
  void wait_for_turn(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point deadline);
  void next_turn_locked();
  enum class Held { InTime, WrittenOff };
  void give_back(Pkcs11Session session, Held held) noexcept;

  const std::string token_;
  const OpenSession open_session_;
  const std::chrono::milliseconds wait_, idle_check_;
  mutable std::mutex mutex_;
  const std::size_t limit_;
  std::chrono::steady_clock::time_point shrunk_at_{};
  std::size_t most_;      ///< what the token gives at present, at most limit_
  std::size_t open_ = 0;  ///< lent, idle, being opened and written off
  bool retired_ = false;
  std::size_t written_off_ = 0;  ///< lent to calls that were left
  std::vector<Idle> idle_;       ///< the last one back is the first one lent: its connection is the warmest
  std::deque<Waiter*> waiting_;
};

/// How many sessions the pool may have, from what the host allows and what the token reports: 0, and the two numbers
/// below 2^64 that some drivers use, mean no known limit; one session is left for the login.
/// @returns 0 if the token allows too few.
[[nodiscard]] std::size_t pool_limit(std::size_t host_limit, std::uint64_t token_limit) noexcept;

}  // namespace hsmseal::keywrap
