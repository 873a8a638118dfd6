#include "support/opencryptoki.hpp"
#include "support/catch.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {
namespace {

void bind_token(Scene& scene, const std::string& pin) {
  scene.write("ock.pin", pin + "\n");
  scene.keep_secret(pin);
  scene.write("hsmseal.json",
              std::string{R"({"tokens": {"ock": {"driver": "opencryptoki", "select": {"label": ")"} +
                  OpenCryptoki::kLabel +
                  R"("}, "pin": {"file": "ock.pin"}}}, "store": "sqlite:ring.db", "ring_pin": "ring.pin"})" + "\n");
}

}  // namespace

TEST_CASE("doctor and openCryptoki: all is well, the daemon is away, the PIN is wrong and then locked") {
  if (OpenCryptoki::ran_in_namespaces()) return;
  const OpenCryptoki token;
  Scene scene;
  scene.replace(Host{}.driver_for({.driver = "opencryptoki"}).library.string(), "<opencryptoki>");
  const std::string doctor =
      "hsmseal doctor --no-probe --no-ring 2>&1 | sed 's/[0-9]*\\.[0-9]*, of IBM/<version>, of IBM/; "
      "s/^ok .*model.*/ok       the token/'";
  bind_token(scene, token.pin());
  CHECK(scene.run(doctor).output.find("problems") == std::string::npos);
  bind_token(scene, token.wrong_pin());
  for (int tries = 0; tries < 8; ++tries) {
    const Ran ran = scene.run(doctor);
    CHECK(ran.output.find("cure: ") != std::string::npos);
    if (ran.output.find("locked") != std::string::npos) break;
    scene.write("hsmseal.json",
                std::string{R"({"tokens": {"ock": {"driver": "opencryptoki", "low_pin_count": "try-once", )"} +
                    R"("select": {"label": ")" + OpenCryptoki::kLabel + R"("}, "pin": {"file": "ock.pin"}}}})" + "\n");
  }
  token.kill_daemon();
  const Ran away = scene.run(doctor);
  CHECK(away.output.find("systemctl start pkcsslotd") != std::string::npos);
  scene.matches("opencryptoki");
}

}  // namespace hsmseal::test
