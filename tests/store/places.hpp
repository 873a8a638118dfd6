#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <soci/odbc/soci-odbc.h>
#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>

#include <hsmseal/sql_ring_store.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/postgres.hpp"
#include "support/softhsm.hpp"

namespace hsmseal::test {

/// Every kind of store there is.
inline const std::vector<std::string> kDatabases = {"sqlite", "postgresql", "odbc to postgresql", "odbc to sqlite"};
inline const std::vector<std::string> kStores = {"memory", "sqlite", "postgresql", "odbc to postgresql",
                                                 "odbc to sqlite"};

/// A new, empty database of one kind, or this process's memory.
class Place {
 public:
  explicit Place(const std::string& kind) : kind_(kind) {
    if (kind == "sqlite") connect_ = "dbname=" + file().string();
    if (kind == "odbc to sqlite") connect_ = "Driver={SQLite3};Database=" + file().string();
    if (kind == "memory" || !connect_.empty()) return;
    const auto& server = PostgresServer::shared();
    database_ = server.new_database();
    connect_ = kind == "postgresql" ? server.conninfo(database_) : server.odbc_connection_string(database_);
  }

  /// A store on it, as each host has one.
  [[nodiscard]] std::shared_ptr<RingStore> store(const SqlOptions& options = {}) const {
    return kind_ == "memory" ? memory_ : sql_ring_store(url(), options);
  }
  [[nodiscard]] std::string url() const {
    return kind_ == "sqlite" ? "sqlite:" + file().string() : (over_odbc() ? "odbc:" : "postgresql:") + connect_;
  }
  [[nodiscard]] bool over_odbc() const { return kind_.starts_with("odbc"); }
  [[nodiscard]] bool is_postgresql() const { return !database_.empty(); }
  [[nodiscard]] const std::string& database() const { return database_; }
  [[nodiscard]] std::filesystem::path file() const { return folder_.path() / "the ring=1.db"; }

  /// Runs a statement past the store.
  void run(const std::string& statement) const { *session() << statement; }
  [[nodiscard]] std::string value(const std::string& query) const {
    std::string text;
    *session() << query, soci::into(text);
    return text;
  }

 private:
  [[nodiscard]] std::unique_ptr<soci::session> session() const {
    if (kind_ == "postgresql") return std::make_unique<soci::session>(soci::postgresql, connect_);
    if (over_odbc()) return std::make_unique<soci::session>(soci::odbc, connect_);
    return std::make_unique<soci::session>(soci::sqlite3, "dbname=\"" + file().string() + "\" timeout=10");
  }

  std::string kind_, connect_, database_;
  ScratchDirectory folder_;
  std::shared_ptr<RingStore> memory_ = memory_ring_store();
};

inline RingRecord record(std::uint64_t generation, std::string body = {}) {
  RingRecord made{.generation = generation, .body = std::move(body), .mac = {}};
  if (made.body.empty()) made.body = "{\"generation\":" + std::to_string(generation) + "}";
  for (std::size_t i = 0; i < made.mac.size(); ++i) made.mac[i] = static_cast<std::byte>(i * 37 + generation);
  return made;
}

/// Stores records of generation 1 to `last`.
inline void fill(RingStore& store, std::uint64_t last) {
  for (std::uint64_t generation = 1; generation <= last; ++generation) {
    const auto expected = generation == 1 ? std::nullopt : std::optional{record(generation - 1).head()};
    REQUIRE(store.compare_and_swap(expected, record(generation)));
  }
}

/// Runs work(0) to work(count - 1) at once, and returns the messages of those that failed.
inline std::vector<std::string> at_once(std::size_t count, const std::function<void(std::size_t)>& work) {
  std::mutex mutex;
  std::vector<std::string> errors;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      try {
        work(i);
      } catch (const std::exception& error) {
        const std::scoped_lock lock{mutex};
        errors.emplace_back(error.what());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return errors;
}

}  // namespace hsmseal::test
