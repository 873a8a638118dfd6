#include "support/catch.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {

TEST_CASE("seal and open keep what is there and leave nothing half written") {
  Scene scene;
  scene.write_host_file();
  scene.keep_secret("hunter2");
  scene.write("secret", "hunter2");
  scene.prepare("hsmseal ring create --token hsm1");
  scene.run("hsmseal seal secret -o sealed");
  scene.run("hsmseal seal secret -o sealed --context =42");
  scene.run("hsmseal seal secret -o sealed --context record=42 --no-context");
  scene.run("hsmseal seal secret -o sealed --context record=42 --padding 64");
  scene.run("hsmseal seal secret -o sealed --context record=42");
  scene.run("hsmseal seal secret -o sealed --context record=42 --force");
  scene.run("hsmseal seal no-such-file -o other --no-context");
  scene.run("hsmseal seal secret -o no-such-folder/other --no-context");
  scene.run("hsmseal inspect sealed");
  scene.run("hsmseal open sealed -o opened --context record=43");
  scene.run("hsmseal open sealed -o opened --context record=42");
  scene.run("hsmseal open sealed -o opened --context record=42");
  scene.run("hsmseal open secret -o other --no-context");
  scene.run("cmp secret opened && stat -c '%a %n' sealed opened");
  scene.run("head -c 100 sealed > cut; hsmseal open cut -o other --context record=42");
  scene.run(
      "tr '\\000-\\377' '\\001-\\377\\000' < sealed > changed; hsmseal open changed -o other --context record=42");
  scene.run("hsmseal open sealed --context record=42 | cmp - secret");
  scene.run("hsmseal open sealed --context record=42 > /dev/full");
  scene.matches("files");
}

TEST_CASE("a disk that is full leaves no part of a file") {
  Scene scene;
  scene.write_host_file();
  scene.write("secret", std::string(200'000, 's'));
  scene.prepare("hsmseal ring create --token hsm1");
  scene.prepare("hsmseal seal secret -o sealed --no-context");
  // The limit is above what the ring's files take.
  const std::string little = "trap '' XFSZ; ulimit -f 300; ";
  scene.run(little + "hsmseal seal secret -o other --no-context");
  scene.run(little + "hsmseal open sealed -o other --no-context");
  scene.matches("full_disk");
  CHECK(scene.exists("sealed"));
}

TEST_CASE("streams are sealed, opened and rewrapped, and none is left half written") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1");
  scene.prepare("head -c 300000 /dev/zero | tr '\\0' 's' > plain");
  scene.run("hsmseal seal plain --stream -o sealed --context record=42");
  scene.run("hsmseal inspect sealed");
  scene.run("hsmseal open sealed -o opened --context record=42 && cmp plain opened");
  scene.run("hsmseal seal --stream --no-context < plain | hsmseal open --stream --no-context | cmp - plain");
  scene.run("hsmseal seal plain --stream -t --no-context");
  scene.run("hsmseal --json seal plain --stream --no-context");
  scene.run("hsmseal --json seal plain --stream --no-context -o counted; stat -c '%a %s' counted");
  scene.run("head -c 131226 sealed > cut; hsmseal open cut -o other --context record=42");
  scene.run("hsmseal open cut --context record=42 | wc -c");
  scene.run("hsmseal open sealed -o other --context record=43");
  scene.prepare("cp sealed before; hsmseal ring add --token hsm1");
  scene.run("hsmseal rewrap --check sealed");
  scene.run("hsmseal rewrap sealed");
  scene.run("hsmseal rewrap sealed; tail -c +79 before > rest; tail -c +79 sealed | cmp - rest");
  scene.run("hsmseal open sealed --context record=42 | cmp - plain");
  scene.run("hsmseal reseal --all sealed --context record=42");
  scene.run(
      "truncate -s 67108865 large; hsmseal seal large -o large.sealed --no-context; hsmseal inspect large.sealed");
  scene.run("hsmseal open large.sealed --no-context | cmp - large; rm large large.sealed");
  scene.matches("streams");
}

TEST_CASE("rewrap replaces a file as a whole, keeps its mode, and leaves the one that fails as it was") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1");
  scene.prepare("printf a | hsmseal seal --no-context -t > lines; printf '\\n' >> lines");
  scene.prepare("printf b | hsmseal seal --no-context -t >> lines; cp lines broken; cp lines linked-to");
  scene.prepare("printf c | hsmseal seal --no-context > bytes; ln -s linked-to link; chmod 640 lines");
  scene.prepare("printf d | hsmseal seal --no-context --in-token > of-token");
  scene.prepare("hsmseal ring add --token hsm1");
  scene.prepare("tail -n 1 lines | tr 'A-Za-z' 'B-ZAb-za' >> broken; cp broken before");
  scene.run("hsmseal rewrap lines broken bytes link missing");
  scene.run("cmp broken before; stat -c '%a %F %n' lines bytes link linked-to; wc -l < lines");
  scene.run("hsmseal rewrap --check lines bytes link");
  scene.run("hsmseal rewrap of-token");
  scene.run("hsmseal reseal of-token --no-context; hsmseal open of-token --no-context");
  scene.run("hsmseal rewrap -");
  scene.matches("rewrap");
}

}  // namespace hsmseal::test
