#include <string>

#include <hsmseal/error.hpp>

#include "ring/body.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace hsmseal;

namespace {

/// A body whose sets are left out, so that it is refused for that at the latest; a test looks at what comes before.
std::string body_with(const std::string& generation, const std::string& next_version) {
  return R"({"format":1,"former_ring_keys":[],"generation":)" + generation + R"(,"next_version":)" + next_version +
         R"(,"prev_mac":")" + std::string(64, '0') + R"(","ring_id":")" + std::string(32, '0') +
         R"(","sets":[],"settings":{"max_staleness":5000,"quarantine":604800000,"removal_grace":60000,)" +
         R"("usage_hard_limit":4294967296,"usage_soft_limit":2147483648}})";
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

TEST_CASE("an altered ring record is refused, or is another ring in canonical form") {
  // Two former keys, a deleted set whose key was destroyed, and the active one.
  ring::Body body = ring::from_text(test::record_of(test::Vectors::instance().entry("rings", "ring-6")).body);
  body.active().key.key_id.resize(1);
  const CredentialSet* const destroyed = body.find(7);
  REQUIRE((destroyed != nullptr && destroyed->key_destroyed_at && body.former_ring_keys.size() == 2));
  body.sets = {*destroyed, body.active()};
  const std::string good = ring::to_text(body);
  REQUIRE(ring::to_text(ring::from_text(good)) == good);
  std::size_t refused = 0, read = 0;
  const auto try_to_read = [&](const std::string& altered) {
    try {
      if (ring::to_text(ring::from_text(altered)) == altered) {
        ++read;
      } else {
        FAIL_CHECK("read otherwise than it was written: " << altered);
      }
    } catch (const RingTamperedError&) {
      ++refused;
    } catch (const StoreError&) {
      ++refused;  // a format that is not 1
    }
  };
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string flipped = good, without = good, twice = good;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
    try_to_read(flipped);
    try_to_read(without.erase(at, 1));
    try_to_read(twice.insert(at, 1, good[at]));
    if (at % 16 == 0) try_to_read(good.substr(0, at));
  }
  CHECK(refused + read == 3 * good.size() + (good.size() + 15) / 16);
  CHECK(refused > good.size());
  CHECK(read > 100);  // texts, times and hexadecimal digits: what the MAC alone holds together
}

TEST_CASE("values have the words of a ring's record, and what a provider made up has none that is read") {
  CHECK(to_string(SetState::Archived) == "archived");
  CHECK(to_string(IvRule::TokenAppends) == "token-appends");
  CHECK(to_string(GcmParameters::WithoutIvBits) == "without-iv-bits");
  CHECK(to_string(static_cast<SetState>(9)) == "unknown");
  CHECK(to_string(static_cast<IvRule>(9)) == "unknown");
}
