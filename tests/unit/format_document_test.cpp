// Every rule of src/FORMAT.md is shown by something that exists.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "helpers.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

namespace {

namespace fs = std::filesystem;
using hsmseal::test::Vectors;

const fs::path kSource = HSMSEAL_SOURCE_DIR;

std::string content_of(const fs::path& path) {
  std::ifstream file(path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Rule {
  std::string number;                ///< such as F-1
  std::vector<std::string> vectors;  ///< names, in which * stands for any characters
  std::vector<std::string> tests;
};

std::vector<std::string> all_between(const std::string& text, char mark) {
  std::vector<std::string> found;
  for (std::size_t begin = text.find(mark); begin != std::string::npos;) {
    const std::size_t end = text.find(mark, begin + 1);
    REQUIRE(end != std::string::npos);
    found.push_back(text.substr(begin + 1, end - begin - 1));
    begin = text.find(mark, end + 1);
  }
  return found;
}

/// The paragraphs that begin with a rule's number, each as one line.
std::vector<std::string> rule_paragraphs(const std::string& document) {
  static const std::regex kContinued(R"(\n  +)");
  const std::string unfolded = std::regex_replace(document, kContinued, " ");
  std::vector<std::string> paragraphs;
  for (std::size_t at = 0; at < unfolded.size();) {
    const std::size_t end = std::min(unfolded.find('\n', at), unfolded.size());
    if (unfolded.compare(at, 6, "* **F-") == 0) paragraphs.push_back(unfolded.substr(at, end - at));
    at = end + 1;
  }
  return paragraphs;
}

/// In their order, numbered without gaps.
std::vector<Rule> rules() {
  static const std::regex kRule(R"(\* \*\*(F-[0-9]+)\*\* .* Shown by (.*))");
  std::vector<Rule> found;
  for (const std::string& paragraph : rule_paragraphs(content_of(kSource / "src" / "FORMAT.md"))) {
    INFO(paragraph);
    std::smatch match;
    REQUIRE(std::regex_match(paragraph, match, kRule));
    found.push_back({match[1], all_between(match[2], '`'), all_between(match[2], '"')});
    CHECK(found.back().number == "F-" + std::to_string(found.size()));
  }
  return found;
}

/// The names of all TEST_CASEs below tests/.
std::set<std::string> test_names() {
  static const std::regex kTestCase("TEST_CASE\\(\\s*((?:\"(?:[^\"\\\\]|\\\\.)*\"\\s*)+)[,)]");
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(kSource / "tests")) {
    if (!entry.path().string().ends_with("_test.cpp")) continue;
    const std::string source = content_of(entry.path());
    for (std::sregex_iterator found(source.begin(), source.end(), kTestCase), end; found != end; ++found) {
      std::string name;
      for (const auto& part : all_between((*found)[1], '"')) name += part;
      names.insert(name);
    }
  }
  return names;
}

bool matches(const std::string& name, const std::string& pattern) {
  std::string expression;
  for (const char character : pattern) expression += character == '*' ? std::string(".*") : std::string(1, character);
  return std::regex_match(name, std::regex(expression));
}

}  // namespace

TEST_CASE("every rule of the format is shown by a vector or a test that exists") {
  const auto vectors = Vectors::instance().rules_by_name();
  const auto tests = test_names();
  REQUIRE(tests.size() > 20);
  REQUIRE(tests.contains("every rule of the format is shown by a vector or a test that exists"));
  const auto all = rules();
  REQUIRE_FALSE(all.empty());
  std::set<std::pair<std::string, std::string>> named;  // rule and vector
  for (const Rule& rule : all) {
    INFO(rule.number);
    CHECK(rule.vectors.size() + rule.tests.size() > 0);
    for (const auto& pattern : rule.vectors) {
      INFO(pattern);
      std::size_t found = 0;
      for (const auto& [name, must] : vectors) {
        if (!matches(name, pattern)) continue;
        named.emplace(rule.number, name);
        ++found;
      }
      CHECK(found > 0);
    }
    for (const auto& test : rule.tests) {
      INFO(test);
      CHECK(tests.contains(test));
    }
  }
  std::size_t looked_at = 0;
  for (const auto& [name, must] : vectors) {
    if (must.empty()) continue;
    INFO(name << " is for " << must);
    CHECK(named.contains({must, name}));
    ++looked_at;
  }
  CHECK(looked_at > 100);
}
