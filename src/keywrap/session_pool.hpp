#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <hsmseal/pkcs11_session.hpp>

namespace hsmseal::keywrap {

/// Sessions with one token, each lent to one thread at a time.
///
/// Sessions are opened when they are needed, up to a limit; then callers wait, first come, first served. When the token
/// itself says that it has no more (CKR_SESSION_COUNT), the limit shrinks to what is open, for some time. A session in
/// which a call failed is closed, not lent again.
///
/// Thread safety: all members may run concurrently. The lock is not held while the token is called.
class SessionPool : public std::enable_shared_from_this<SessionPool> {
 public:
  using OpenSession = std::function<Pkcs11Session()>;

  /// @param token  for messages.
  /// @param most   at least 1.
  SessionPool(std::string token, OpenSession open, std::size_t most, std::chrono::milliseconds wait);

  /// A session for as long as this object lives.
  class Lease {
   public:
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();

    Pkcs11Session* operator->() noexcept { return &session_; }
    Pkcs11Session& operator*() noexcept { return session_; }

   private:
    friend class SessionPool;
    Lease(std::shared_ptr<SessionPool> pool, Pkcs11Session session) noexcept
        : pool_(std::move(pool)), session_(std::move(session)) {}

    std::shared_ptr<SessionPool> pool_;
    Pkcs11Session session_;
  };

  /// @throws TokenUnavailableError  no session became free in time.
  /// @throws TokenError             a new session could not be opened.
  [[nodiscard]] Lease acquire();

  /// Closes the sessions that are not lent, so that the next one lent is most likely a new one.
  void close_idle();

  /// How many sessions are open, how many may be, and how many callers wait.
  [[nodiscard]] std::size_t open_sessions() const;
  [[nodiscard]] std::size_t limit() const;
  [[nodiscard]] std::size_t waiting() const;

 private:
  struct Waiter {
    std::condition_variable turn;
  };

  [[nodiscard]] bool free_locked() const { return !idle_.empty() || open_ < most_; }
  void wait_for_turn(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point deadline);
  void next_turn_locked();
  void give_back(Pkcs11Session session) noexcept;

  const std::string token_;
  const OpenSession open_session_;
  const std::chrono::milliseconds wait_;
  mutable std::mutex mutex_;
  const std::size_t limit_;
  std::chrono::steady_clock::time_point shrunk_at_{};
  std::size_t most_;                 ///< what the token gives at present, at most limit_
  std::size_t open_ = 0;             ///< lent, idle and being opened
  std::vector<Pkcs11Session> idle_;  ///< the last one back is the first one lent: its connection is the warmest
  std::deque<Waiter*> waiting_;
};

/// How many sessions the pool may have, from what the host allows and what the token reports: 0, and the two numbers
/// below 2^64 that some drivers use, mean no known limit; one session is left for the login.
/// @returns 0 if the token allows too few.
[[nodiscard]] std::size_t pool_limit(std::size_t host_limit, std::uint64_t token_limit) noexcept;

}  // namespace hsmseal::keywrap
