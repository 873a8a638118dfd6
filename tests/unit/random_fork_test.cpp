#include <array>
#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <thread>

#include "crypto/crypto.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"

using namespace hsmseal;

namespace {

using Fill = void (*)(std::span<std::byte>);

std::string random_text(Fill fill) {
  std::string text(32, '\0');
  fill(std::as_writable_bytes(std::span{text}));
  return text;
}

/// What a child draws.
std::string childs_random_text(Fill fill) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const int status = test::exit_status_of([&] {
    const std::string text = random_text(fill);
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
  const Fill fill = GENERATE(&crypto::random_fill, &crypto::draw_random);
  std::set<std::string> seen{random_text(fill)};  // whatever state there is has been made before the first fork
  for (std::size_t child = 0; child < 8; ++child) {
    CHECK(seen.insert(childs_random_text(fill)).second);
    CHECK(seen.insert(random_text(fill)).second);
  }
  CHECK(seen.size() == 17);
}

TEST_CASE("no two draws from a thread's supply are the same, in whatever pieces they come", "[unit]") {
  std::set<std::string> seen;
  std::size_t draws = 0;
  const auto draw = [&](std::size_t size) {
    std::string text(size, '\0');
    crypto::draw_random(std::as_writable_bytes(std::span{text}));
    seen.insert(text);
    ++draws;
  };
  for (int i = 0; i < 1000; ++i) {
    for (const std::size_t size : {12U, 32U, 63U, 64U, 65U, 100U}) draw(size);
  }
  CHECK(seen.size() == draws);
}

TEST_CASE("threads have supplies of their own", "[unit]") {
  const std::string here = random_text(&crypto::draw_random);
  std::string there;
  std::thread{[&] { there = random_text(&crypto::draw_random); }}.join();
  CHECK(here != there);
}
