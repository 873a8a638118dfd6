#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <hsmseal/deadline.hpp>

namespace hsmseal::keywrap {

/// One piece of work that its caller may leave behind.
struct Call {
  std::function<void()> work;
  Deadline::Time deadline;
  std::mutex mutex;
  std::condition_variable ended;
  bool done = false;
  bool left = false;                ///< the caller is gone
  std::function<void()> when_left;  ///< called, with `mutex` held, when the caller goes
  std::exception_ptr error;

  /// The one that this thread works on; null in an application's thread.
  [[nodiscard]] static Call* current() noexcept;
  /// Whether this thread works for a caller who is gone.
  [[nodiscard]] static bool left_by_caller();
};

/// Threads that make the calls to one token, so that a caller can leave at its deadline while the driver hangs.
///
/// A call owns its arguments and its result. The thread of one that was left is written off: another takes its place, up
/// to as many as there may be threads. It ends, or goes on with other calls, when the driver lets it go.
///
/// Thread safety: all members may run concurrently.
class CallThreads {
 public:
  /// @param token  for messages.
  /// @param most   how many threads at a time, at least 1.
  CallThreads(std::string token, std::size_t most);
  CallThreads(const CallThreads&) = delete;
  CallThreads& operator=(const CallThreads&) = delete;
  /// Does not wait for calls that were left.
  ~CallThreads();

  /// Runs work in one of the threads, in the order of arrival, with the caller's deadline; in a thread of this kind, at
  /// once.
  ///
  /// @param work  owns everything it refers to.
  /// @throws TokenUnavailableError  no end by the deadline; what it throws itself otherwise.
  template <typename Work>
  auto run(Work work) {
    using Result = decltype(work());
    if (Call::current() != nullptr) return work();
    struct Kept {
      explicit Kept(Work w) : work(std::move(w)) {}
      Work work;
      std::optional<Result> result;
    };
    auto kept = std::make_shared<Kept>(std::move(work));
    wait_for([kept] { kept->result.emplace(kept->work()); });
    return std::move(*kept->result);
  }

  /// How many threads hang in calls that were left.
  [[nodiscard]] std::size_t stuck() const;

 private:
  struct State;
  void wait_for(std::function<void()> work);
  static void add_thread(const std::shared_ptr<State>& state);
  static void serve(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace hsmseal::keywrap
