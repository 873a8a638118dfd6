#include "keywrap/circuit.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "pkcs11/driver.hpp"

namespace hsmseal::keywrap {

Circuit::Circuit(std::string token, const CircuitBreaker& limits) : token_(std::move(token)), limits_(limits) {}

Circuit::Admission Circuit::admit(Time now) {
  using std::chrono::duration_cast, std::chrono::milliseconds;
  const std::scoped_lock lock{mutex_};
  if (!open_) return Admission::Regular;
  if (now >= next_try_ && !probing_) {
    probing_ = true;
    return Admission::Probe;
  }
  const auto left = std::max(duration_cast<milliseconds>(next_try_ - now), milliseconds{0});
  throw TokenUnavailableError(
      pkcs11::failure("", CKR_TOKEN_NOT_PRESENT),
      fmt::format("token '{}' has failed {} times since {} ms ago and was not asked; it is tried again {}; last: {}",
                  token_, failures_, duration_cast<milliseconds>(now - first_failure_).count(),
                  probing_ ? "at this moment" : fmt::format("in {} ms", left.count()), why_));
}

Circuit::Change Circuit::worked() noexcept {
  const std::scoped_lock lock{mutex_};
  const bool was_open = std::exchange(open_, false);
  failures_ = 0;
  probing_ = false;
  return was_open ? Change::Closed : Change::None;
}

Circuit::Change Circuit::failed(Admission as, Time now, const std::string& why) {
  const std::scoped_lock lock{mutex_};
  if (failures_++ == 0) first_failure_ = now;
  why_ = why;
  const bool probed = as == Admission::Probe;
  if (open_ && !probed) return Change::None;  // it was under way when the circuit opened
  if (failures_ < limits_.failures) return Change::None;
  pause_ = probed ? std::min(2 * pause_, limits_.longest_pause) : limits_.pause;
  probing_ = false;
  next_try_ = now + pause_;
  return std::exchange(open_, true) ? Change::None : Change::Opened;
}

void Circuit::neither_worked_nor_failed(Admission as) noexcept {
  if (as != Admission::Probe) return;
  const std::scoped_lock lock{mutex_};
  probing_ = false;
}

}  // namespace hsmseal::keywrap
