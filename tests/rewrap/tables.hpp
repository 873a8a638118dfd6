#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/sql_row_source.hpp>

#include "core/hex.hpp"
#include "rewrap/vault_rows.hpp"
#include "store/places.hpp"

namespace hsmseal::test {

/// The databases in which rows can be moved.
inline const std::vector<std::string> kRowDatabases = {"sqlite", "postgresql", "odbc to postgresql"};

/// A table of an application in a database of some kind, with rows of a vault.
class Table {
 public:
  /// @param key_type  what the database calls it.
  Table(const std::string& kind, RowForm form, const std::string& key_type = "integer") : place_(kind), form_(form) {
    if (!place_.is_postgresql()) {
      // The source makes no file.
      soci::session{soci::sqlite3, "dbname=\"" + place_.file().string() + "\""} << "create table another (a integer)";
    }
    place_.run(fmt::format("create table vault (id {} primary key, sealed {})", key_type, value_type()));
  }

  [[nodiscard]] const Place& place() const { return place_; }
  [[nodiscard]] SqlRowOptions options() const {
    SqlRowOptions options{.table = "vault", .key_column = "id", .value_column = "sealed", .form = form_};
    options.context = [](std::string_view key) { return context_of(key).encoded(); };
    options.timeout = std::chrono::seconds{20};
    return options;
  }
  [[nodiscard]] std::shared_ptr<RowSource> source() const { return sql_row_source(place_.url(), options()); }

  [[nodiscard]] std::string sealed(const KeyRing& ring, const std::string& key, const std::string& secret) const {
    const EnvelopeEncryptor vault{ring};
    return form_ == RowForm::Text ? "'" + vault.seal_text(secret, context_of(key)) + "'"
                                  : literal(vault.seal(bytes_of(secret), context_of(key)));
  }
  void insert(const std::string& key, const std::string& value) const {
    place_.run(fmt::format("insert into vault (id, sealed) values ('{}', {})", key, value));
  }
  void fill(const KeyRing& ring, int rows) const {
    std::string values;
    for (int i = 1; i <= rows; ++i) {
      const std::string key = std::to_string(i);
      values += fmt::format("{}('{}', {})", i == 1 ? "" : ", ", key, sealed(ring, key, Vault::secret(key)));
    }
    place_.run("insert into vault (id, sealed) values " + values);
  }
  /// Bytes as the database writes them.
  [[nodiscard]] std::string literal(ByteView bytes) const {
    return fmt::format(fmt::runtime(place_.is_postgresql() ? "decode('{}', 'hex')" : "x'{}'"), core::to_hex(bytes));
  }
  /// What a value is, in digits or as text.
  [[nodiscard]] std::string value(const std::string& key) const {
    const char* const shown =
        form_ == RowForm::Text ? "sealed" : (place_.is_postgresql() ? "encode(sealed, 'hex')" : "lower(hex(sealed))");
    return place_.value(fmt::format("select {} from vault where id = '{}'", shown, key));
  }
  [[nodiscard]] std::string opened(const KeyRing& ring, RowSource& source, const std::string& key) const {
    const auto row = source.read({key}).at(0);
    REQUIRE(row);
    const EnvelopeEncryptor vault{ring};
    const std::string_view text{reinterpret_cast<const char*>(row->value.data()), row->value.size()};
    return std::string{
        (form_ == RowForm::Text ? vault.open_text(text, context_of(key)) : vault.open(row->value, context_of(key)))
            .text()};
  }

 private:
  [[nodiscard]] std::string value_type() const {
    if (form_ == RowForm::Text) return "text";
    return place_.is_postgresql() ? "bytea" : "blob";
  }

  Place place_;
  RowForm form_;
};

}  // namespace hsmseal::test
