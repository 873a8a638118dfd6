#include <string>
#include <vector>

#include "support/catch.hpp"

#include "cli/faulty_scene.hpp"

namespace hsmseal::test {
namespace {

const std::vector<std::string> kBadTokens = {
    "gcm_no_aad", "gcm_no_tag", "gcm_plain", "gcm_same", "gcm_iv replace", "mechanism_refused CKM_AES_GCM",
};

}  // namespace

TEST_CASE("conformance shows what a good token does, and writes a report that is never overwritten") {
  Scene scene{{"hsm1", "private"}};
  scene.write_host_file();
  const Ran ran = scene.run("hsmseal conformance hsm1 --report report.txt");
  CHECK(ran.exit_code == 0);
  scene.run("hsmseal conformance hsm1 --report report.txt");
  scene.run("hsmseal conformance hsm1 --calls 0 --report named.txt --with-names > shown");
  CHECK(scene.run("hsmseal conformance hsm1 --calls 0 --algorithm cbc-hmac").exit_code == 0);
  CHECK(scene.content_of("report.txt").find("private") == std::string::npos);
  CHECK(scene.content_of("report.txt").find("hsm1") == std::string::npos);
  CHECK(scene.content_of("report.txt").find(scene.tokens().pin("hsm1")) == std::string::npos);
  CHECK(scene.content_of("report.txt").find("verdict: ") != std::string::npos);
  CHECK(scene.content_of("named.txt").find("other token: 'private'") != std::string::npos);
  scene.matches("conformance");
}

TEST_CASE("doctor and conformance have JSON documents, with the same findings and exit codes") {
  FaultyScene faulty;
  // Which mechanisms there are depends on what SoftHSM was built with.
  const std::string shown =
      " > out; code=$?; python3 -c \"import json; d = json.load(open('out')); "
      "d.get('mechanisms', ['none'])[1:] = []; print(json.dumps(d, indent=1))\"; exit $code";
  CHECK(faulty.with("renumber", "hsmseal doctor --no-ring --json").exit_code == 0);
  CHECK(faulty.with("gcm_no_aad", "hsmseal doctor --no-ring --json").exit_code == 12);
  CHECK(faulty.with("renumber", "hsmseal conformance bad --calls 0 --json" + shown).exit_code == 0);
  CHECK(faulty.with("gcm_no_aad", "hsmseal conformance bad --calls 0 --algorithm gcm --json" + shown).exit_code == 13);
  CHECK(faulty.with("slots_empty times=9", "hsmseal conformance bad --json").exit_code == 12);
  faulty.scene().matches("json_of_tokens");
}

TEST_CASE("doctor finds nothing wrong with a good host") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1");
  CHECK(scene.run("hsmseal doctor").exit_code == 0);
  scene.matches("doctor_good");
}

TEST_CASE("doctor, conformance and add refuse a token that is not to be trusted") {
  FaultyScene faulty;
  for (const std::string& fault : kBadTokens) {
    faulty.with(fault, "hsmseal doctor --no-ring");
    faulty.with(fault, "hsmseal conformance bad --calls 0 --algorithm gcm");
    faulty.with(fault, "hsmseal ring create --token bad --algorithm gcm");
    CHECK_FALSE(faulty.scene().exists("ring.pin"));
  }
  const std::string neither = "mechanism_refused CKM_AES_GCM\nfail C_SignInit CKR_MECHANISM_INVALID times=forever";
  faulty.with(neither, "hsmseal doctor --no-ring");
  faulty.with(neither, "hsmseal ring create --token bad");
  CHECK_FALSE(faulty.scene().exists("ring.pin"));
  faulty.scene().matches("bad_tokens");
}

TEST_CASE("doctor tells of a driver that fails, a PIN that locks and a token that is gone") {
  FaultyScene faulty;
  const std::string doctor = "hsmseal doctor --no-probe --no-ring";
  faulty.with("fail C_Initialize 0x80000384 times=9", doctor);
  faulty.with("fail C_GetInfo CKR_DEVICE_ERROR times=9", doctor);
  faulty.with("slots_empty times=9", doctor);
  faulty.with("fail C_OpenSession CKR_DEVICE_REMOVED times=9", doctor);
  faulty.with("fail C_Login CKR_DEVICE_ERROR times=9", doctor);
  faulty.with("session_max 4", "hsmseal doctor --no-ring");
  faulty.with("missing C_Encrypt", doctor);
  faulty.scene().write("bad.pin", "wrong\n");
  faulty.with("pin_tries 1", doctor);
  faulty.scene().matches("bad_drivers");
}

}  // namespace hsmseal::test
