#include "core/flight.hpp"

#include <algorithm>

#include <hsmseal/error.hpp>

namespace hsmseal::core {
namespace {

/// So that std::future, which counts in another clock's time, need not know an endless wait.
constexpr std::chrono::hours kLongest{24};
/// For a thread that ends at its deadline to say so.
constexpr std::chrono::milliseconds kGrace{100};
/// What is slower than its callers' deadlines, but not slower than this, does not hang: a later caller has the good of it.
constexpr std::chrono::seconds kSlow{3};

Deadline::Time this_threads_end() { return std::min(Deadline::current(), std::chrono::steady_clock::now() + kLongest); }

}  // namespace

Flight::Flight()
    : overdue_(std::max(this_threads_end() + kGrace, std::chrono::steady_clock::now() + kSlow)),
      landing_(landed_.get_future().share()) {}

void Flight::fail(const std::exception_ptr& error) {
  if (std::chrono::steady_clock::now() >= Deadline::current()) return land();
  landed_.set_exception(error);
}

bool Flight::wait(const std::string& too_late) const {
  const auto end = this_threads_end();
  if (landing_.wait_until(std::min(end, overdue_)) == std::future_status::ready) {
    landing_.get();
    return true;
  }
  if (overdue_ <= end) return false;
  throw TokenUnavailableError({.function = "", .rv = 0xe0, .rv_name = "CKR_TOKEN_NOT_PRESENT", .retryable = true},
                              too_late);
}

}  // namespace hsmseal::core
