#include "platform/platform.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"

using hsmseal::platform::forks;
using hsmseal::test::exit_status_of;

TEST_CASE("a process knows how often it was forked", "[unit]") {
  CHECK(forks() == 0);
  CHECK(exit_status_of([] { return forks() == 1; }) == 0);
  CHECK(exit_status_of([] { return forks() == 1; }) == 0);  // the next child is not the second one's child
  CHECK(exit_status_of([] {
          const auto own = forks();
          const int grandchild = exit_status_of([] { return forks() == 2; });
          return own == 1 && grandchild == 0 && forks() == 1;
        }) == 0);
  CHECK(forks() == 0);
}
