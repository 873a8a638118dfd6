#include <hsmseal/probe.hpp>

#include <algorithm>
#include <chrono>
#include <set>
#include <string>

#include <hsmseal/deadline.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using test::error_of;
using test::FaultFor;
using test::FaultyHsm;
using Outcome = ProbeCheck::Outcome;

namespace {

const ProbeCheck& named(const std::vector<ProbeCheck>& checks, std::string_view name) {
  const auto found = std::ranges::find(checks, name, &ProbeCheck::name);
  REQUIRE(found != checks.end());
  return *found;
}

/// Neither in the token nor, while the driver stays loaded, as session objects.
void check_no_key_left(const FaultyHsm& hsm) {
  CHECK_FALSE(test::logged_in(hsm, "one").find_key({.label = "hsmseal-probe"}));
}

}  // namespace

TEST_CASE("a probe of a token that is well finds how it wraps, and leaves nothing") {
  const FaultyHsm hsm;
  const auto report = probe_token(hsm.host(), "one", {.timed_calls = 3});
  CHECK(report.chosen == WrapProfile{});
  REQUIRE(report.trials.size() == 1);
  CHECK(report.trials[0].works());
  CHECK(report.token.label == "one");
  CHECK_FALSE(report.driver.description.empty());
  CHECK(std::ranges::any_of(report.mechanisms, [](const auto& one) { return one.name == "CKM_AES_GCM"; }));
  std::set<std::string> names;
  for (const auto* checks : {&report.trials[0].checks, &report.sessions}) {
    for (const ProbeCheck& check : *checks) {
      CAPTURE(check.name, check.detail);
      CHECK(check.outcome == Outcome::Passed);
      CHECK_FALSE(check.title.empty());
      CHECK(names.insert(check.name).second);
    }
  }
  CHECK(names.size() == 18);
  CHECK_NAMES(named(report.sessions, "wrong-tag").detail, "C_Decrypt");
  CHECK(report.times.size() == 5);
  for (const CallTime& time : report.times) {
    CHECK(time.calls == 3);
    CHECK(time.median.count() > 0);
    CHECK(time.slowest >= time.median);
  }
  check_no_key_left(hsm);
  CHECK(hsm.calls("C_Finalize") == 0);
  CHECK(hsm.calls("C_Logout") == 0);
}

TEST_CASE("a probe tries what is asked for, and nothing else") {
  const FaultyHsm hsm;
  const auto report = probe_token(hsm.host(), "one", {.algorithm = WrapAlgorithm::Aes256CbcHmac, .timed_calls = 0});
  REQUIRE(report.trials.size() == 1);
  CHECK(report.trials[0].works());
  REQUIRE(report.chosen);
  CHECK(report.chosen->algorithm == WrapAlgorithm::Aes256CbcHmac);
  CHECK(named(report.trials[0].checks, "mac-is-hmac").detail.empty());  // it was compared
  CHECK(named(report.sessions, "wrong-tag").outcome == Outcome::NotTried);
  CHECK(report.times.empty());
  check_no_key_left(hsm);
  const FaultFor now(hsm, "gcm_iv append12");
  const GcmForm appends{.iv_rule = IvRule::TokenAppends};
  CHECK(probe_token(hsm.host(), "one", {.gcm = appends, .timed_calls = 0}).chosen == WrapProfile{.gcm = appends});
}

TEST_CASE("a probe tells which check failed, and what add() would do then") {
  const FaultyHsm hsm;
  {
    const FaultFor now(hsm, "gcm_iv writeback");
    const auto report = probe_token(hsm.host(), "one", {.timed_calls = 0});
    REQUIRE(report.trials.size() == 3);
    CHECK_FALSE(report.trials[0].works());
    CHECK(named(report.trials[0].checks, "gcm-wraps").outcome == Outcome::Failed);
    CHECK(named(report.trials[0].checks, "gcm-hides").outcome == Outcome::NotTried);
    CHECK(report.chosen->algorithm == WrapAlgorithm::Aes256CbcHmac);
  }
  {
    const FaultFor now(hsm, "gcm_no_tag");
    const auto report = probe_token(hsm.host(), "one", {.timed_calls = 0});
    CHECK_FALSE(report.chosen);
    CHECK(report.trials.size() == 1);  // such a token is not tried further
    CHECK(named(report.trials[0].checks, "gcm-changed-iv").outcome == Outcome::Failed);
    CHECK(named(report.sessions, "key-found").outcome == Outcome::NotTried);
    CHECK(named(report.sessions, "login").outcome == Outcome::Passed);
  }
  check_no_key_left(hsm);
}

TEST_CASE("a probe makes token objects where session objects do not do, and destroys them") {
  const FaultyHsm hsm;
  const FaultFor now(hsm, "generate_sets CKA_TOKEN 1");
  hsm.reset();
  const auto report = probe_token(hsm.host(), "one", {.timed_calls = 0});
  CHECK(report.chosen == WrapProfile{});
  CHECK(hsm.calls("C_GenerateKey") == 2);
  CHECK(hsm.calls("C_DestroyObject") == 2);
  check_no_key_left(hsm);
}

TEST_CASE("a probe says what is wrong with sessions and with answers to a wrong tag") {
  const FaultyHsm hsm;
  {
    const FaultFor now(hsm, "session_limit 4");
    const auto report = probe_token(hsm.host(), "one", {.timed_calls = 0});
    CHECK(report.chosen);
    const ProbeCheck& sessions = named(report.sessions, "sessions-side-by-side");
    CHECK(sessions.outcome == Outcome::Failed);
    CHECK_NAMES(sessions.detail, "CKR_SESSION_COUNT");
  }
  const FaultFor now(hsm, "gcm_bad_tag CKR_ENCRYPTED_DATA_INVALID");
  CHECK(named(probe_token(hsm.host(), "one", {.timed_calls = 0}).sessions, "wrong-tag").detail ==
        "CKR_ENCRYPTED_DATA_INVALID (C_Decrypt)");
}

TEST_CASE("what keeps a probe from anything is thrown") {
  const FaultyHsm hsm;
  CHECK_THROWS_AS(probe_token(hsm.host(), "none"), InvalidArgumentError);
  CHECK_THROWS_AS(probe_token(hsm.host(), "one", {.timed_calls = 10'001}), InvalidArgumentError);
  const FaultFor now(hsm, "fail C_GenerateKey CKR_FUNCTION_NOT_SUPPORTED");
  CHECK(error_of<TokenError>([&] { return probe_token(hsm.host(), "one"); }).function() == "C_GenerateKey");
}

TEST_CASE("a probe of a driver that hangs is left at the deadline") {
  const FaultyHsm hsm;
  static_cast<void>(probe_token(hsm.host(), "one", {.timed_calls = 0}));  // its start and its login are not waited for
  hsm.apply("hang C_Encrypt forever");
  {
    const Deadline soon{std::chrono::milliseconds{500}};
    const auto error = error_of<TokenUnavailableError>([&] { return probe_token(hsm.host(), "one"); });
    CHECK(error.retryable());
  }
  CHECK(hsm.fired("hang") == 1);
}
