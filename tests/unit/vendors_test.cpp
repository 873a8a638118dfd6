#include "core/vendors.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

#include "support/catch.hpp"

namespace {

using hsmseal::core::vendors;

bool is_alias_character(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

}  // namespace

TEST_CASE("every vendor has an alias of its own", "[unit]") {
  std::set<std::string_view> aliases;
  for (const auto& vendor : vendors()) {
    CAPTURE(std::string(vendor.alias));
    CHECK_FALSE(vendor.alias.empty());
    CHECK(std::all_of(vendor.alias.begin(), vendor.alias.end(), is_alias_character));
    CHECK(aliases.insert(vendor.alias).second);
  }
  CHECK_FALSE(aliases.empty());
}

TEST_CASE("every vendor has absolute paths and says who names them", "[unit]") {
  REQUIRE_FALSE(vendors().empty());
  for (const auto& vendor : vendors()) {
    CAPTURE(std::string(vendor.alias));
    CHECK_FALSE(vendor.source.empty());
    CHECK_FALSE(vendor.library_paths.empty());
    std::set<std::string_view> paths;
    for (const auto path : vendor.library_paths) {
      CAPTURE(std::string(path));
      CHECK(std::filesystem::path(path).is_absolute());
      CHECK(std::filesystem::path(path).has_filename());
      CHECK(paths.insert(path).second);
    }
  }
}

TEST_CASE("SoftHSM has an alias on every platform", "[unit]") {
  const auto all = vendors();
  CHECK(std::count_if(all.begin(), all.end(), [](const auto& vendor) { return vendor.alias == "softhsm2"; }) == 1);
}
