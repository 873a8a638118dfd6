#include <string>

#include "cli/terminal.hpp"

namespace hsmseal::test {
namespace {

void bind_with_prompt(Scene& scene) {
  scene.write("hsmseal.json",
              Scene::host_file_of(R"("driver": "softhsm2", "select": {"label": "hsm1"}, "pin": {"prompt": true})",
                                  R"(, "store": "sqlite:ring.db", "ring_pin": "ring.pin")"));
}

}  // namespace

TEST_CASE("a PIN that is typed is asked for once and does not show") {
  Scene scene;
  bind_with_prompt(scene);
  Terminal terminal{scene, "hsmseal ring create --token hsm1 && stty -a"};
  terminal.wait_for("PIN of token 'hsm1': ");
  terminal.type(scene.tokens().pin("hsm1") + "\n");
  terminal.wait_for("set 1: active");
  const std::string& all = terminal.all();
  CHECK(all.find(scene.tokens().pin("hsm1")) == std::string::npos);
  CHECK(all.find("PIN of token", all.find("PIN of token") + 1) == std::string::npos);
  CHECK(all.find(" echo ") != std::string::npos);  // the terminal is as it was
  CHECK(terminal.exit_code() == 0);
}

TEST_CASE("an interrupt at the prompt leaves the terminal with its echo") {
  Scene scene;
  bind_with_prompt(scene);
  Terminal terminal{scene,
                    "trap '' INT; (trap - INT; exec hsmseal ring create --token hsm1); echo ended with $?; stty -a"};
  terminal.wait_for("PIN of token 'hsm1': ");
  terminal.type("98765432\x03");
  terminal.wait_for("ended with 130");
  const std::string& all = terminal.all();
  CHECK(all.find(" echo ") != std::string::npos);
  CHECK(all.find("98765432") == std::string::npos);
  CHECK_FALSE(scene.exists("ring.pin"));
}

TEST_CASE("a secret is not shown on a terminal unless it is forced to, and is typed without echo") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1");
  Terminal typing{scene, "hsmseal seal --no-context --text -o sealed"};
  typing.wait_for("secret to be sealed: ");
  typing.type("hunter2\n");
  CHECK(typing.exit_code() == 0);
  CHECK(typing.all().find("hunter2") == std::string::npos);

  Terminal refused{scene, "hsmseal open --no-context sealed"};
  refused.wait_for("hsmseal: a secret is not written to a terminal");
  CHECK(refused.exit_code() == 2);
  CHECK(refused.all().find("hunter2") == std::string::npos);

  Terminal binary{scene, "hsmseal seal --no-context hsm1.pin"};
  binary.wait_for("hsmseal: an envelope in bytes is not written to a terminal");
  CHECK(binary.exit_code() == 2);

  Terminal forced{scene, "hsmseal open --no-context sealed --force"};
  forced.wait_for("hunter2");
  CHECK(forced.exit_code() == 0);
}

TEST_CASE("what cannot be undone is done when the version is typed again, and only then") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1 --max-staleness 1ms --removal-grace 2ms --quarantine 2ms");
  scene.prepare("hsmseal ring add --token hsm1");
  Terminal wrong{scene, "hsmseal ring remove 1 --without-census"};
  wrong.wait_for("type the version again (or give --confirm): ");
  wrong.type("2\n");
  wrong.wait_for("version 1 was not confirmed; nothing was changed");
  CHECK(wrong.exit_code() == 2);
  Terminal right{scene, "hsmseal ring remove 1 --without-census"};
  right.wait_for("type the version again (or give --confirm): ");
  right.type("1\n");
  right.wait_for("set 1: deleted");
  CHECK(right.exit_code() == 0);
}

TEST_CASE("a bar grows while a file is rewrapped, on a terminal alone, and is wiped at the end") {
  Scene scene;
  scene.write_host_file();
  scene.prepare("hsmseal ring create --token hsm1");
  scene.prepare("for i in 1 2 3 4 5; do printf $i | hsmseal seal --no-context -t; echo; done > vault; cp vault other");
  scene.prepare("hsmseal ring add --token hsm1");
  Terminal terminal{scene, "hsmseal rewrap vault"};
  terminal.wait_for("vault [######........................] 1 of 5");
  terminal.wait_for("\r\x1b[K");
  terminal.wait_for("'vault': 5 of 5 envelopes rewrapped");
  CHECK(terminal.exit_code() == 0);

  Terminal elsewhere{scene, "hsmseal rewrap other 2> errors"};
  elsewhere.wait_for("'other': 5 of 5 envelopes rewrapped");
  CHECK(elsewhere.exit_code() == 0);
  CHECK(elsewhere.all().find('[') == std::string::npos);
  CHECK(scene.content_of("errors").empty());
}

}  // namespace hsmseal::test
