#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace hsmseal::test {

/// Threads that are joined, whatever happens; what the first of them throws, join() throws.
///
/// Checks of the test framework belong into the thread that runs the test.
class Threads {
 public:
  Threads() = default;
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { wait(); }

  template <typename Work>
  void start(Work work) {
    threads_.emplace_back([this, work = std::move(work)] {
      try {
        work();
      } catch (...) {
        const std::scoped_lock lock{mutex_};
        if (!failure_) failure_ = std::current_exception();
        failed_ = true;
      }
    });
  }

  /// Whether one of them has thrown, so that nobody waits for its work.
  [[nodiscard]] bool failed() const { return failed_; }

  void join() {
    wait();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void wait() {
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::atomic<bool> failed_ = false;
};

/// Sets a flag at the end of its scope: threads that run until it is set end also if the test fails before.
class SetAtEnd {
 public:
  explicit SetAtEnd(std::atomic<bool>& flag) : flag_(flag) {}
  SetAtEnd(const SetAtEnd&) = delete;
  SetAtEnd& operator=(const SetAtEnd&) = delete;
  ~SetAtEnd() { flag_ = true; }

 private:
  std::atomic<bool>& flag_;
};

/// Runs `work(0)` to `work(count - 1)`, each in a thread of its own.
template <typename Work>
void in_threads(std::size_t count, const Work& work) {
  Threads threads;
  for (std::size_t i = 0; i < count; ++i) threads.start([&work, i] { work(i); });
  threads.join();
}

}  // namespace hsmseal::test
