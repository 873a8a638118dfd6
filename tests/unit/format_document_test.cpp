// Every rule of src/FORMAT.md is shown by something that exists.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
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
std::vector<std::string> rule_paragraphs() {
  std::istringstream document(content_of(kSource / "src" / "FORMAT.md"));
  std::vector<std::string> paragraphs;
  bool in_rule = false;
  for (std::string line; std::getline(document, line);) {
    const bool continues = in_rule && line.starts_with("  ");
    in_rule = continues || line.starts_with("* **F-");
    if (continues) paragraphs.back() += line.substr(1);
    if (in_rule && !continues) paragraphs.push_back(line);
  }
  return paragraphs;
}

/// As they stand; each number from 1 on is there once.
std::vector<Rule> rules() {
  static const std::string kShownBy = " Shown by ";
  std::vector<Rule> found;
  std::set<std::string> numbers;
  for (const std::string& paragraph : rule_paragraphs()) {
    INFO(paragraph);
    const std::string number = paragraph.substr(4, paragraph.find("** ") - 4);
    const std::size_t shown_by = paragraph.find(kShownBy);
    REQUIRE(shown_by != std::string::npos);
    const std::string shown = paragraph.substr(shown_by + kShownBy.size());
    found.push_back({number, all_between(shown, '`'), all_between(shown, '"')});
    numbers.insert(number);
  }
  for (std::size_t i = 1; i <= found.size(); ++i) CHECK(numbers.contains("F-" + std::to_string(i)));
  return found;
}

/// The names of all TEST_CASEs below tests/, without their quotation marks.
std::set<std::string> test_names() {
  static const std::string kTestCase = "\nTEST_CASE(\"";
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(kSource / "tests")) {
    if (!entry.path().string().ends_with("_test.cpp")) continue;
    const std::string source = content_of(entry.path());
    for (std::size_t at = source.find(kTestCase); at != std::string::npos; at = source.find(kTestCase, at + 1)) {
      const std::size_t begin = at + kTestCase.size();
      names.insert(source.substr(begin, source.find('"', begin) - begin));
    }
  }
  return names;
}

/// Whether a name is what a pattern means, in which * stands for any characters.
bool matches(std::string_view name, std::string_view pattern) {
  if (pattern.empty()) return name.empty();
  if (pattern.front() != '*') {
    return !name.empty() && name.front() == pattern.front() && matches(name.substr(1), pattern.substr(1));
  }
  return matches(name, pattern.substr(1)) || (!name.empty() && matches(name.substr(1), pattern));
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
