#include <chrono>
#include <utility>

#include <hsmseal/error.hpp>

#include "keywrap/circuit.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"

using hsmseal::CircuitBreaker;
using hsmseal::TokenUnavailableError;
using hsmseal::keywrap::Circuit;
using namespace std::chrono_literals;

namespace {

using Change = Circuit::Change;

/// A circuit of three failures, 1 s and at most 3 s, and its clock.
struct Tried {
  Circuit circuit{"prod", CircuitBreaker{.failures = 3, .pause = 1s, .longest_pause = 3s}};
  Circuit::Time now{1h};
  Circuit::Admission admission = Circuit::Admission::Regular;  ///< the last one

  [[nodiscard]] bool lets_through() {
    try {
      admission = circuit.admit(now);
      return true;
    } catch (const TokenUnavailableError&) {
      return false;
    }
  }
  Change fail() {
    return circuit.failed(std::exchange(admission, Circuit::Admission::Regular), now, "C_Encrypt failed");
  }
};

}  // namespace

TEST_CASE("a circuit opens after failures in a row alone") {
  Tried tried;
  CHECK(tried.fail() == Change::None);
  CHECK(tried.fail() == Change::None);
  CHECK(tried.circuit.worked() == Change::None);
  CHECK(tried.fail() == Change::None);
  CHECK(tried.fail() == Change::None);
  CHECK(tried.lets_through());
  CHECK(tried.fail() == Change::Opened);
  CHECK_FALSE(tried.lets_through());
  CHECK(tried.fail() == Change::None);  // one that was under way
}

TEST_CASE("an open circuit says since when, why, and when it is tried again") {
  Tried tried;
  tried.fail();
  tried.now += 250ms;
  tried.fail();
  tried.fail();
  tried.now += 400ms;
  const auto message =
      hsmseal::test::message_of<TokenUnavailableError>([&] { static_cast<void>(tried.circuit.admit(tried.now)); });
  for (const char* part : {"'prod'", "3 times", "650 ms ago", "in 600 ms", "C_Encrypt failed"}) {
    CAPTURE(message, part);
    CHECK(message.find(part) != std::string::npos);
  }
}

TEST_CASE("one operation at a time looks whether the token is back, after pauses that double") {
  Tried tried;
  for (int i = 0; i < 3; ++i) tried.fail();
  for (const auto pause : {1000ms, 2000ms, 3000ms, 3000ms}) {
    tried.now += pause - 1ms;
    CHECK_FALSE(tried.lets_through());
    tried.now += 1ms;
    CHECK(tried.lets_through());
    CHECK_FALSE(tried.lets_through());
    CHECK(tried.fail() == Change::None);
  }
  tried.now += 3s;
  CHECK(tried.lets_through());
  CHECK(tried.circuit.worked() == Change::Closed);
  CHECK(tried.lets_through());
  // The pause begins anew.
  for (int i = 0; i < 3; ++i) tried.fail();
  tried.now += 1s;
  CHECK(tried.lets_through());
}

TEST_CASE("a probe that ends for the caller's own fault leaves the next one to find out") {
  Tried tried;
  for (int i = 0; i < 3; ++i) tried.fail();
  tried.now += 1s;
  CHECK(tried.lets_through());
  tried.circuit.neither_worked_nor_failed(tried.admission);
  CHECK(tried.lets_through());
}

TEST_CASE("what was under way when a circuit opened says nothing of its probe") {
  Tried tried;
  for (int i = 0; i < 3; ++i) tried.fail();
  tried.now += 1s;
  REQUIRE(tried.lets_through());
  const auto probe = std::exchange(tried.admission, Circuit::Admission::Regular);
  CHECK(tried.fail() == Change::None);
  CHECK_FALSE(tried.lets_through());
  tried.circuit.neither_worked_nor_failed(Circuit::Admission::Regular);
  CHECK_FALSE(tried.lets_through());
  tried.admission = probe;
  CHECK(tried.fail() == Change::None);
  tried.now += 1s;
  CHECK_FALSE(tried.lets_through());  // the pause was doubled once
  tried.now += 1s;
  CHECK(tried.lets_through());
}
