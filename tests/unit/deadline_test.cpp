#include <chrono>
#include <thread>

#include <hsmseal/deadline.hpp>

#include "support/catch.hpp"

using hsmseal::Deadline;
using namespace std::chrono_literals;

TEST_CASE("the earliest of the deadlines around a call counts, and each ends with its scope") {
  CHECK(Deadline::current() == Deadline::Time::max());
  const Deadline::Time outer = std::chrono::steady_clock::now() + 1h;
  {
    const Deadline first{outer};
    CHECK(Deadline::current() == outer);
    {
      const Deadline earlier{outer - 1min};
      CHECK(Deadline::current() == outer - 1min);
      const Deadline later{outer + 1min};
      CHECK(Deadline::current() == outer - 1min);
      const Deadline none{Deadline::Time::max()};
      CHECK(Deadline::current() == outer - 1min);
    }
    CHECK(Deadline::current() == outer);
  }
  CHECK(Deadline::current() == Deadline::Time::max());
}

TEST_CASE("a deadline may be far away or over, and is that of its thread") {
  {
    const Deadline far{std::chrono::milliseconds::max()};
    CHECK(Deadline::current() > std::chrono::steady_clock::now() + 24h);
  }
  const Deadline over{-1ms};
  CHECK(Deadline::current() < std::chrono::steady_clock::now());
  std::thread{[] { CHECK(Deadline::current() == Deadline::Time::max()); }}.join();
}
