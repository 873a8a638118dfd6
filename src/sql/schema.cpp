#include "sql/schema.hpp"

#include <array>
#include <chrono>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <soci/soci.h>

#include <hsmseal/error.hpp>

namespace hsmseal::sql {
namespace {

/// What each version of the schema adds to the one before it; the first makes version 1. Steps are never changed once
/// they were released.
constexpr std::array<std::array<std::string_view, 3>, 1> kSteps = {{
    {
        // The body last: SQLite reads through all of it to get at what stands behind.
        "create table hsmseal_ring (ring {key} not null primary key, generation bigint not null, "
        "mac varchar(64) not null, body {text} not null)",
        "create table hsmseal_history (ring {key} not null, generation bigint not null, "
        "mac varchar(64) not null, body {text} not null, primary key (ring, generation))",
        "create table hsmseal_usage (ring {key} not null, kek_id varchar(32) not null, total bigint not null, "
        "primary key (ring, kek_id))",
    },
}};

/// 0 if there are no tables yet.
int version_of(soci::session& session, const Dialect& dialect) {
  int tables = 0;
  session << dialect.count_schema_table, soci::into(tables);
  if (tables == 0) return 0;
  int version = 0;
  session << "select version from hsmseal_schema", soci::into(version);
  if (!session.got_data() || version < 1) {
    throw StoreError("the table hsmseal_schema has no version in it; restore the database");
  }
  return version;
}

void apply_steps(soci::session& session, const Dialect& dialect, int from) {
  const int newest = static_cast<int>(kSteps.size());
  session.begin();
  if (from == 0) {
    session << "create table hsmseal_schema (version integer not null)";
    session << "insert into hsmseal_schema (version) values (0)";
  }
  // First, since it locks out others that come at the same time.
  soci::statement claim = (session.prepare << "update hsmseal_schema set version = :newest where version = :from",
                           soci::use(newest, "newest"), soci::use(from, "from"));
  claim.execute(true);
  if (claim.get_affected_rows() != 1) {
    session.rollback();
    return;
  }
  for (auto step = static_cast<std::size_t>(from); step < kSteps.size(); ++step) {
    for (const std::string_view text : kSteps[step]) {
      session << fmt::format(fmt::runtime(text), fmt::arg("key", dialect.key_type),
                             fmt::arg("text", dialect.text_type));
    }
  }
  session.commit();
}

}  // namespace

void bring_up_to_date(soci::session& session, const Dialect& dialect) {
  constexpr int kAttempts = 10;
  const int newest = static_cast<int>(kSteps.size());
  for (int attempt = 1;; ++attempt) {
    const int version = version_of(session, dialect);
    if (version == newest) return;
    if (version > newest) {
      throw StoreError(
          fmt::format("the database's tables have version {}, and this hsmseal knows {}: use the newer "
                      "hsmseal that made them",
                      version, newest));
    }
    try {
      apply_steps(session, dialect, version);
    } catch (const soci::soci_error&) {
      // Another process was faster, as the next look will show.
      if (attempt == kAttempts) throw;
      session.rollback();
      std::this_thread::sleep_for(std::chrono::milliseconds{20} * attempt);
    }
  }
}

}  // namespace hsmseal::sql
