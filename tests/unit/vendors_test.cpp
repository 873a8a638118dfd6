#include <hsmseal/vendors.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/vendor_paths.hpp"
#include "support/catch.hpp"

using namespace hsmseal;

namespace {

namespace fs = std::filesystem;

bool is_alias_character(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }

/// What stands in a row of the README's table where nothing is known.
constexpr std::string_view kProbed = "probed";

std::string content_of(const fs::path& path) {
  std::ifstream file(path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The vendor's paths; those that differ only in the processor's name once, with a star for it.
std::string paths_of(const Vendor& vendor) {
  std::vector<std::string> shown;
  for (const fs::path& path : vendor.library_paths) {
    std::string text;
    for (const fs::path& part : path.relative_path()) {
      const bool processor = part.string().ends_with("-linux-gnu");
      text += "/" + (processor ? "*" : part.string());
    }
    text = "`" + text + "`";
    if (std::ranges::find(shown, text) == shown.end()) shown.push_back(text);
  }
  return shown.empty() ? "give the path" : fmt::format("{}", fmt::join(shown, ", "));
}

std::string iv_of(const GcmForm& form) {
  switch (form.iv_rule) {
    case IvRule::Caller:
      return "the caller's";
    case IvRule::TokenWrites:
      return fmt::format("the HSM's, {} bytes written back", form.iv_bytes);
    case IvRule::TokenAppends:
      return fmt::format("the HSM's, {} bytes appended", form.iv_bytes);
    case IvRule::TokenPrepends:
      return fmt::format("the HSM's, {} bytes prepended", form.iv_bytes);
  }
  return {};
}

std::string ivs_of(const Vendor& vendor) {
  if (vendor.has_gcm && !vendor.has_gcm->value) return "no AES-GCM";
  std::vector<std::string> shown;
  for (const auto& form : vendor.gcm_forms) {
    if (std::string text = iv_of(form.value); std::ranges::find(shown, text) == shown.end()) {
      shown.push_back(std::move(text));
    }
  }
  return shown.empty() ? std::string{kProbed} : fmt::format("{}", fmt::join(shown, "; "));
}

std::string login_of(const Vendor& vendor) {
  if (!vendor.login) return "see its manual";
  switch (vendor.login->value) {
    case LoginStyle::Pin:
      return "PIN";
    case LoginStyle::UserPassword:
      return "`user:password`";
    case LoginStyle::UserPasswordAddress:
      return "`user:password@ip`";
    case LoginStyle::KeyIdPassword:
      return "`0001password`";
    case LoginStyle::None:
      return "none";
  }
  return {};
}

std::string row_of(const Vendor& vendor) {
  const std::string state =
      vendor.evidence == Evidence::Run ? fmt::format("**run**: {}", vendor.ran) : "documented, NOT RUN";
  return fmt::format("| `{}` | {} | {} | {} | {} | {} | {} |\n", vendor.alias, vendor.name, state, ivs_of(vendor),
                     login_of(vendor), paths_of(vendor), vendor.note);
}

template <typename Value>
bool is_cited(const std::optional<Documented<Value>>& fact) {
  return !fact || !fact->source.empty();
}

}  // namespace

TEST_CASE("every vendor has an alias of its own, and they are sorted", "[unit]") {
  REQUIRE_FALSE(vendors().empty());
  std::string_view last;
  for (const Vendor& vendor : vendors()) {
    CAPTURE(std::string(vendor.alias));
    CHECK_FALSE(vendor.alias.empty());
    CHECK_FALSE(vendor.name.empty());
    CHECK(std::ranges::all_of(vendor.alias, is_alias_character));
    CHECK(last < vendor.alias);
    last = vendor.alias;
    CHECK(find_vendor(vendor.alias) == &vendor);
  }
  CHECK(find_vendor("") == nullptr);
  CHECK(find_vendor("Luna") == nullptr);
  CHECK(find_vendor("lun") == nullptr);
}

TEST_CASE("every vendor that an operator may ask for is there", "[unit]") {
  for (const char* alias : {"dinamo", "luna", "luna-fips", "nshield", "utimaco", "cloudhsm", "kmsp11", "yubihsm2",
                            "softhsm2", "opencryptoki", "nss", "tpm2"}) {
    CAPTURE(alias);
    CHECK(find_vendor(alias) != nullptr);
  }
}

TEST_CASE("every place of a driver is absolute, and somebody names it", "[unit]") {
  std::size_t with_paths = 0;
  for (const Vendor& vendor : vendors()) {
    CAPTURE(std::string(vendor.alias));
    CHECK(vendor.library_paths.empty() == vendor.library_source.empty());
    with_paths += vendor.library_paths.empty() ? 0 : 1;
    std::set<fs::path> paths;
    for (const fs::path& path : vendor.library_paths) {
      CAPTURE(path.string());
      CHECK(path.is_absolute());
      CHECK(path.has_filename());
      CHECK(paths.insert(path).second);
    }
  }
  CHECK(with_paths > 0);
  // None belongs to an alias that nobody can use.
  CHECK(with_paths == core::all_vendor_paths().size());
  CHECK(core::vendor_paths("softhsm2") != nullptr);
}

TEST_CASE("every fact about a driver has a source", "[unit]") {
  std::size_t facts = 0;
  for (const Vendor& vendor : vendors()) {
    CAPTURE(std::string(vendor.alias));
    CHECK(is_cited(vendor.login));
    CHECK(is_cited(vendor.start_up));
    CHECK(is_cited(vendor.environment));
    CHECK(is_cited(vendor.has_gcm));
    CHECK(is_cited(vendor.max_plaintext));
    CHECK(is_cited(vendor.max_sessions));
    CHECK(is_cited(vendor.restart));
    for (const auto& form : vendor.gcm_forms) CHECK_FALSE(form.source.empty());
    facts += vendor.gcm_forms.size() + (vendor.login ? 1 : 0) + (vendor.environment ? 1 : 0);
  }
  CHECK(facts > vendors().size());
}

TEST_CASE("what was run says in which version, and nothing else claims to have been run", "[unit]") {
  std::vector<std::string> run;
  for (const Vendor& vendor : vendors()) {
    CAPTURE(std::string(vendor.alias));
    CHECK((vendor.evidence == Evidence::Run) == !vendor.ran.empty());
    if (vendor.evidence == Evidence::Run) run.emplace_back(vendor.alias);
    const auto seen = [](const auto& fact) { return fact && fact->source.starts_with("run here"); };
    const bool claims =
        seen(vendor.login) || seen(vendor.environment) || seen(vendor.restart) ||
        std::ranges::any_of(vendor.gcm_forms, [](const auto& form) { return form.source.starts_with("run here"); });
    CHECK(claims == (vendor.evidence == Evidence::Run));
  }
  CHECK(run == std::vector<std::string>{"opencryptoki", "softhsm2"});
}

TEST_CASE("a vendor's way of doing AES-GCM is one that hsmseal has, and is listed once", "[unit]") {
  std::size_t forms = 0;
  for (const Vendor& vendor : vendors()) {
    CAPTURE(std::string(vendor.alias));
    std::set<GcmForm> seen;
    for (const auto& [form, source] : vendor.gcm_forms) {
      ++forms;
      CHECK(seen.insert(form).second);
      CHECK((form.iv_bytes == 12 || form.iv_bytes == 16));
      CHECK((form.iv_rule != IvRule::Caller || form.iv_bytes == 12));
      CHECK(form.mechanism <= 0xffffffff);
      CHECK((form.mechanism == 0x1087 || form.mechanism >= 0x80000000));
    }
    CHECK((vendor.gcm_forms.empty() || !vendor.has_gcm || vendor.has_gcm->value));
    CHECK((!vendor.max_plaintext || vendor.max_plaintext->value >= 64));
  }
  CHECK(forms > 0);
}

TEST_CASE("a token that makes the IV itself is known as such", "[unit]") {
  const auto first_rule = [](std::string_view alias) { return find_vendor(alias)->gcm_forms.at(0).value; };
  CHECK(first_rule("softhsm2") == GcmForm{});
  CHECK(first_rule("luna").iv_rule == IvRule::Caller);
  CHECK(first_rule("luna-fips") == GcmForm{.iv_rule = IvRule::TokenAppends, .iv_bytes = 16});
  CHECK(first_rule("cloudhsm") == GcmForm{.iv_rule = IvRule::TokenWrites});
  CHECK(first_rule("kmsp11") == GcmForm{.iv_rule = IvRule::TokenWrites, .mechanism = 0x8001e101});
  // One driver for both of Luna's modes.
  CHECK(find_vendor("luna")->library_paths == find_vendor("luna-fips")->library_paths);
}

#if defined(__linux__)
TEST_CASE("the README's table of tokens is that of the vendors", "[unit]") {
  std::string wanted =
      "| alias | product | state | IV of AES-GCM | login | default path on Linux | to know |\n"
      "|---|---|---|---|---|---|---|\n";
  for (const Vendor& vendor : vendors()) wanted += row_of(vendor);
  const std::string readme = content_of(fs::path{HSMSEAL_SOURCE_DIR} / "README.md");
  const std::string begin = "<!-- table: src/core/vendors.cpp -->\n";
  const auto start = readme.find(begin);
  REQUIRE(start != std::string::npos);
  const auto end = readme.find("<!-- end of table -->\n", start);
  REQUIRE(end != std::string::npos);
  CHECK(readme.substr(start + begin.size(), end - start - begin.size()) == wanted);
}
#endif
