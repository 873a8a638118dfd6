#include "keywrap/call_threads.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "pkcs11/driver.hpp"

namespace hsmseal::keywrap {
namespace {

thread_local Call* call_of_this_thread = nullptr;

constexpr std::chrono::seconds kEndTime{1};

}  // namespace

Call* Call::current() noexcept { return call_of_this_thread; }

bool Call::left_by_caller() {
  Call* const call = current();
  if (call == nullptr) return false;
  const std::scoped_lock lock{call->mutex};
  return call->left;
}

/// What the threads share; they outlive CallThreads when they hang.
struct CallThreads::State {
  std::string token;
  std::size_t most;
  std::mutex mutex;
  std::condition_variable work_to_do;
  std::deque<std::shared_ptr<Call>> queue;
  std::size_t threads = 0;
  std::size_t idle = 0;
  std::size_t stuck = 0;
  bool ending = false;
  std::vector<std::thread> handles;
  std::vector<std::thread::id> ended;  ///< of these, which are at their end
  std::condition_variable some_ended;

  /// Joins those that are at their end. A thread that was not joined could still be tidying up when the process is.
  void join_ended() {
    std::erase_if(handles, [&](std::thread& thread) {
      if (std::ranges::find(ended, thread.get_id()) == ended.end()) return false;
      thread.join();
      return true;
    });
    ended.clear();
  }

  /// How many threads may hang and work together.
  [[nodiscard]] std::size_t allowed() const { return most + std::min(stuck, most); }
};

CallThreads::CallThreads(std::string token, std::size_t most) : state_(std::make_shared<State>()) {
  state_->token = std::move(token);
  state_->most = most;
}

CallThreads::~CallThreads() {
  std::unique_lock lock{state_->mutex};
  state_->ending = true;
  state_->work_to_do.notify_all();
  // A call may be what destroys this: its own thread cannot wait for itself.
  if (Call::current() == nullptr) {
    state_->some_ended.wait_for(lock, kEndTime, [&] { return state_->threads <= state_->stuck; });
  }
  state_->join_ended();
  for (std::thread& hanging : state_->handles) hanging.detach();
  state_->handles.clear();
}

std::size_t CallThreads::stuck() const {
  const std::scoped_lock lock{state_->mutex};
  return state_->stuck;
}

void CallThreads::serve(const std::shared_ptr<State>& state) {
  std::unique_lock lock{state->mutex};
  for (;;) {
    ++state->idle;
    state->work_to_do.wait(lock, [&] { return state->ending || !state->queue.empty(); });
    --state->idle;
    if (state->queue.empty() || state->threads > state->allowed()) break;
    const auto call = std::move(state->queue.front());
    state->queue.pop_front();
    lock.unlock();
    std::exception_ptr error;
    call_of_this_thread = call.get();
    try {
      const Deadline deadline{call->deadline};
      call->work();
    } catch (...) {
      error = std::current_exception();
    }
    call_of_this_thread = nullptr;
    call->work = nullptr;  // what it owns is wiped now, not when the caller comes to look
    {
      const std::scoped_lock its_lock{call->mutex};
      call->done = true;
      call->error = std::move(error);
      call->ended.notify_one();
    }
    lock.lock();
    if (call->left) --state->stuck;
  }
  --state->threads;
  state->ended.push_back(std::this_thread::get_id());
  state->some_ended.notify_one();
  state->work_to_do.notify_one();  // what woke this thread may be another's to do
}

/// Where calls wait and no thread is free for them. One that the system does not give is none.
void CallThreads::add_thread(const std::shared_ptr<State>& state) {
  if (state->idle >= state->queue.size() || state->threads >= state->allowed()) return;
  state->join_ended();
  try {
    state->handles.emplace_back([state] { serve(state); });
    ++state->threads;
  } catch (const std::system_error&) {
    return;
  }
}

void CallThreads::wait_for(std::function<void()> work) {
  const auto call = std::make_shared<Call>();
  call->work = std::move(work);
  call->deadline = Deadline::current();
  State& state = *state_;
  {
    const std::scoped_lock lock{state.mutex};
    state.queue.push_back(call);
    add_thread(state_);
    if (state.threads == 0) {
      state.queue.pop_back();
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                              "no thread for the calls to a token");
    }
    state.work_to_do.notify_one();
  }
  const auto began = std::chrono::steady_clock::now();
  {
    std::unique_lock lock{call->mutex};
    const auto done = [&] { return call->done; };
    if (call->deadline == Deadline::Time::max()) {
      call->ended.wait(lock, done);
    } else {
      call->ended.wait_until(lock, call->deadline, done);
    }
  }
  const std::scoped_lock locks{state.mutex, call->mutex};
  if (call->done) {
    if (call->error) std::rethrow_exception(call->error);
    return;
  }
  call->left = true;
  const bool waited_in_vain = std::erase(state.queue, call) != 0;
  if (!waited_in_vain) {
    ++state.stuck;
    if (call->when_left) call->when_left();
    add_thread(state_);  // for those that wait behind it
  }
  const auto waited = std::chrono::steady_clock::now() - began;
  throw TokenUnavailableError(
      pkcs11::failure("", waited_in_vain && state.stuck < state.most ? CKR_SESSION_COUNT : CKR_FUNCTION_CANCELED),
      fmt::format("no answer from token '{}' within {} ms: {}", state.token,
                  std::chrono::duration_cast<std::chrono::milliseconds>(waited).count(),
                  waited_in_vain ? fmt::format("all {} threads for its calls are busy or hang", state.threads)
                                 : "its driver does not return; the session is written off"));
}

}  // namespace hsmseal::keywrap
