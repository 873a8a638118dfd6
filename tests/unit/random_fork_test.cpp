#include <array>
#include <cstddef>
#include <set>
#include <span>
#include <string>

#include "crypto/crypto.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"

using namespace hsmseal;

namespace {

std::string random_text() {
  std::string text(32, '\0');
  crypto::random_fill(std::as_writable_bytes(std::span{text}));
  return text;
}

/// What a child draws.
std::string childs_random_text() {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const int status = test::exit_status_of([&] {
    const std::string text = random_text();
    return ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
  });
  std::string text(32, '\0');
  const auto size = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  ::close(ends[1]);
  REQUIRE(status == 0);
  REQUIRE(size == static_cast<ssize_t>(text.size()));
  return text;
}

}  // namespace

TEST_CASE("a forked child draws other random bytes than its parent", "[unit]") {
  std::set<std::string> seen{random_text()};  // whatever state there is has been made before the first fork
  for (std::size_t child = 0; child < 8; ++child) {
    CHECK(seen.insert(childs_random_text()).second);
    CHECK(seen.insert(random_text()).second);
  }
  CHECK(seen.size() == 17);
}
