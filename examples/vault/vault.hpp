#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/rewrap.hpp>
#include <hsmseal/secret_bytes.hpp>

#include "password_table.hpp"

namespace vault {

/// What this host knows. None of it is a secret, and none of it is in the database.
struct Settings {
  std::string database = "sqlite:vault.db";  ///< where passwords and ring are
  std::string driver = "softhsm2";           ///< an alias of hsmseal::vendors(), or the path of a driver
  std::filesystem::path folder = ".";        ///< LABEL.pin for each token that this host has; also what the ring was
};

/// How soon after it was archived a set may be removed.
enum class Removal {
  AfterAMinute,  ///< when no host can still be sealing under it
  AtOnce,        ///< for demonstrations
};

/// A password vault. It keeps to four rules:
///
/// 1. One credential set encrypts at a time, always the latest: everything new or edited is sealed under it.
/// 2. Older sets still decrypt what they encrypted.
/// 3. Archived sets stay in the database until somebody removes them by hand.
/// 4. An HSM, or a group of HSMs in high availability, is one token.
class Vault {
 public:
  /// Makes an empty vault whose first set is on a token.
  static Vault create(const Settings& settings, const std::string& token, Removal removal);
  static Vault open(const Settings& settings);

  void add(const std::string& name, const hsmseal::SecretBytes& password);
  void edit(const std::string& name, const hsmseal::SecretBytes& password);
  [[nodiscard]] hsmseal::SecretBytes get(const std::string& name) const;
  void remove(const std::string& name);

  struct Entry {
    std::string name;
    hsmseal::Version set;  ///< 0: what is stored is no envelope
  };
  /// All passwords by name, and the set that each was sealed under. No token is asked.
  [[nodiscard]] std::vector<Entry> list() const;

  [[nodiscard]] std::vector<hsmseal::CredentialSet> sets() const { return ring_.list(); }
  /// Adds a set, which encrypts from now on.
  hsmseal::Version rotate(const std::string& token, const std::string& description);
  /// Moves all passwords to the set that encrypts now.
  hsmseal::RewrapReport rewrap(std::size_t workers,
                               const std::function<void(const hsmseal::RewrapProgress&)>& on_progress);
  /// How many passwords each set still has.
  [[nodiscard]] hsmseal::RowCensus census() const;
  /// Removes a set, unless passwords still need it.
  void remove_set(hsmseal::Version version);
  void restore_set(hsmseal::Version version) { ring_.restore(version); }

 private:
  Vault(const Settings& settings, hsmseal::KeyRing ring, PasswordTable table);

  Settings settings_;
  hsmseal::KeyRing ring_;
  hsmseal::EnvelopeEncryptor encryptor_;
  PasswordTable table_;
};

}  // namespace vault
