#pragma once

#include <chrono>
#include <functional>

namespace hsmseal::test {

/// A clock that is two seconds later each time it is asked, so that a ring never waits before it reads its store again.
inline std::function<std::chrono::steady_clock::time_point()> hurried_clock() {
  return [now = std::chrono::steady_clock::time_point{}]() mutable { return now += std::chrono::seconds{2}; };
}

}  // namespace hsmseal::test
