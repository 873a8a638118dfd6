#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <hsmseal/credential_set.hpp>

namespace tool {

/// How a token does AES-GCM, if the operator says it.
struct GcmOptions {
  std::string iv = {}, mechanism = {}, parameters = {}, algorithm = {};
  std::uint32_t iv_bytes = 12;

  void add_to(CLI::App& command);
  [[nodiscard]] std::optional<hsmseal::WrapAlgorithm> wrap_algorithm() const;
  /// @throws UsageError  a detail is given without --gcm-iv.
  [[nodiscard]] std::optional<hsmseal::GcmForm> form() const;
};

/// A new set, as `ring create` and `ring add` take it.
struct SetOptions {
  std::string token = {}, description = {}, label = {}, adopt = {}, adopt_mac = {};
  std::vector<std::string> accept = {};
  GcmOptions gcm = {};

  void add_to(CLI::App& command);
  /// @throws UsageError
  [[nodiscard]] hsmseal::SetSpec spec() const;
};

}  // namespace tool
