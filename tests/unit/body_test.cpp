#include <string>

#include <hsmseal/error.hpp>

#include "ring/body.hpp"
#include "support/catch.hpp"

using namespace hsmseal;

namespace {

/// A body whose sets are left out, so that it is refused for that at the latest; a test looks at what comes before.
std::string body_with(const std::string& generation, const std::string& next_version) {
  return R"({"format":1,"generation":)" + generation + R"(,"next_version":)" + next_version + R"(,"prev_mac":")" +
         std::string(64, '0') + R"(","ring_id":")" + std::string(32, '0') + R"(","sets":[]})";
}

std::string refusal(const std::string& text) {
  try {
    static_cast<void>(ring::from_text(text));
  } catch (const RingTamperedError& error) {
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

}  // namespace

TEST_CASE("a ring record of nothing but brackets ends at the first too many") {
  CHECK(refusal(std::string(1'000'000, '[')).find("nested too deep") != std::string::npos);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += R"({"sets":)";
  CHECK(refusal(objects).find("nested too deep") != std::string::npos);
}

TEST_CASE("numbers of a ring record that fit nowhere are refused, not converted") {
  for (const char* const number :
       {"1e300", "-1e30", "-1", "1.0", "1e0", "18446744073709551616", "9223372036854775808", "null", "true", "\"1\""}) {
    CHECK(refusal(body_with(number, "2")).find("generation is no number, or out of range") != std::string::npos);
    CHECK(refusal(body_with("1", number)).find("next_version is no number, or out of range") != std::string::npos);
  }
  CHECK(refusal(body_with("1", "4294967296")).find("out of range") != std::string::npos);
  CHECK(refusal(body_with("1", "2")).find("not exactly one set is active") != std::string::npos);
}
