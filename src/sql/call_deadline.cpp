#include "sql/call_deadline.hpp"

#include <system_error>

#include <hsmseal/error.hpp>

namespace hsmseal::sql {

CallDeadline::~CallDeadline() {
  {
    const std::scoped_lock lock{mutex_};
    ending_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void CallDeadline::watch(std::intptr_t socket) {
  const std::scoped_lock lock{mutex_};
  try {
    socket_.emplace(socket);
  } catch (const std::system_error& error) {
    throw StoreError("the connection cannot be watched: " + error.code().message());
  }
  passed_ = false;
  if (deadline_) deadline_ = Clock::now() + limit_;
}

void CallDeadline::unwatch() noexcept {
  const std::scoped_lock lock{mutex_};
  socket_.reset();
}

bool CallDeadline::passed() {
  const std::scoped_lock lock{mutex_};
  return passed_;
}

void CallDeadline::begin() {
  const std::scoped_lock lock{mutex_};
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread{[this] { run(); }};
    } catch (const std::system_error& error) {
      throw StoreError("no thread can be started to limit the time of calls: " + error.code().message());
    }
  }
  passed_ = false;
  deadline_ = Clock::now() + limit_;
  changed_.notify_one();
}

void CallDeadline::end() noexcept {
  const std::scoped_lock lock{mutex_};
  deadline_.reset();
}

void CallDeadline::run() {
  std::unique_lock lock{mutex_};
  while (!ending_) {
    if (!deadline_ || passed_) {
      changed_.wait(lock);
    } else if (Clock::now() < *deadline_) {
      const auto until = *deadline_;  // a copy, since it changes meanwhile
      changed_.wait_until(lock, until);
    } else {
      passed_ = true;
      if (socket_) socket_->shut_down();
    }
  }
}

}  // namespace hsmseal::sql
