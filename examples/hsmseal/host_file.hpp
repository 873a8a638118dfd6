#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/ring_store.hpp>
#include <hsmseal/token_binding.hpp>

#include "fields.hpp"

namespace tool {

/// Where a token's PIN comes from, as the host file says it: for messages.
struct PinPlace {
  enum class Kind { File, Environment, Prompt, None, ProtectedPath } kind = Kind::None;
  std::string name = {};  ///< the file, or the variable
};

/// What this host knows of one token.
struct HostToken {
  std::string alias;
  std::string driver;  ///< as the file says it: a vendor's alias, or a path
  hsmseal::TokenBinding binding;
  PinPlace pin;
};

/// What an operator wrote down about this host: which tokens there are, and where the ring is.
///
///     {
///       "tokens": {
///         "hsm1": {
///           "driver": "softhsm2",
///           "select": {"label": "hsm1"},
///           "pin": {"file": "hsm1.pin"}
///         }
///       },
///       "store": "sqlite:ring.db",
///       "ring_pin": "ring.pin"
///     }
///
/// Relative paths start at the file's folder. The man page has all fields.
class HostFile {
 public:
  /// @throws UsageError  missing, writable by others, or wrong; the message names the field.
  [[nodiscard]] static HostFile read(const std::filesystem::path& path);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const hsmseal::Host& host() const { return host_; }
  [[nodiscard]] const std::vector<HostToken>& tokens() const { return tokens_; }
  /// @throws UsageError  no such token; the message lists those there are.
  [[nodiscard]] const HostToken& token(const std::string& alias) const;

  [[nodiscard]] bool has_store() const { return !store_url_.empty(); }
  /// @throws UsageError  the file names none.
  [[nodiscard]] std::shared_ptr<hsmseal::RingStore> store() const;
  /// Whether the file itself holds what looks like a password of the store.
  [[nodiscard]] bool store_has_password() const;

  [[nodiscard]] bool has_ring_pin() const { return !ring_pin_.empty(); }
  /// @throws UsageError  the file names none.
  [[nodiscard]] std::filesystem::path ring_pin() const;
  [[nodiscard]] const std::optional<std::filesystem::path>& audit_log() const { return audit_log_; }

  /// How long one use of a token may take: longer where a person has to type.
  [[nodiscard]] std::chrono::milliseconds deadline() const;

 private:
  HostFile() = default;
  void read_tokens(Fields& whole);
  void read_token(const std::string& alias, Fields fields);
  /// @returns the name by which Host knows it.
  [[nodiscard]] std::string read_driver(Fields& fields, const std::string& driver);
  [[nodiscard]] PinPlace read_pin(Fields& token, const std::string& alias, hsmseal::TokenBinding& binding) const;
  void read_store(Fields& whole);
  [[nodiscard]] std::filesystem::path beside(const std::filesystem::path& path) const;

  std::string name_;  ///< as it was given, for messages
  std::filesystem::path path_;
  hsmseal::Host host_;
  std::vector<HostToken> tokens_;
  struct SaidOfDriver {
    std::string field;
    hsmseal::DriverOptions options;
  };
  std::map<std::string, SaidOfDriver> drivers_;
  std::string store_url_, store_ring_ = "default";
  std::chrono::milliseconds store_timeout_{10'000};
  std::filesystem::path ring_pin_;
  std::optional<std::filesystem::path> audit_log_;
};

}  // namespace tool
