#include <hsmseal/deadline.hpp>

#include <algorithm>

namespace hsmseal {
namespace {

thread_local Deadline::Time earliest = Deadline::Time::max();

/// As far away as nobody waits, so that a sum of two does not run over.
constexpr std::chrono::hours kLongest{24 * 365};

}  // namespace

Deadline::Deadline(std::chrono::milliseconds from_now) noexcept
    : Deadline(std::chrono::steady_clock::now() +
               std::clamp<std::chrono::milliseconds>(from_now, -kLongest, kLongest)) {}

Deadline::Deadline(Time until) noexcept : outer_(earliest) { earliest = std::min(earliest, until); }

Deadline::~Deadline() { earliest = outer_; }

Deadline::Time Deadline::current() noexcept { return earliest; }

}  // namespace hsmseal
