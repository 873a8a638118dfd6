#include <filesystem>

#include "support/catch.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {
namespace {

const std::string kGood = R"("driver": "softhsm2", "select": {"label": "hsm1"}, "pin": {"file": "hsm1.pin"})";

/// One broken set-up, and what doctor says of it. No token is probed: what is wrong keeps it from that.
void diagnose(Scene& scene, const std::string& token_fields, const std::string& more = "") {
  scene.write("hsmseal.json", Scene::host_file_of(token_fields, more));
  const Ran ran = scene.run("hsmseal doctor --no-probe  # " + token_fields + more);
  INFO(token_fields << more);
  CHECK(ran.exit_code == 12);
  CHECK(ran.output.find("problem ") != std::string::npos);
  CHECK(ran.output.find("cure: ") != std::string::npos);
}

}  // namespace

TEST_CASE("doctor names what is wrong with a host file, and the cure") {
  Scene scene;
  scene.run("hsmseal doctor");
  scene.run("HSMSEAL_HOST=elsewhere.json hsmseal doctor");
  scene.write("hsmseal.json", "{\n  \"tokens\": {\n    \"hsm1\": {,}\n  }\n}\n");
  scene.run("hsmseal doctor");
  scene.write("hsmseal.json", Scene::host_file_of(kGood), "666");
  scene.run("hsmseal doctor");
  scene.run("chmod 600 hsmseal.json");
  scene.keep_secret("918273645");
  for (const std::string fields : {
           R"("driver": "softhsm2", "selct": {"label": "hsm1"}, "pin": {"file": "hsm1.pin"})",
           R"("Driver": "softhsm2", "select": {"label": "hsm1"}, "pin": {"file": "hsm1.pin"})",
           R"("driver": "softhsm2", "select": {"label": "hsm1"}, "pni": {"file": "hsm1.pin"})",
           R"("driver": "softhsm2", "select": {"label": "hsm1"}, "spare": {"file": "hsm1.pin"})",
           R"("driver": "softhsm2", "select": {"label": "hsm1"}, "pin": {"file": "hsm1.pin"}, "spare": 1)",
           R"("driver": "softhsm2", "select": {"label": "hsm1"}, "pin": {"pin": "918273645"})",
           R"("driver": "softhsm2", "select": {"label": "hsm1"}, "pin": "918273645")",
           R"("driver": "softhsm2", "select": {"label": "hsm1"}, "pin": {"file": "a", "prompt": true})",
           R"("driver": "softhsm2", "select": "pkcs11:tokn=hsm1", "pin": {"none": true})",
           R"("driver": "softhsm2", "select": {"slot": 3}, "pin": {"none": true})",
           R"("driver": "softhsm2", "select": {}, "pin": {"none": true})",
           R"("driver": "softhsm2", "select": {"label": "a"}, "pin": {"none": true}, "limits": {"max_sessions": 0})",
           R"("driver": "softhsm2", "select": {"label": "a"}, "pin": {"none": true}, "limits": {"max_sessions": "8"})",
           R"("driver": "softhsm2", "select": {"label": "a"}, "pin": {"none": true}, "calls": "sometimes")",
           R"("select": {"label": "hsm1"}, "pin": {"none": true})",
           R"("driver": "softhsm2", "select": {"label": "a"}, "pin": {"none": true}, "pin": {"prompt": true})",
       }) {
    diagnose(scene, fields);
  }
  scene.write("hsmseal.json", R"({"tokens": {
  "a": {"driver": "softhsm2", "environment": {"A": "1"}, "select": {"label": "a"}, "pin": {"none": true}},
  "b": {"driver": "softhsm2", "environment": {"A": "2"}, "select": {"label": "b"}, "pin": {"none": true}}}})");
  scene.run("hsmseal doctor");
  scene.write("hsmseal.json", R"({"tokens": {}})");
  scene.run("hsmseal doctor");
  scene.write("hsmseal.json", R"({"token": {"a": {}}, "store": "sqlite:ring.db"})");
  scene.run("hsmseal doctor");
  scene.write("hsmseal.json", R"({"store": "sqlite:ring.db"})");
  scene.run("hsmseal doctor");
  diagnose(scene, kGood, R"(, "store": {"ulr": "sqlite:ring.db"})");
  scene.matches("doctor_host_file");
}

TEST_CASE("doctor names what is wrong with a driver, and the cure") {
  Scene scene;
  const ScratchDirectory libraries{DirectoryUse::Libraries};
  const auto folder = libraries.path().string();
  scene.replace(folder, "<libraries>");
  const auto driver = [&](const std::string& name) {
    return "\"driver\": \"" + name + R"(", "select": {"label": "hsm1"}, "pin": {"file": "hsm1.pin"})";
  };
  const auto copy = [&](const std::filesystem::path& from, const std::string& name) {
    std::filesystem::copy_file(from, libraries.path() / name);
    std::filesystem::permissions(libraries.path() / name, std::filesystem::perms::owner_all);
  };
  diagnose(scene, driver("lunar"));
  diagnose(scene, driver("nshield"));
  diagnose(scene, driver(folder + "/absent.so"));
  diagnose(scene, driver("./here.so"));
  copy(SoftHsm::library(), "open.so");
  std::filesystem::permissions(libraries.path() / "open.so", std::filesystem::perms::all);
  diagnose(scene, driver(folder + "/open.so"));
  scene.prepare(
      "printf '\\177ELF\\001\\001\\001\\000\\000\\000\\000\\000\\000\\000\\000\\000\\003\\000\\050\\000 and more' > " +
      folder + "/of-arm.so; chmod 700 " + folder + "/of-arm.so");
  diagnose(scene, driver(folder + "/of-arm.so"));
  scene.prepare("echo 'int main;' > " + folder + "/text.so; chmod 700 " + folder + "/text.so");
  diagnose(scene, driver(folder + "/text.so"));
  copy(HSMSEAL_NOT_PKCS11_LIBRARY, "not-pkcs11.so");
  diagnose(scene, driver(folder + "/not-pkcs11.so"));
  copy(HSMSEAL_NEEDS_ABSENT_LIBRARY, "needs-absent.so");
  diagnose(scene, driver(folder + "/needs-absent.so"));
  scene.set("SOFTHSM2_CONF", scene.folder().string() + "/no-such.conf");
  diagnose(scene, driver("softhsm2"));
  scene.write("softhsm2.conf", "directories.tokendir = /no/such/folder\n");
  scene.set("SOFTHSM2_CONF", scene.folder().string() + "/softhsm2.conf");
  diagnose(scene, driver("softhsm2"));
  std::filesystem::create_directory(scene.folder() / "empty");
  scene.write("softhsm2.conf", "directories.tokendir = " + scene.folder().string() + "/empty\n");
  diagnose(scene, driver("softhsm2"));
  scene.matches("doctor_driver");
}

TEST_CASE("doctor names what is wrong with a token or its PIN, and the cure") {
  Scene scene{{"hsm1", "twin", "twin"}};
  const auto token = [](const std::string& select, const std::string& pin) {
    return R"("driver": "softhsm2", "select": )" + select + ", \"pin\": " + pin;
  };
  diagnose(scene, token(R"({"label": "hsm7"})", R"({"file": "hsm1.pin"})"));
  diagnose(scene, token(R"({"label": "twin"})", R"({"file": "hsm1.pin"})"));
  diagnose(scene, token(R"("pkcs11:token=hsm1;serial=12")", R"({"file": "hsm1.pin"})"));
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"none": true})"));
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"file": "absent.pin"})"));
  scene.write("open.pin", "12345678\n", "644");
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"file": "open.pin"})"));
  scene.write("empty.pin", "\n");
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"file": "empty.pin"})"));
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"environment": "HSM1_PIN"})"));
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"prompt": true})"));
  scene.write("wrong.pin", "no such PIN \n");
  scene.keep_secret("no such PIN");
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"file": "wrong.pin"})"));
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"file": "wrong.pin"})"));
  diagnose(scene, token(R"({"label": "hsm1"})", R"({"file": "hsm1.pin"})"));
  scene.write("hsmseal.json", Scene::host_file_of(kGood + R"(, "low_pin_count": "try-once")"));
  scene.run("hsmseal doctor --no-probe");
  scene.run("hsmseal doctor --no-probe hsm2");
  scene.matches("doctor_token");
}

TEST_CASE("doctor names what is wrong with a ring, and the cure") {
  Scene scene{{"hsm1", "hsm2"}};
  scene.write_host_file({"hsm1", "hsm2"});
  scene.run("hsmseal doctor --no-probe");
  scene.prepare("hsmseal ring create --token hsm1 && hsmseal ring add --token hsm2");
  scene.run("hsmseal doctor --no-probe");
  scene.run("hsmseal doctor --no-probe --json > out.json; echo $?; python3 -m json.tool out.json > /dev/null");
  scene.write_host_file();
  scene.run("hsmseal doctor --no-probe");
  scene.write_host_file({"hsm1", "hsm2"});
  const std::string other_store = R"(, "ring_pin": "ring.pin", "store": )";
  diagnose(scene, kGood, R"(, "store": "sqlite:ring.db")");
  diagnose(scene, kGood, R"(, "store": "sqlite:ring.db", "ring_pin": "no-such.pin")");
  diagnose(scene, kGood, other_store + R"("sqlite:/no/such/folder/ring.db")");
  diagnose(scene, kGood, other_store + R"("mongodb:ring")");
  diagnose(scene, kGood, other_store + R"({"url": "postgresql:host=/no/such/socket dbname=ring", "timeout_ms": 500})");
  scene.write("hsmseal.json",
              Scene::host_file_of(kGood, other_store + R"("postgresql://vault:hunter2@/ring?host=/no/such/socket")"),
              "644");
  scene.keep_secret("hunter2");
  scene.run("hsmseal doctor --no-probe");
  scene.write_host_file({"hsm1", "hsm2"});
  scene.prepare("sed -i 's/^mac ./mac f/; s/^mac f\\(.\\)./mac f\\10/' ring.pin");
  scene.run("hsmseal doctor --no-probe");
  scene.matches("doctor_ring");
}

TEST_CASE("doctor finds a set whose key is gone, and a ring that was changed") {
  Scene scene{{"hsm1", "hsm2"}};
  scene.write_host_file({"hsm1", "hsm2"});
  scene.prepare("hsmseal ring create --token hsm1 && hsmseal ring add --token hsm2");
  const std::string key =
      scene.run("hsmseal ring show 1 --json | sed -n 's/.*\"key_id\": \"\\(.*\\)\".*/\\1/p'").output;
  REQUIRE(key.size() == 33);
  scene.tokens().destroy_key_with_pkcs11_tool("hsm1", key.substr(0, 32));
  scene.run("hsmseal doctor --no-probe");
  scene.run("hsmseal ring verify");
  scene.prepare(
      "python3 -c \"import sqlite3; d = sqlite3.connect('ring.db'); "
      "d.execute(\\\"update hsmseal_ring set body = replace(body, 'archived', 'active')\\\"); d.commit()\"");
  scene.run("hsmseal doctor --no-probe");
  scene.run("hsmseal ring list");
  scene.matches("doctor_damage");
}

}  // namespace hsmseal::test
