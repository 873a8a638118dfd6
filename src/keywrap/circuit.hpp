#pragma once

#include <chrono>
#include <mutex>
#include <string>

#include <hsmseal/pkcs11_key_wrapper.hpp>

namespace hsmseal::keywrap {

/// Keeps callers away from a token that has failed again and again, and lets one at a time through to see whether it is
/// back.
///
/// Thread safety: all members may run concurrently.
class Circuit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Circuit(std::string token, const CircuitBreaker& limits);

  enum class Change { None, Opened, Closed };
  /// As what an operation is let through.
  enum class Admission {
    Regular,
    Probe,  ///< the only one while the circuit is open
  };

  /// Asks to be let through; worked(), failed() or neither_worked_nor_failed() must follow.
  /// @throws TokenUnavailableError  not now; says since when, and why.
  [[nodiscard]] Admission admit(Time now);

  /// The token answered, whatever it said of the data.
  Change worked() noexcept;
  /// @param why  the error's message.
  Change failed(Admission as, Time now, const std::string& why);
  /// The caller's own fault.
  void neither_worked_nor_failed(Admission as) noexcept;

 private:
  const std::string token_;
  const CircuitBreaker limits_;
  std::mutex mutex_;
  unsigned failures_ = 0;  ///< without a success in between
  bool open_ = false;
  bool probing_ = false;
  std::chrono::milliseconds pause_{};
  Time first_failure_{}, next_try_{};
  std::string why_;
};

}  // namespace hsmseal::keywrap
