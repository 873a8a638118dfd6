#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;

const fs::path kSource = HSMSEAL_SOURCE_DIR;

struct Include {
  std::string file, line, name;
  bool angled;
};

/// All include lines of the C++ files below a folder.
std::vector<Include> includes_below(const fs::path& folder, std::size_t& files) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"].*)");
  std::vector<Include> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto extension = entry.path().extension();
    if (extension != ".hpp" && extension != ".cpp" && extension != ".h") continue;
    ++files;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      std::smatch match;
      if (!std::regex_match(line, match, kInclude)) continue;
      found.push_back({fs::relative(entry.path(), kSource).string(), line, match[2].str(), match[1].str() == "<"});
    }
  }
  return found;
}

/// The public headers by layer: src/DESIGN.md. A header includes its own layer and those below it, with the exceptions
/// of kNever.
const std::map<std::string, int> kLayerOf = {
    {"error_code", 0},      {"token_error", 0},     {"ring_pin", 1},
    {"ring_options", 1},    {"export", 0},          {"version", 0},
    {"error", 0},           {"secret_bytes", 0},    {"pin_source", 1},
    {"token_binding", 1},   {"credential_set", 1},  {"key_wrapper", 1},
    {"ring_store", 1},      {"observer", 1},        {"pkcs11_module", 2},
    {"pkcs11_session", 2},  {"key_ring", 3},        {"pkcs11_key_wrapper", 3},
    {"context", 4},         {"envelope_header", 4}, {"envelope", 4},
    {"sql_ring_store", 5},  {"deadline", 0},        {"gcm_form", 0},
    {"vendors", 2},         {"probe", 3},           {"audit_log", 3},
    {"row_source", 4},      {"rewrap", 4},          {"sql_row_source", 5},
    {"data_key_policy", 4}, {"envelope_batch", 4},  {"stream", 4},
};

/// The folders of src by what they may include of each other.
const std::map<std::string, std::set<std::string>> kFoldersKnow = {
    {"core", {"platform"}},
    {"platform", {}},
    {"crypto", {"core", "platform"}},
    {"pkcs11", {"core", "crypto", "platform"}},
    {"keywrap", {"core", "crypto", "pkcs11", "platform"}},
    {"ring", {"core", "crypto", "platform"}},
    {"envelope", {"core", "crypto", "platform", "ring"}},
    {"sql", {"core", "platform"}},
};

/// Where foreign headers have their one home.
const std::vector<std::pair<std::string, std::string>> kHomes = {
    {"botan/", "src/crypto/"},
    {"p11-kit/", "src/pkcs11/"},
    {"nlohmann/", "src/ring/"},
    {"soci/", "src/sql/"},
};

/// Operating system headers, which belong into src/platform alone.
const std::set<std::string> kSystemHeaders = {"aclapi.h", "sddl.h",    "dlfcn.h",   "fcntl.h",
                                              "unistd.h", "pthread.h", "windows.h", "poll.h"};

std::string stem(const std::string& include) { return fs::path(include).stem().string(); }

bool is_system_header(const std::string& name) { return kSystemHeaders.contains(name) || name.starts_with("sys/"); }

}  // namespace

TEST_CASE("public headers include the standard library and lower layers alone") {
  std::size_t files = 0;
  const auto includes = includes_below(kSource / "include", files);
  REQUIRE(files == kLayerOf.size());
  REQUIRE(includes.size() > files);
  static const std::set<std::string> kCHeaders = {"cstddef", "cstdint"};
  for (const auto& include : includes) {
    INFO(include.file << ": " << include.line);
    if (!include.name.starts_with("hsmseal/")) {
      CHECK(include.angled);
      CHECK(include.name.find_first_of("./") == std::string::npos);  // <vector> and its like
      continue;
    }
    const int own = kLayerOf.at(stem(include.file));
    const int other = kLayerOf.at(stem(include.name));
    CHECK(other <= own);
    if (stem(include.file) == "key_ring" || own == 4) CHECK(!stem(include.name).starts_with("pkcs11"));
    if (stem(include.file) == "sql_ring_store") CHECK(other <= 1);  // stores know records alone
    if (stem(include.file) == "pkcs11_session" || stem(include.file) == "pkcs11_module") {
      CHECK(stem(include.name) != "key_wrapper");
    }
  }
}

TEST_CASE("the folders of src include each other downwards alone") {
  std::size_t files = 0;
  const auto includes = includes_below(kSource / "src", files);
  REQUIRE(files > 30);
  std::set<std::string> seen;
  for (const auto& include : includes) {
    INFO(include.file << ": " << include.line);
    const std::string own = std::next(fs::path(include.file).begin())->string();
    REQUIRE(kFoldersKnow.contains(own));
    seen.insert(own);
    if (include.angled) continue;
    const std::string other = fs::path(include.name).begin()->string();
    CHECK((other == own || kFoldersKnow.at(own).contains(other)));
  }
  CHECK(seen.size() == kFoldersKnow.size());
}

TEST_CASE("ring and envelope do not know that tokens speak PKCS#11") {
  std::size_t files = 0, looked_at = 0;
  for (const auto& include : includes_below(kSource / "src", files)) {
    if (!include.file.starts_with("src/ring/") && !include.file.starts_with("src/envelope/")) continue;
    ++looked_at;
    INFO(include.file << ": " << include.line);
    CHECK(include.name.find("pkcs11") == std::string::npos);
  }
  REQUIRE(looked_at > 20);
}

TEST_CASE("each foreign header has one home, and the operating system one more") {
  std::size_t files = 0;
  auto includes = includes_below(kSource / "src", files);
  std::ranges::copy(includes_below(kSource / "include", files), std::back_inserter(includes));
  std::map<std::string, int> at_home;
  for (const auto& include : includes) {
    INFO(include.file << ": " << include.line);
    for (const auto& [prefix, home] : kHomes) {
      if (!include.name.starts_with(prefix)) continue;
      CHECK(include.file.starts_with(home));
      ++at_home[prefix];
    }
    if (is_system_header(include.name)) {
      CHECK(include.file.starts_with("src/platform/"));
      CHECK(include.file.ends_with(".cpp"));
      ++at_home["system"];
    }
  }
  CHECK(at_home.size() == kHomes.size() + 1);  // every rule met at least one line
}

TEST_CASE("examples use public headers alone") {
  std::size_t files = 0, ours = 0;
  for (const auto& include : includes_below(kSource / "examples", files)) {
    INFO(include.file << ": " << include.line);
    // Programs in folders have headers of their own; the tool also files of JSON, and the vault a database.
    const fs::path folder = fs::path{include.file}.parent_path();
    CHECK((include.angled || (folder != "examples" && fs::exists(kSource / folder / include.name))));
    if (include.name.starts_with("hsmseal/")) {
      ++ours;
      CHECK(kLayerOf.contains(stem(include.name)));
    }
    for (const auto& [prefix, home] : kHomes) {
      const bool allowed =
          (folder == "examples/hsmseal" && prefix == "nlohmann/") || (folder == "examples/vault" && prefix == "soci/");
      CHECK((!include.name.starts_with(prefix) || allowed));
    }
  }
  REQUIRE(files >= 40);
  REQUIRE(ours >= 40);
}
