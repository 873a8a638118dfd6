#include "keywrap/session_pool.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "keywrap/call_threads.hpp"
#include "pkcs11/driver.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {

namespace {

constexpr std::chrono::seconds kBetweenGrowths{10};

}  // namespace

SessionPool::SessionPool(std::string token, OpenSession open, std::size_t most, const SessionLimits& limits)
    : token_(std::move(token)),
      open_session_(std::move(open)),
      wait_(limits.session_wait),
      idle_check_(limits.idle_check),
      limit_(most),
      most_(most) {
  idle_.reserve(2 * most);  // so that giving back never allocates
}

/// One place of the pool that is in a call of the driver, and written off if the caller leaves meanwhile.
class SessionPool::InDriver {
 public:
  explicit InDriver(const std::shared_ptr<SessionPool>& pool) : pool_(*pool), call_(Call::current()) {
    if (call_ == nullptr) return;
    const std::scoped_lock lock{call_->mutex};
    if (call_->left) {
      pool->write_off();
    } else {
      call_->when_left = [pool] { pool->write_off(); };
    }
  }
  InDriver(const InDriver&) = delete;
  InDriver& operator=(const InDriver&) = delete;
  ~InDriver() {
    if (end() == Held::WrittenOff) pool_.write_back();
  }

  /// What became of it; afterwards it is in the driver no more.
  Held end() noexcept {
    Call* const call = std::exchange(call_, nullptr);
    if (call == nullptr) return Held::InTime;
    const std::scoped_lock lock{call->mutex};
    call->when_left = nullptr;
    return call->left ? Held::WrittenOff : Held::InTime;
  }

 private:
  SessionPool& pool_;
  Call* call_;
};

SessionPool::Lease::Lease(std::shared_ptr<SessionPool> pool, Pkcs11Session session)
    : pool_(std::move(pool)), session_(std::move(session)), in_driver_(std::make_unique<InDriver>(pool_)) {}

SessionPool::Lease::Lease(Lease&&) noexcept = default;

SessionPool::Lease::~Lease() {
  if (!pool_) return;
  if (!session_.usable()) session_.close();
  pool_->give_back(std::move(session_), in_driver_->end());
}

void SessionPool::wait_for_turn(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point deadline) {
  if (waiting_.empty() && free_locked()) return;
  Waiter self;
  waiting_.push_back(&self);
  const bool got = self.turn.wait_until(lock, deadline, [&] { return waiting_.front() == &self && free_locked(); });
  std::erase(waiting_, &self);
  if (!got) {
    next_turn_locked();
    throw TokenUnavailableError(
        pkcs11::failure("", CKR_SESSION_COUNT),
        fmt::format("no session with token '{}' became free within {} ms ({} are in use, {} of them hang); raise "
                    "SessionLimits::max_sessions or session_wait, or call less at once",
                    token_, wait_.count(), open_, written_off_));
  }
}

void SessionPool::next_turn_locked() {
  if (!waiting_.empty() && free_locked()) waiting_.front()->turn.notify_one();
}

std::optional<Pkcs11Session> SessionPool::take_idle(std::unique_lock<std::mutex>& lock) {
  Idle taken = std::move(idle_.back());
  idle_.pop_back();
  next_turn_locked();
  if (std::chrono::steady_clock::now() - taken.since < idle_check_) return std::move(taken.session);
  lock.unlock();
  {
    const InDriver in_driver{shared_from_this()};
    if (pkcs11::SessionAccess::answers(taken.session)) return std::move(taken.session);
    taken.session.close();
  }
  lock.lock();
  --open_;
  next_turn_locked();
  return std::nullopt;
}

SessionPool::Lease SessionPool::acquire() {
  const auto deadline = std::min(std::chrono::steady_clock::now() + wait_, Deadline::current());
  std::unique_lock lock{mutex_};
  for (;;) {
    wait_for_turn(lock, deadline);
    if (retired_) {
      next_turn_locked();
      pkcs11::throw_failure("C_OpenSession", CKR_SESSION_CLOSED, token_);
    }
    if (!idle_.empty()) {
      auto session = take_idle(lock);
      if (!session) continue;
      if (lock.owns_lock()) lock.unlock();
      return {shared_from_this(), std::move(*session)};
    }
    ++open_;
    next_turn_locked();
    lock.unlock();
    try {
      std::optional<Pkcs11Session> opened;
      {
        const InDriver in_driver{shared_from_this()};
        opened.emplace(open_session_());
      }
      return {shared_from_this(), std::move(*opened)};
    } catch (const TokenError& error) {
      lock.lock();
      --open_;
      // With sessions of its own to wait for, the pool makes do with those; without any, the caller is told.
      const bool shrinks = error.rv() == CKR_SESSION_COUNT && working_locked() > 0;
      if (shrinks) shrink_locked();
      next_turn_locked();
      if (!shrinks) throw;
    } catch (...) {
      lock.lock();
      --open_;
      next_turn_locked();
      throw;
    }
  }
}

void SessionPool::shrink_locked() {
  most_ = std::max<std::size_t>(1, std::min(most_, working_locked()));
  shrunk_at_ = std::chrono::steady_clock::now();
}

void SessionPool::shrink() {
  const std::scoped_lock lock{mutex_};
  shrink_locked();
}

void SessionPool::write_off() {
  const std::scoped_lock lock{mutex_};
  ++written_off_;
  next_turn_locked();
}

void SessionPool::write_back() {
  const std::scoped_lock lock{mutex_};
  --written_off_;
}

void SessionPool::retire() {
  {
    const std::scoped_lock lock{mutex_};
    retired_ = true;
    next_turn_locked();
  }
  close_idle();
}

void SessionPool::give_back(Pkcs11Session session, Held held) noexcept {
  if (held == Held::WrittenOff) session.close();
  std::unique_lock lock{mutex_};
  if (retired_ && session.usable()) {
    lock.unlock();
    session.close();
    lock.lock();
  }
  if (held == Held::WrittenOff) --written_off_;
  if (session.usable()) {
    idle_.push_back({std::move(session), std::chrono::steady_clock::now()});
  } else {
    --open_;
  }
  // What others took of the token's sessions may be free again.
  if (most_ < limit_ && std::chrono::steady_clock::now() - shrunk_at_ > kBetweenGrowths) most_ = limit_;
  next_turn_locked();
}

void SessionPool::close_idle() {
  std::vector<Idle> closing;
  closing.reserve(2 * limit_);
  {
    const std::scoped_lock lock{mutex_};
    closing.swap(idle_);
  }
  // Their places are free only when they are closed: the token may have no more sessions than these.
  const std::size_t closed = closing.size();
  closing.clear();
  const std::scoped_lock lock{mutex_};
  open_ -= closed;
  next_turn_locked();
}

std::size_t SessionPool::open_sessions() const {
  const std::scoped_lock lock{mutex_};
  return open_;
}

std::size_t SessionPool::limit() const {
  const std::scoped_lock lock{mutex_};
  return most_;
}

std::size_t SessionPool::waiting() const {
  const std::scoped_lock lock{mutex_};
  return waiting_.size();
}

std::size_t pool_limit(std::size_t host_limit, std::uint64_t token_limit) noexcept {
  constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max() - 1;
  constexpr std::uint64_t kNoLimit32 =
      std::numeric_limits<std::uint32_t>::max() - 1;  // a driver with a 32-bit CK_ULONG
  const bool unknown =
      token_limit == 0 || token_limit >= kNoLimit || token_limit == kNoLimit32 || token_limit == kNoLimit32 + 1;
  return unknown ? host_limit : std::min<std::size_t>(host_limit, static_cast<std::size_t>(token_limit - 1));
}

}  // namespace hsmseal::keywrap
