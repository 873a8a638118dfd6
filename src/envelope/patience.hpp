#pragma once

#include <chrono>
#include <cstddef>
#include <stop_token>
#include <string>

#include <hsmseal/error.hpp>
#include <hsmseal/rewrap.hpp>

namespace hsmseal::envelope {

/// Whose an error is.
enum class Fault : std::uint8_t {
  Row,      ///< this row's, and no other's
  Passing,  ///< a token's or a store's, which may be over soon
  Lasting,  ///< not to be tried again by itself
};

[[nodiscard]] Fault fault_of(const Error& error) noexcept;

/// Thrown where a run ends because that was asked for.
struct Stopped {};

/// Thrown where a run ends because a token or a store does not work.
struct GivenUp {
  ErrorCode code;
  std::string message;
};

/// Tries again, waits and stops as the options of a run say.
///
/// Thread safety: members may run concurrently.
class Patience {
 public:
  Patience(const RewrapOptions& options, std::stop_token stop) : options_(options), stop_(std::move(stop)) {}

  [[nodiscard]] bool stopping() const noexcept { return stop_.stop_requested(); }

  /// @throws Stopped
  void check() const {
    if (stopping()) throw Stopped{};
  }

  /// Waits. @throws Stopped
  void pause(std::chrono::nanoseconds time) const;

  /// How long to wait after so many failures in a row.
  [[nodiscard]] std::chrono::milliseconds pause_after(std::size_t failures) const noexcept;

  /// Runs `work`, again as long as its failures may pass.
  /// @throws GivenUp, Stopped, and what `work` throws that is a row's fault or no Error.
  template <typename Work>
  auto run(const Work& work) const {
    for (std::size_t failures = 1;; ++failures) {
      check();
      try {
        return work();
      } catch (const Error& error) {
        const Fault fault = fault_of(error);
        if (fault == Fault::Row) throw;
        if (fault == Fault::Lasting || failures >= options_.retry.attempts) throw GivenUp{error.code(), error.what()};
      }
      pause(pause_after(failures));
    }
  }

 private:
  const RewrapOptions& options_;
  const std::stop_token stop_;
};

}  // namespace hsmseal::envelope
