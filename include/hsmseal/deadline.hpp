#pragma once

#include <chrono>

#include <hsmseal/export.hpp>

namespace hsmseal {

/// Until when what this thread does next may wait for tokens.
///
/// Every operation of EnvelopeEncryptor and KeyRing sets one of its own (EnvelopeOptions::deadline,
/// RingOptions::deadline). An application may set an earlier one around a call:
///
///     const hsmseal::Deadline soon{std::chrono::milliseconds{200}};
///     const auto secret = vault.open(sealed, context);
///
/// Deadlines nest, and the earliest counts. They bind waiting, for sessions, for recoveries and between tries; a call that
/// hangs inside a driver is left at the deadline only with HangPolicy::Isolated.
///
/// Lifetime: of the scope it stands in; destroyed in the thread that made it.
/// Thread safety: each thread has its own.
class HSMSEAL_API Deadline {
 public:
  /// By the clock that deadlines are measured with.
  using Time = std::chrono::steady_clock::time_point;

  /// @param from_now  zero or less: what would wait does not.
  explicit Deadline(std::chrono::milliseconds from_now) noexcept;
  /// A point in time; Time::max() leaves that of the surrounding scope.
  explicit Deadline(Time until) noexcept;
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline();

  /// The earliest of those this thread has set; Time::max() if there is none. For implementations of KeyWrapper and
  /// KeyProvider that wait.
  [[nodiscard]] static Time current() noexcept;

 private:
  const Time outer_;
};

}  // namespace hsmseal
