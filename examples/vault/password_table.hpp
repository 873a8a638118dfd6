#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace soci {
class session;
}

namespace vault {

/// The application's own table: a row for each password, with its envelope in a column of text.
///
/// hsmseal has no part in it. What is stored here is all that a thief of the database gets.
class PasswordTable {
 public:
  static constexpr const char* kTable = "passwords";
  static constexpr const char* kKey = "name";
  static constexpr const char* kValue = "sealed";

  /// @param url  as of hsmseal::sql_ring_store(): `sqlite:FILE`, `postgresql:host=...` or `postgresql://...`.
  explicit PasswordTable(const std::string& url);
  PasswordTable(PasswordTable&&) noexcept;
  ~PasswordTable();

  void create();
  /// @returns false if there is one of that name already.
  bool add(const std::string& name, const std::string& sealed);
  /// @returns false if there is none of that name.
  bool replace(const std::string& name, const std::string& sealed);
  /// @returns false if there is none of that name.
  bool remove(const std::string& name);
  [[nodiscard]] std::optional<std::string> find(const std::string& name) const;

  struct Entry {
    std::string name, sealed;
  };
  /// All of them, by name.
  [[nodiscard]] std::vector<Entry> all() const;

 private:
  std::unique_ptr<soci::session> session_;
};

}  // namespace vault
