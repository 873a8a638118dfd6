#include <hsmseal/token_binding.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <hsmseal/error.hpp>
#include <hsmseal/vendors.hpp>

namespace hsmseal {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostSessions = 4096;
constexpr std::chrono::milliseconds kLongestWait = 24h;

bool is_path(const std::string& driver) { return std::filesystem::path(driver).has_parent_path(); }

/// The vendor whose driver can be found without the host's help, or null.
const Vendor* vendor_with_paths(std::string_view alias) {
  const Vendor* const vendor = find_vendor(alias);
  return vendor == nullptr || vendor->library_paths.empty() ? nullptr : vendor;
}

std::filesystem::path installed_library(const Vendor& vendor) {
  for (const std::filesystem::path& path : vendor.library_paths) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return path;
  }
  std::vector<std::string> places;
  for (const auto& path : vendor.library_paths) places.push_back(path.string());
  throw InvalidArgumentError(
      fmt::format("the driver of '{}' is at none of its usual places ({}); install the vendor's client, or give the "
                  "library's absolute path",
                  vendor.alias, fmt::join(places, ", ")));
}

/// One session keeps the login, and what a vendor's device has is for all processes: a limit that leaves room for both
/// is the most that can be meant.
void keep_below_vendors_limit(SessionLimits& limits, std::string_view driver) {
  const Vendor* const vendor = find_vendor(driver);
  if (vendor == nullptr || !vendor->max_sessions || vendor->max_sessions->value < 2) return;
  limits.max_sessions =
      static_cast<std::size_t>(std::min<std::uint64_t>(limits.max_sessions, vendor->max_sessions->value - 1));
}

}  // namespace

std::string TokenSelector::describe() const {
  std::string text;
  const auto append = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) text += fmt::format("{}{} '{}'", text.empty() ? "" : ", ", name, value);
  };
  append("label", label);
  append("serial", serial);
  append("model", model);
  append("manufacturer", manufacturer);
  return text.empty() ? "an empty selector" : text;
}

Host& Host::driver(std::string alias, DriverOptions options) {
  if (alias.empty() || is_path(alias)) {
    throw InvalidArgumentError("a driver's alias must not be empty nor look like a path");
  }
  if (options.library.empty() && vendor_with_paths(alias) == nullptr) {
    throw InvalidArgumentError(fmt::format("driver '{}' has no default path; give its library", alias));
  }
  drivers_.insert_or_assign(std::move(alias), std::move(options));
  return *this;
}

Host& Host::token(std::string alias, TokenBinding binding) {
  if (alias.empty()) throw InvalidArgumentError("a token's alias must not be empty");
  const TokenSelector& select = binding.select;
  if (select.label.empty() && select.serial.empty() && select.model.empty() && select.manufacturer.empty()) {
    throw InvalidArgumentError(fmt::format("token '{}' has an empty selector; give its label or serial", alias));
  }
  const SessionLimits& limits = binding.limits;
  if (limits.max_sessions == 0 || limits.max_sessions > kMostSessions || limits.session_wait <= 0ms ||
      limits.session_wait > kLongestWait) {
    throw InvalidArgumentError(fmt::format(
        "token '{}' must be allowed 1 to {} sessions, and 1 ms to 24 hours to wait for one", alias, kMostSessions));
  }
  keep_below_vendors_limit(binding.limits, binding.driver);
  if (!tokens_.try_emplace(alias, std::move(binding)).second) {
    throw InvalidArgumentError(fmt::format("token '{}' is bound already", alias));
  }
  return *this;
}

const TokenBinding& Host::binding(std::string_view token_alias) const {
  const auto found = tokens_.find(token_alias);
  if (found == tokens_.end()) {
    throw InvalidArgumentError(
        fmt::format("token '{}' is not bound on this host; add it with Host::token()", token_alias));
  }
  return found->second;
}

std::vector<std::string> Host::token_aliases() const {
  std::vector<std::string> aliases;
  for (const auto& [alias, binding] : tokens_) aliases.push_back(alias);
  return aliases;
}

DriverOptions Host::driver_for(const TokenBinding& binding) const {
  DriverOptions options;
  if (const auto named = drivers_.find(binding.driver); named != drivers_.end()) options = named->second;
  const Vendor* const vendor = find_vendor(binding.driver);
  if (vendor != nullptr && vendor->restart && !options.restart) options.restart = vendor->restart->value;
  if (!options.library.empty()) return options;
  if (is_path(binding.driver)) {
    options.library = binding.driver;
    return options;
  }
  if (vendor_with_paths(binding.driver) == nullptr) {
    throw InvalidArgumentError(fmt::format("driver '{}' is {}; use one of {}, or an absolute path", binding.driver,
                                           vendor == nullptr ? "unknown" : "at no usual place on this platform",
                                           fmt::join(driver_aliases(), ", ")));
  }
  options.library = installed_library(*vendor);
  return options;
}

std::vector<std::string> driver_aliases() {
  std::vector<std::string> aliases;
  for (const Vendor& vendor : vendors()) {
    if (!vendor.library_paths.empty()) aliases.emplace_back(vendor.alias);
  }
  return aliases;
}

}  // namespace hsmseal
