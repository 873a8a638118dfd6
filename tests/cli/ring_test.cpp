#include "support/catch.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {

TEST_CASE("the tool makes a ring, rotates it, moves a file of envelopes and removes the old set") {
  Scene scene{{"hsm1", "hsm2"}};
  scene.write_host_file({"hsm1", "hsm2"});
  scene.keep_secret("correct horse");
  scene.keep_secret("battery staple");
  scene.run(
      "hsmseal ring create --token hsm1 --description 'the HSM we had' --max-staleness 1ms --removal-grace 2ms "
      "--quarantine 2ms");
  scene.run("printf 'correct horse' | hsmseal seal --text --context record=1 > vault");
  scene.run("hsmseal inspect vault");
  scene.run("hsmseal ring add --token hsm2 --description 'the HSM we bought'");
  scene.run("printf 'battery staple' | hsmseal seal -t --context record=1 >> vault");
  scene.run("hsmseal ring list");
  scene.run("hsmseal ring remove 1 --census vault");
  scene.run("hsmseal rewrap --check vault");
  scene.run("hsmseal rewrap vault");
  scene.run("hsmseal rewrap vault");
  scene.run("hsmseal ring remove 1 --census vault");
  scene.run("hsmseal ring restore 1");
  scene.run("hsmseal ring show 1");
  scene.run("hsmseal ring verify");
  scene.run("hsmseal reseal --all --context record=1 vault");
  scene.run("hsmseal reseal --all --context record=2 vault");
  scene.write("expected", "correct horse");
  scene.run("head -n 1 vault | hsmseal open --context record=1 --output opened && cmp opened expected");
  scene.run("stat -c '%a %n' opened vault");
  scene.matches("rotation");
}

TEST_CASE("the tool stages, activates, amends, exports and imports") {
  Scene scene{{"hsm1", "hsm2"}};
  scene.write_host_file({"hsm1", "hsm2"}, R"(, "audit_log": "audit.log")");
  scene.prepare("hsmseal ring create --token hsm1");
  scene.run("hsmseal ring add --token hsm2 --later");
  scene.run("hsmseal ring verify 2");
  scene.run("hsmseal ring activate 2");
  scene.run("hsmseal ring activate 1");
  scene.run("hsmseal ring amend 1");
  scene.run("hsmseal ring amend 1 --description 'in the cellar'");
  scene.run("hsmseal ring amend 1 --token hsm2");
  scene.run("hsmseal ring orphans");
  scene.run("hsmseal ring export backup");
  scene.run("hsmseal ring export backup");
  scene.run("hsmseal ring create --token hsm1");
  scene.run("mv ring.db lost.db; hsmseal ring list");
  scene.run("hsmseal ring import backup");
  scene.run("hsmseal ring list");
  scene.run("mv ring.pin lost.pin; hsmseal ring list");
  scene.run("hsmseal ring verify --trust-first-use");
  scene.run("hsmseal ring log --verify");
  scene.run("sed -i '2s/hsm/HSM/' audit.log; hsmseal ring log --verify");
  scene.run("hsmseal ring show 7");
  scene.matches("lifecycle");
}

TEST_CASE("the tool destroys and purges only what is counted, confirmed and out of quarantine") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1 --max-staleness 1ms --removal-grace 2ms --quarantine 2ms");
  scene.prepare("printf secret | hsmseal seal --text --no-context > one");
  scene.prepare("hsmseal ring add --token hsm1");
  scene.prepare("printf secret | hsmseal seal --text --no-context > two");
  scene.run("hsmseal ring destroy-key 1 --census two --confirm 1");
  scene.run("hsmseal ring remove 1");
  scene.run("hsmseal ring remove 1 --without-census");
  scene.run("hsmseal ring remove 1 --without-census --confirm 2");
  scene.run("hsmseal ring remove 1 --census no-such-file");
  scene.run("hsmseal ring remove 1 --census hsm1.pin");
  scene.write("empty", "\n");
  scene.run("hsmseal ring remove 1 --census empty");
  scene.run("hsmseal ring remove 1 --census-command 'echo many'");
  scene.run("hsmseal ring remove 1 --census-command 'false'");
  scene.run("hsmseal ring remove 1 --census-command 'grep -c . one'");
  scene.run("hsmseal ring remove 1 --census-command 'echo $((HSMSEAL_VERSION - 1))'");
  scene.run("hsmseal open --no-context -o opened one");
  scene.run("hsmseal ring destroy-key 1 --census two");
  scene.run("hsmseal ring destroy-key 1 --confirm 1");
  scene.run("hsmseal ring destroy-key 1 --census one two --confirm 1");
  scene.run("hsmseal ring destroy-key 1 --census two --confirm 2");
  scene.run("hsmseal ring destroy-key 1 --census two --confirm 1");
  scene.run("hsmseal ring restore 1");
  scene.run("hsmseal ring purge 1 --census two --confirm 1");
  scene.run("hsmseal ring list");
  scene.run("hsmseal ring destroy-key 2 --census two --confirm 2");
  scene.matches("removal");
}

TEST_CASE("a ring that was restored from an older copy is taken only when the operator says so") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1");
  scene.prepare("cp ring.db older.db; hsmseal ring export older.ring; hsmseal ring add --token hsm1");
  scene.prepare("cp older.db ring.db");
  CHECK(scene.run("hsmseal ring list").exit_code == 7);
  CHECK(scene.run("hsmseal ring verify").exit_code == 7);
  CHECK(scene.run("hsmseal ring verify --accept-rollback --trust-first-use").exit_code == 2);
  CHECK(scene.run("hsmseal ring verify --accept-rollback").exit_code == 0);
  CHECK(scene.run("hsmseal ring list").exit_code == 0);
  scene.prepare("hsmseal ring add --token hsm1; rm ring.db");
  CHECK(scene.run("hsmseal ring import older.ring").exit_code == 7);
  CHECK(scene.run("hsmseal ring import older.ring --accept-rollback").exit_code == 0);
  CHECK(scene.run("hsmseal ring list").exit_code == 0);
  scene.matches("rollback");
}

TEST_CASE("the audit log is shown, also where it was changed") {
  Scene scene;
  scene.write_host_file({"hsm1"}, R"(, "audit_log": "audit.log")");
  scene.run("hsmseal ring log");
  scene.prepare("hsmseal ring create --token hsm1");
  scene.prepare("printf secret | hsmseal seal --no-context --text > sealed");
  scene.prepare("printf wrong > wrong.pin; hsmseal ring amend 1 --description new");
  const std::string log = scene.run("hsmseal ring log").output;
  CHECK(log.find("set-added") != std::string::npos);
  scene.prepare("hsmseal ring log --json > json; python3 -m json.tool json > /dev/null");
  const std::string end = scene.run("hsmseal ring log --verify | sed -n 's/^end: //p'").output;
  CHECK(scene.run("hsmseal ring log --verify --expect " + end.substr(0, end.size() - 1)).exit_code == 0);
  CHECK(scene.run("hsmseal ring log --expect " + end.substr(0, end.size() - 1)).exit_code == 2);
  scene.prepare("head -n 2 audit.log > cut.log; echo 'not a line' >> cut.log");
  CHECK(scene.run("hsmseal ring log cut.log").exit_code == 0);
  CHECK(scene.run("hsmseal ring log --verify cut.log").exit_code == 7);
  CHECK(scene.run("head -n 2 audit.log > short.log; hsmseal ring log --verify short.log").exit_code == 0);
  CHECK(scene.run("hsmseal ring log --verify short.log --expect " + end.substr(0, end.size() - 1)).exit_code == 7);
  scene.run("hsmseal ring log no-such.log");
  scene.matches("audit_log");
}

TEST_CASE("a key that others made is adopted with each of its weaknesses named, and known again") {
  Scene scene;
  scene.write_host_file();
  scene.keep_secret("hunter2");
  const auto make = [&](const std::string& id, const std::string& options, const std::string& type = "AES:32") {
    scene.tokens().make_key_with_pkcs11_tool("hsm1", "by-hand", id, options, type);
  };
  make("0a0b", "--sensitive --private");
  make("0c", "--sensitive --private", "AES:16");
  make("0d", "--sensitive --private", "GENERIC:32");
  scene.prepare("hsmseal ring create --token hsm1");
  const std::string adopt = "hsmseal ring add --token hsm1 --adopt ";
  CHECK(scene.run(adopt + "0a0b").exit_code == 6);
  CHECK(scene.run(adopt + "0a0b --accept wraps-keys").exit_code == 6);
  CHECK(scene.run(adopt + "0a0b --accept wraps-keys --accept signs-or-derives").exit_code == 0);
  CHECK(scene.run("hsmseal ring verify 4").exit_code == 0);
  scene.run("printf hunter2 | hsmseal seal --no-context --text > sealed; hsmseal open --no-context -o opened sealed");
  CHECK(scene.content_of("opened") == "hunter2");
  const std::string accepting = " --accept wraps-keys --accept signs-or-derives";
  CHECK(scene.run(adopt + "0a0b" + accepting).exit_code == 0);
  scene.run("hsmseal ring list --json | grep kek_id | sort | uniq -c | awk '{ print $1 }' | sort");
  CHECK(scene.run(adopt + "0c" + accepting).exit_code == 6);
  CHECK(scene.run(adopt + "0e" + accepting).exit_code == 6);
  CHECK(scene.run(adopt + "0a0b --algorithm cbc-hmac" + accepting).exit_code == 0);
  CHECK(scene.run(adopt + "0a0b --adopt-mac 0d --algorithm cbc-hmac" + accepting).exit_code == 0);
  CHECK(scene.run("hsmseal ring orphans").exit_code == 0);
  scene.matches("adoption");
}

TEST_CASE("every command has one JSON document for scripts") {
  Scene scene;
  scene.write_host_file();
  const auto parses = [&](const std::string& command) {
    scene.run(command + " > out.json; code=$?; python3 -m json.tool out.json > /dev/null && exit $code");
    scene.run("cat out.json");
  };
  parses("hsmseal --json ring create --token hsm1");
  parses("hsmseal ring list --json");
  parses("hsmseal ring show 1 --json");
  parses("hsmseal ring verify --json");
  parses("hsmseal ring orphans --json");
  parses("hsmseal ring export backup --json");
  parses("printf secret | hsmseal seal --no-context --json");
  parses("printf secret | hsmseal seal --no-context --json -o sealed");
  parses("hsmseal inspect sealed --json");
  parses("hsmseal open --no-context sealed --json");
  parses("hsmseal open --no-context sealed --json -o opened");
  parses("hsmseal rewrap --check sealed --json");
  parses("hsmseal ring amend 1 --description new --json");
  parses("hsmseal ring remove 1 --without-census --confirm 1 --json");
  parses("hsmseal ring show 2 --json");
  parses("hsmseal tokens softhsm2 --json");
  parses("hsmseal nonsense --json");
  scene.matches("json");
}

}  // namespace hsmseal::test
