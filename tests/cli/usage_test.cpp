#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include "support/catch.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {
namespace {

std::string of_repository(const std::string& name) {
  std::ifstream file{std::string{HSMSEAL_SOURCE_DIR} + "/" + name};
  REQUIRE(file);
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// The words at the beginnings of the lines below `Subcommands:`.
std::vector<std::string> commands_in(const std::string& help) {
  std::vector<std::string> commands;
  std::istringstream lines{help.substr(std::min(help.find("Subcommands:"), help.size()))};
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && line.starts_with("  ")) {
    if (line[2] != ' ') commands.push_back(line.substr(2, line.find(' ', 2) - 2));
  }
  return commands;
}

/// All commands, those below `ring` with it.
std::vector<std::string> all_commands(Scene& scene) {
  std::vector<std::string> all;
  for (const auto& command : commands_in(scene.run("hsmseal --help").output)) {
    if (command != "ring") all.push_back(command);
  }
  for (const auto& command : commands_in(scene.run("hsmseal ring --help").output)) all.push_back("ring " + command);
  REQUIRE(all.size() > 20);
  return all;
}

std::vector<std::string> matches_in(const std::string& text, const std::string& pattern) {
  const std::regex regex{pattern};
  std::vector<std::string> found;
  for (std::sregex_iterator at{text.begin(), text.end(), regex}, end; at != end; ++at) found.push_back((*at)[1].str());
  return found;
}

}  // namespace

TEST_CASE("help, README and man page have one table of exit codes") {
  Scene scene;
  const std::string help = scene.run("hsmseal --help").output;
  const std::string readme = of_repository("README.md"), man = of_repository("examples/hsmseal/hsmseal.1");
  static const std::regex kLine{"\n +([0-9]+)  ([^\n]+)"};
  std::string in_readme, in_man;
  int codes = 0;
  const auto begin = help.begin() + static_cast<std::ptrdiff_t>(help.find("exit codes:"));
  for (std::sregex_iterator at{begin, help.end(), kLine}, end; at != end; ++at, ++codes) {
    in_readme += fmt::format("| {} | {} |\n", (*at)[1].str(), (*at)[2].str());
    in_man += fmt::format(".TP\n.B {}\n{}\n", (*at)[1].str(), (*at)[2].str());
  }
  REQUIRE(codes == 14);
  CHECK(readme.find(in_readme) != std::string::npos);
  CHECK(man.find(in_man) != std::string::npos);
}

TEST_CASE("the man page has every command with every option, and no command takes a PIN") {
  Scene scene;
  const std::string man = of_repository("examples/hsmseal/hsmseal.1");
  std::size_t options = 0;
  for (const std::string& command : all_commands(scene)) {
    const Ran help = scene.run("hsmseal " + command + " --help");
    INFO(command << "\n" << help.output);
    REQUIRE(help.exit_code == 0);
    CHECK(man.find("\n.SS " + command) != std::string::npos);
    for (const std::string& option : matches_in(help.output, "(--[a-z][-a-z]*)")) {
      ++options;
      INFO(option);
      std::string in_man;
      for (const char c : option) in_man += c == '-' ? std::string{"\\-"} : std::string{c};
      CHECK(man.find(in_man) != std::string::npos);
      CHECK(option.find("pin") == std::string::npos);
    }
  }
  CHECK(options > 60);
}

TEST_CASE("bash completes commands, options and files") {
  Scene scene;
  const std::string script = std::string{HSMSEAL_SOURCE_DIR} + "/examples/hsmseal/hsmseal.bash";
  const auto completions = [&](const std::string& words) {
    const Ran ran =
        scene.run("bash -c 'source \"" + script + "\"; COMP_WORDS=(" + words +
                  "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _hsmseal; printf \"%s\\n\" \"${COMPREPLY[@]}\"'");
    std::istringstream lines{ran.output};
    return std::set<std::string>{std::istream_iterator<std::string>{lines}, {}};
  };
  CHECK(completions("hsmseal d") == std::set<std::string>{"doctor", "drivers"});
  CHECK(completions("hsmseal ring re") == std::set<std::string>{"remove", "restore"});
  CHECK(completions("hsmseal ring add --gcm-i") == std::set<std::string>{"--gcm-iv", "--gcm-iv-bytes"});
  CHECK(completions("hsmseal seal --no") == std::set<std::string>{"--no-context"});
  CHECK(completions("hsmseal --js") == std::set<std::string>{"--json"});
  CHECK(completions("hsmseal open hsm1") == std::set<std::string>{"hsm1.pin"});
}

TEST_CASE("what is wrong on the command line is told in one voice") {
  Scene scene;
  scene.write_host_file();
  scene.run("hsmseal");
  scene.run("hsmseal frobnicate");
  scene.run("hsmseal ring");
  scene.run("hsmseal ring show");
  scene.run("hsmseal ring show one");
  scene.run("hsmseal ring list --host");
  scene.run("hsmseal ring list --bogus");
  scene.run("hsmseal ring create");
  scene.run("hsmseal ring create --token hsm9");
  scene.run("hsmseal ring create --token hsm1 --quarantine soon");
  scene.run("hsmseal ring create --token hsm1 --adopt xyz");
  scene.run("hsmseal ring create --token hsm1 --accept extractable");
  scene.run("hsmseal ring create --token hsm1 --accept everything --adopt 00");
  scene.run("hsmseal ring create --token hsm1 --gcm-mechanism 0x1087");
  scene.run("hsmseal ring create --token hsm1 --gcm-iv caller --gcm-mechanism gcm");
  scene.run("hsmseal ring create --token hsm1 --gcm-iv guess");
  scene.run("hsmseal seal hsm1.pin");
  scene.run("hsmseal ring remove 1 --census a --census-command b");
  scene.run("hsmseal tokens no-such-driver");
  scene.run("hsmseal inspect hsm1.pin");
  scene.run("hsmseal ring list --host no-such.json");
  scene.run("hsmseal conformance hsm9");
  scene.matches("usage");
}

TEST_CASE("bench measures sealing, opening and rewrapping for as long as it is told") {
  Scene scene;
  scene.write_host_file();
  CHECK(scene.run("hsmseal bench").exit_code == 2);
  scene.prepare("hsmseal ring create --token hsm1");
  const std::string counted = " | sed -E 's/: [0-9]+ a second/: <n> a second/'";
  scene.run("hsmseal bench --seconds 1 --threads 2 --bytes 100" + counted);
  scene.run(
      "hsmseal bench --seconds 1 --json > out; python3 -c \"import json; d = json.load(open('out')); "
      "print(d['version'], d['token'], d['bytes'], d['threads'], [o['name'] for o in d['operations'] "
      "if o['count'] > 0 and o['per_second'] > 0 and 0 < o['median_ns'] <= o['p99_ns'] <= o['slowest_ns']])\"");
  scene.run("hsmseal bench --seconds 0");
  scene.run("hsmseal bench --threads 1000");
  CHECK(scene.run("hsmseal ring list").exit_code == 0);
  scene.matches("bench");
}

TEST_CASE("drivers says what was run and what is only documented") {
  Scene scene;
  const Ran ran = scene.run("hsmseal drivers");
  CHECK(ran.exit_code == 0);
  CHECK(std::regex_search(ran.output, std::regex{R"((^|\n)softhsm2: /\S*libsofthsm2\.so \([^\n]*run: )"}));
  CHECK(std::regex_search(ran.output, std::regex{R"(\nluna: not found \([^\n]*documented, not run\))"}));
  CHECK(scene.run("hsmseal drivers --help").output.find("Documented: a source says") != std::string::npos);
  const Ran tokens = scene.run("hsmseal tokens softhsm2");
  CHECK(tokens.output.find("\ntoken: 'hsm1'") != std::string::npos);
}

}  // namespace hsmseal::test
