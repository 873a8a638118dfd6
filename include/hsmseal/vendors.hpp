#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/export.hpp>
#include <hsmseal/gcm_form.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal {

/// How far hsmseal knows a vendor's driver.
enum class Evidence {
  Run,         ///< hsmseal's tests ran against it
  Documented,  ///< a source says so, and no more: hsmseal was not run there
};

/// What the text is that a vendor calls the PIN.
enum class LoginStyle {
  Pin,                  ///< digits, or any text
  UserPassword,         ///< `user:password` (AWS CloudHSM)
  UserPasswordAddress,  ///< `user:password@ip` (Dinamo)
  KeyIdPassword,        ///< the authentication key's id in hexadecimal and its password: `0001password` (YubiHSM 2)
  None,                 ///< there is no login (Google kmsp11)
};

/// A fact about a driver, and who says so. Where no source is known there is no fact: it is probed.
template <typename Value>
struct Documented {
  Value value{};            ///< the fact
  std::string_view source;  ///< a document, a package or a project's file; "run here" where hsmseal's tests show it
};

/// What is known of one vendor's driver.
struct Vendor {
  std::string_view alias;                    ///< as in Host::driver() and TokenBinding::driver; unique
  std::string_view name;                     ///< the product, for people
  Evidence evidence = Evidence::Documented;  ///< whether hsmseal ran there
  std::string_view ran = {};                 ///< with Evidence::Run: which versions; otherwise empty
  std::vector<std::filesystem::path> library_paths =
      {};                                            ///< where its driver is on this platform; the first that exists
  std::string_view library_source = {};              ///< who names these paths
  std::optional<Documented<LoginStyle>> login = {};  ///< what the PIN looks like
  /// What DriverOptions::start_up holds, in words, such as `the path of its configuration file`.
  std::optional<Documented<std::string_view>> start_up = {};
  /// The environment variables that the driver reads, and what for, in words; for DriverOptions::environment.
  std::optional<Documented<std::string_view>> environment = {};
  std::vector<Documented<GcmForm>> gcm_forms = {};              ///< how it does AES-GCM, the preferred form first
  std::optional<Documented<bool>> has_gcm = {};                 ///< false: it has no AES-GCM at all, so it is not tried
  std::optional<Documented<std::uint32_t>> max_plaintext = {};  ///< bytes of one AES-GCM call
  std::optional<Documented<std::uint64_t>> max_sessions = {};   ///< over all processes
  std::optional<Documented<DriverRestart>> restart = {};        ///< whether C_Finalize and C_Initialize are safe
  std::string_view note = {};                                   ///< what an operator should know, in one sentence
};

/// The vendors that hsmseal knows, sorted by alias; also those without a known path on this platform.
///
/// Thread safety: any thread.
[[nodiscard]] HSMSEAL_API const std::vector<Vendor>& vendors();

/// The vendor with this alias, or null.
[[nodiscard]] HSMSEAL_API const Vendor* find_vendor(std::string_view alias);

}  // namespace hsmseal
