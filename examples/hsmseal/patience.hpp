#pragma once

#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include <CLI/CLI.hpp>

#include "failure.hpp"

namespace tool {

/// A driver did not return in time.
struct HangError : Failure {
  explicit HangError(const std::string& message) : Failure(Exit::Unavailable, message) {}
};

/// How long a driver may take for each thing that is asked of it. What a provider does has deadlines of its own; this is for
/// who looks into drivers without one.
class Patience {
 public:
  /// Adds --deadline.
  void add_to(CLI::App& command);

  /// @throws UsageError  the option is no length of time.
  void check() const;

  /// @param typed  how long a person may take for a PIN.
  void begin(std::chrono::milliseconds typed);

  /// Does work in a thread of its own, and leaves it there if it does not end in time.
  ///
  /// @param what  for people: `C_Login`, `the probe`.
  /// @param work  owns all that it refers to; what it owns is destroyed in its thread.
  /// @returns what work returns. @throws what work throws.
  /// @throws HangError
  template <typename Work>
  auto call(const std::string& what, Work work) const {
    using Result = std::invoke_result_t<Work&>;
    std::promise<Result> promise;
    auto result = promise.get_future();
    std::thread thread{[promise = std::move(promise), work = std::move(work)]() mutable {
      // Gone before the caller goes on, unless the driver hangs.
      const auto result_of = [](Work own) { return own(); };
      try {
        Result value = result_of(std::move(work));
        promise.set_value(std::move(value));
      } catch (...) {
        promise.set_exception(std::current_exception());
      }
    }};
    if (result.wait_for(each_) == std::future_status::timeout) leave(std::move(thread), what);
    thread.join();
    return result.get();
  }

  /// Whether a thread was left in a driver: then the process must end without what tidies up.
  [[nodiscard]] static bool left_some() noexcept;

 private:
  [[noreturn]] void leave(std::thread thread, const std::string& what) const;

  std::string given_ = {};
  std::chrono::milliseconds each_ = {};
};

}  // namespace tool
