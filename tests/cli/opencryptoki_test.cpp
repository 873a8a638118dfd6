#include "support/opencryptoki.hpp"

#include <fmt/format.h>

#include "support/catch.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {
namespace {

void bind_token(Scene& scene, const std::string& pin, const std::string& more = "",
                const std::string& label = OpenCryptoki::kLabel) {
  scene.write("ock.pin", pin + "\n");
  scene.keep_secret(pin);
  scene.write("hsmseal.json",
              fmt::format(R"({{"tokens": {{"ock": {{"driver": "opencryptoki", "select": {{"label": "{}"}}, {}"pin": )"
                          R"({{"file": "ock.pin"}}}}}}, "store": "sqlite:ring.db", "ring_pin": "ring.pin"}})"
                          "\n",
                          label, more));
}

/// The transcripts of 3.8 and 3.23 differ: the newer one has AES-GCM.
std::string transcript(const OpenCryptoki& token, const std::string& what) {
  return fmt::format("opencryptoki_{}_{}", token.version(), what);
}

void name_driver(Scene& scene) {
  scene.replace(Host{}.driver_for({.driver = "opencryptoki"}).library.string(), "<opencryptoki>");
}

}  // namespace

TEST_CASE("openCryptoki: doctor and conformance find a good token to be good") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki token;
  Scene scene;
  name_driver(scene);
  bind_token(scene, token.pin());
  CHECK(scene.run("hsmseal doctor --no-ring").exit_code == 0);
  const Ran whole = scene.run("hsmseal conformance ock --report report");
  CHECK(whole.exit_code == 0);
  CHECK(whole.output.find("verdict: the token does what hsmseal needs") != std::string::npos);
  CHECK(scene.content_of("report").find(OpenCryptoki::kLabel) == std::string::npos);
  scene.run("hsmseal conformance ock --calls 0 --algorithm cbc-hmac > cbc; code=$?; grep FAILED cbc; exit $code");
  scene.run(
      "hsmseal conformance ock --calls 0 --algorithm gcm > gcm; code=$?; grep -E 'FAILED|verdict' gcm; exit $code");
  scene.matches(transcript(token, "good"));
}

TEST_CASE("openCryptoki: doctor and conformance name a wrong PIN, a lock, a daemon that is away, and their cures") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki token;
  Scene scene;
  name_driver(scene);
  const std::string name = transcript(token, "broken");  // asked while the daemon is there
  const std::string doctor = "hsmseal doctor --no-probe --no-ring";
  bind_token(scene, token.pin(), "", "elsewhere");
  scene.run(doctor);
  bind_token(scene, token.wrong_pin());
  scene.run("hsmseal conformance ock --report report");
  CHECK_FALSE(scene.exists("report"));
  bool locked = false;
  for (int tries = 0; tries < 8 && !locked; ++tries) {
    const Ran ran = scene.run(doctor);
    CHECK(ran.exit_code == 12);
    CHECK(ran.output.find("cure: ") != std::string::npos);
    locked = ran.output.find("locked") != std::string::npos;
    bind_token(scene, token.wrong_pin(), R"("low_pin_count": "try-once", )");
  }
  CHECK(locked);
  token.kill_daemon();
  const Ran away = scene.run(doctor);
  CHECK(away.exit_code == 12);
  CHECK(away.output.find("systemctl start pkcsslotd") != std::string::npos);
  CHECK(scene.run("hsmseal conformance ock").exit_code == 12);
  CHECK(scene.run("hsmseal ring create --token ock").exit_code == 4);
  scene.matches(name);
}

TEST_CASE("openCryptoki: doctor finds a set whose key is gone") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki token;
  Scene scene;
  name_driver(scene);
  bind_token(scene, token.pin());
  scene.prepare("hsmseal ring create --token ock");
  scene.run("hsmseal doctor --no-probe");
  const std::string key =
      scene.run("hsmseal ring show 1 --json | sed -n 's/.*\"key_id\": \"\\(.*\\)\".*/\\1/p'").output;
  REQUIRE(key.size() == 33);
  token.destroy_key_with_pkcs11_tool(key.substr(0, 32));
  CHECK(scene.run("hsmseal doctor --no-probe").exit_code == 12);
  CHECK(scene.run("hsmseal ring verify").exit_code == 6);
  scene.matches(transcript(token, "key_gone"));
}

TEST_CASE("openCryptoki: doctor tells a token that nobody initialised from one that is not there") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki token{Initialized::No};
  Scene scene;
  name_driver(scene);
  bind_token(scene, token.pin());
  const Ran blank = scene.run("hsmseal doctor --no-probe --no-ring");
  CHECK(blank.exit_code == 12);
  CHECK(blank.output.find("blank") != std::string::npos);
  scene.matches(transcript(token, "blank"));
}

}  // namespace hsmseal::test
