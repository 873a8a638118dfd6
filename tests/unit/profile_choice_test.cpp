#include "keywrap/profile_choice.hpp"

#include "support/catch.hpp"
#include "support/expect_error.hpp"

using namespace hsmseal;
using keywrap::profiles_to_try;

namespace {

constexpr WrapProfile kCbcHmac{WrapAlgorithm::Aes256CbcHmac, {}};
constexpr GcmForm kFiveFields{.parameters = GcmParameters::WithoutIvBits};
constexpr GcmForm kAppends{.iv_rule = IvRule::TokenAppends, .iv_bytes = 16};

WrapProfile gcm(const GcmForm& form) { return {.algorithm = WrapAlgorithm::Aes256Gcm, .gcm = form}; }

}  // namespace

TEST_CASE("of an unknown driver the caller's IV is tried, and then AES-CBC with HMAC") {
  CHECK(profiles_to_try({}, nullptr) == std::vector{gcm({}), gcm(kFiveFields), kCbcHmac});
  CHECK(profiles_to_try({.algorithm = WrapAlgorithm::Aes256Gcm}, nullptr) == std::vector{gcm({}), gcm(kFiveFields)});
  CHECK(profiles_to_try({.algorithm = WrapAlgorithm::Aes256CbcHmac}, nullptr) == std::vector{kCbcHmac});
}

TEST_CASE("a token is asked to make an IV only where the operator or its vendor says that it does") {
  Vendor vendor;
  for (const WrapProfile& profile : profiles_to_try({}, &vendor)) CHECK(profile.gcm.iv_rule == IvRule::Caller);
  vendor.gcm_forms = {{kAppends, "its manual"}, {GcmForm{}, "its manual"}};
  CHECK(profiles_to_try({}, &vendor) == std::vector{gcm(kAppends), gcm({}), gcm(kFiveFields), kCbcHmac});
  CHECK(profiles_to_try({.gcm = kAppends}, nullptr) == std::vector{gcm(kAppends)});
  CHECK(profiles_to_try({.gcm = GcmForm{}}, &vendor) == std::vector{gcm({})});
}

TEST_CASE("AES-GCM is not tried where its vendor has none, unless the operator says so") {
  Vendor vendor;
  vendor.has_gcm = Documented<bool>{false, "its manual"};
  CHECK(profiles_to_try({}, &vendor) == std::vector{kCbcHmac});
  CHECK(profiles_to_try({.algorithm = WrapAlgorithm::Aes256Gcm}, &vendor).front() == gcm({}));
}

TEST_CASE("a vendor's ceiling lowers hsmseal's own, to whole blocks, and does not raise it") {
  Vendor vendor;
  for (const auto& [documented, most] :
       std::vector<std::pair<std::uint32_t, std::uint32_t>>{{65536, 4096}, {4096, 4096}, {2021, 2016}, {16, 16}}) {
    vendor.max_plaintext = Documented<std::uint32_t>{documented, "its manual"};
    const auto profiles = profiles_to_try({}, &vendor);
    REQUIRE(profiles.size() == 3);
    for (const WrapProfile& profile : profiles) CHECK(profile.max_plaintext == most);
  }
}

TEST_CASE("a profile is told in words") {
  CHECK(keywrap::describe(gcm({})) == "AES-GCM with the caller's IV");
  CHECK(keywrap::describe(gcm(kAppends)) == "AES-GCM with the token's IV behind the tag, 16 bytes");
  CHECK(keywrap::describe(gcm({.mechanism = 0x8000011c, .parameters = GcmParameters::WithoutIvBits})) ==
        "AES-GCM with the caller's IV, mechanism 0x8000011c, parameters of five fields");
  CHECK(keywrap::describe(kCbcHmac) == "AES-CBC with HMAC-SHA-256");
}
