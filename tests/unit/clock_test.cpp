#include <chrono>

#include <time.h>

#include <hsmseal/ring_options.hpp>

#include "support/catch.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;

namespace {

std::chrono::nanoseconds since_boot() { return time_since_boot().time_since_epoch(); }

std::chrono::nanoseconds awake() {
  timespec now{};
  REQUIRE(::clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

}  // namespace

TEST_CASE("the time since boot goes on and does not go back") {
  const auto first = since_boot();
  auto last = first;
  int moved = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto now = since_boot();
    if (now < last) FAIL("it went back");
    moved += now > last ? 1 : 0;
    last = now;
  }
  CHECK(moved > 0);
}

TEST_CASE("the time since boot is never behind a clock that stands still while the machine sleeps") {
  const auto before = awake();
  CHECK(since_boot() >= before - 1s);
}

TEST_CASE("a ring's clock is the time since boot, unless another one is given") {
  const auto clock = RingOptions{}.clock;
  REQUIRE(clock);
  const auto before = time_since_boot();
  const auto now = clock();
  CHECK(before <= now);
  CHECK(now <= time_since_boot());
}
