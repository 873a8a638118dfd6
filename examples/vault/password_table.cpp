#include "password_table.hpp"

#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>

namespace vault {
namespace {

using soci::into;
using soci::use;

std::unique_ptr<soci::session> connect(const std::string& url) {
  constexpr std::string_view kSqlite = "sqlite:", kPostgresql = "postgresql:";
  if (url.starts_with(kSqlite)) {
    const std::string file = url.substr(kSqlite.size());
    if (!std::filesystem::exists(file)) {
      throw std::runtime_error(fmt::format("the database '{}' is gone; restore it", file));
    }
    // Another process may be writing: wait for it.
    return std::make_unique<soci::session>(soci::sqlite3, fmt::format("dbname=\"{}\" timeout=10", file));
  }
  if (!url.starts_with(kPostgresql)) throw std::runtime_error("the database is sqlite:FILE or postgresql:...");
  const bool is_uri = url.starts_with("postgresql://");
  return std::make_unique<soci::session>(soci::postgresql, is_uri ? url : url.substr(kPostgresql.size()));
}

}  // namespace

PasswordTable::PasswordTable(const std::string& url) : session_(connect(url)) {}
PasswordTable::PasswordTable(PasswordTable&&) noexcept = default;
PasswordTable::~PasswordTable() = default;

void PasswordTable::create() { *session_ << "create table passwords (name text primary key, sealed text not null)"; }

bool PasswordTable::add(const std::string& name, const std::string& sealed) {
  soci::statement insert = (session_->prepare << "insert into passwords (name, sealed) values (:name, :sealed) "
                                                 "on conflict do nothing",
                            use(name), use(sealed));
  insert.execute(true);
  return insert.get_affected_rows() == 1;
}

bool PasswordTable::replace(const std::string& name, const std::string& sealed) {
  soci::statement update =
      (session_->prepare << "update passwords set sealed = :sealed where name = :name", use(sealed), use(name));
  update.execute(true);
  return update.get_affected_rows() == 1;
}

bool PasswordTable::remove(const std::string& name) {
  soci::statement statement = (session_->prepare << "delete from passwords where name = :name", use(name));
  statement.execute(true);
  return statement.get_affected_rows() == 1;
}

std::optional<std::string> PasswordTable::find(const std::string& name) const {
  std::string sealed;
  *session_ << "select sealed from passwords where name = :name", use(name), into(sealed);
  if (!session_->got_data()) return std::nullopt;
  return sealed;
}

std::vector<PasswordTable::Entry> PasswordTable::all() const {
  std::vector<Entry> entries;
  Entry entry;
  soci::statement select =
      (session_->prepare << "select name, sealed from passwords order by name", into(entry.name), into(entry.sealed));
  select.execute();
  while (select.fetch()) entries.push_back(entry);
  return entries;
}

}  // namespace vault
