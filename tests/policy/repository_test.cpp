#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;

const fs::path kSource = HSMSEAL_SOURCE_DIR;

std::string content_of(const fs::path& path) {
  std::ifstream file(path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// What stands between two marks, without the marks' lines.
std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const auto start = text.find(begin);
  REQUIRE(start != std::string::npos);
  const auto from = text.find('\n', start) + 1;
  const auto to = text.find(end, from);
  REQUIRE(to != std::string::npos);
  return text.substr(from, text.rfind('\n', to) + 1 - from);
}

/// Without the indentation that the example's function adds.
std::string outdented(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    std::string line = text.substr(at, end - at);
    if (line.starts_with("  ")) line.erase(0, 2);
    result += line + "\n";
    at = end + 1;
  }
  return result;
}

}  // namespace

TEST_CASE("the README's snippet is the quickstart example") {
  const std::string readme = content_of(kSource / "README.md");
  const std::string marked = between(readme, "<!-- snippet: examples/quickstart.cpp -->", "<!-- end of snippet -->");
  const std::string shown = between(marked, "```cpp", "```");
  const std::string built =
      outdented(between(content_of(kSource / "examples" / "quickstart.cpp"), "// snippet-begin", "// snippet-end"));
  REQUIRE(built.find("KeyRing::create") != std::string::npos);
  CHECK(shown == built);
}

TEST_CASE("the top level holds what the customer listed, and dotfiles") {
  const std::set<std::string> listed = {"CMakeLists.txt", "cmake",   "examples", "include", "src",
                                        "tests",          "LICENSE", "README.md"};
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(kSource)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".") || name.starts_with("build")) continue;
    INFO(name);
    CHECK(listed.contains(name));
    found.insert(name);
  }
  CHECK(found == listed);
}

TEST_CASE("names of tests are such that CTest runs what they name") {
  static const std::regex kTestCase{R"re(TEST_CASE\("(([^"\\]|\\.)*)")re"};
  std::size_t names = 0;
  for (const auto& entry : fs::recursive_directory_iterator(kSource / "tests")) {
    if (entry.path().extension() != ".cpp") continue;
    const std::string text = content_of(entry.path());
    for (std::sregex_iterator at{text.begin(), text.end(), kTestCase}, end; at != end; ++at, ++names) {
      INFO(entry.path().filename().string() << ": " << (*at)[1].str());
      // CMake splits at one, and Catch2 2 reports success for a name that it does not have.
      CHECK((*at)[1].str().find(';') == std::string::npos);
    }
  }
  CHECK(names > 600);
}
