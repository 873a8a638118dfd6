#include <string>
#include <vector>

#include "support/catch.hpp"

#include "cli/faulty_scene.hpp"

namespace hsmseal::test {
namespace {

/// All of a report but what passed, and how it ended.
std::string conformance(const std::string& options) {
  return "hsmseal conformance bad --calls 0 " + options +
         " > report; code=$?; grep -E '^(profile|chosen|verdict)|FAILED' report; exit $code";
}

/// A token that does AES-GCM its own way, and what the operator must say of it.
struct Way {
  std::string faults, options;
};

const std::vector<Way> kWays = {
    {"renumber", "--gcm-iv caller"},
    {"gcm_iv writeback", "--gcm-iv token-writes"},
    {"gcm_iv append12", "--gcm-iv token-appends"},
    {"gcm_iv append16", "--gcm-iv token-appends --gcm-iv-bytes 16"},
    {"gcm_iv prepend", "--gcm-iv token-prepends"},
    {"gcm_layout five", "--gcm-iv caller --gcm-parameters without-iv-bits"},
    {"gcm_mechanism 0x8000011c", "--gcm-iv caller --gcm-mechanism 0x8000011c"},
};

}  // namespace

TEST_CASE("doctor and conformance serve a token under every IV rule, and refuse it under another") {
  FaultyScene faulty;
  for (const Way& way : kWays) {
    INFO(way.faults);
    CHECK(faulty.with(way.faults, "hsmseal doctor --no-ring").exit_code == 0);
    CHECK(faulty.with(way.faults, conformance(way.options)).exit_code == 0);
    const bool appends = way.options.find("token-appends") != std::string::npos;
    const std::string other = appends ? "--gcm-iv token-prepends" : "--gcm-iv token-appends";
    CHECK(faulty.with(way.faults, conformance(other)).exit_code == 13);
  }
  faulty.scene().matches("iv_rules");
}

TEST_CASE("conformance refuses tokens whose IVs repeat, and those that do CBC or MACs wrong, with exit code 13") {
  FaultyScene faulty;
  for (const Way& way : std::vector<Way>{
           {"gcm_iv writeback\ngcm_ivs repeated", "--gcm-iv token-writes"},
           {"gcm_iv append12\ngcm_ivs repeated", "--gcm-iv token-appends"},
           {"gcm_iv prepend\ngcm_no_aad", "--gcm-iv token-prepends"},
           {"gcm_iv longer", "--gcm-iv token-writes"},
           {"gcm_bad_tag CKR_DEVICE_REMOVED", "--algorithm gcm"},
           {"cbc_plain", "--algorithm cbc-hmac"},
           {"cbc_garbage", "--algorithm cbc-hmac"},
           {"mac same", "--algorithm cbc-hmac"},
           {"mac drawn", "--algorithm cbc-hmac"},
           {"mac other", "--algorithm cbc-hmac"},
           {"random repeated", "--algorithm gcm"},
           {"session_limit 4", "--algorithm gcm"},
           {"find duplicates", "--algorithm gcm"},
       }) {
    const Ran ran = faulty.with(way.faults, conformance(way.options));
    INFO(way.faults);
    CHECK(ran.exit_code == 13);
    CHECK(ran.output.find("FAILED") != std::string::npos);
  }
  faulty.scene().matches("not_conformant");
}

TEST_CASE("doctor leaves a driver that hangs, tells where, and goes on with the next token") {
  FaultyScene faulty{{"hsm1"}};
  const std::string doctor = "hsmseal doctor --no-ring ";
  // What comes before a hanging call must be done in time; what hangs at the start does not wait for anything.
  for (const std::string fault : {"hang C_Initialize forever", "hang C_Login forever", "hang C_Encrypt forever"}) {
    const bool at_start = fault.find("C_Initialize") != std::string::npos;
    const Ran ran = faulty.with(fault, doctor + (at_start ? "--deadline 2s" : "--deadline 4s"));
    INFO(fault);
    CHECK(ran.exit_code == 12);
    CHECK(ran.output.find("does not return from") != std::string::npos);
    CHECK(ran.output.find("token 'hsm1': the login works") != std::string::npos);
  }
  const Ran ran = faulty.with("hang C_Encrypt forever", "hsmseal conformance bad --deadline 4s --json");
  CHECK(ran.exit_code == 4);
  CHECK(faulty.with("delay C_Encrypt 1", doctor + "--deadline soon").exit_code == 2);
  faulty.scene().matches("hanging_drivers");
}

}  // namespace hsmseal::test
