#include <atomic>
#include <random>
#include <thread>

#include "rewrap/tables.hpp"
#include "support/child.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

RowQuery query(const KeyRing& ring, std::size_t most, RowAccess access = RowAccess::Replace) {
  return {.most = most, .ring = ring.id(), .active = ring.active().version, .access = access};
}

std::vector<RowChange> changes_of(const RowBatch& batch, const std::string& value) {
  std::vector<RowChange> changes;
  for (const Row& row : batch.rows) changes.push_back({row.key, row.value, bytes(value)});
  return changes;
}

/// The processes of the server that have a client in this table's database, but for the one that asks.
std::string server_processes(const Table& table) {
  return PostgresServer::shared().value(
      "postgres",
      "select coalesce(string_agg(pid::text, ' ' order by pid), '') from pg_stat_activity where datname = '" +
          table.place().database() + "'");
}

/// Edits, adds and deletes rows of a table, as the threads of an application do, each with keys of its own.
class Application {
 public:
  static constexpr int kThreads = 3, kKeys = 450;

  Application(const Table& table, const Vault& vault) : table_(table), vault_(vault) {
    for (int thread = 0; thread < kThreads; ++thread) {
      threads_.emplace_back([this, thread] {
        try {
          work(thread);
        } catch (const std::exception& error) {
          failures_[thread] = error.what();
        }
      });
    }
  }
  Application(const Application&) = delete;
  Application& operator=(const Application&) = delete;
  ~Application() { stop(); }

  void stop() {
    done_ = true;
    for (auto& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  [[nodiscard]] std::string failures() const {
    std::string all;
    for (const auto& failure : failures_) all += failure;
    return all;
  }
  /// What the rows that it touched hold in the end; nothing for those that it deleted.
  [[nodiscard]] std::map<std::string, std::string> expected() const {
    std::map<std::string, std::string> all;
    for (const auto& one : expected_) all.insert(one.begin(), one.end());
    return all;
  }

 private:
  void work(int thread) {
    std::mt19937 random{static_cast<unsigned>(thread)};
    for (int number = 0; !done_; ++number) {
      const std::string key = std::to_string(1 + thread + kThreads * static_cast<int>(random() % (kKeys / kThreads)));
      std::string text = fmt::format("edit {} of {}", number, key);
      if (random() % 4 == 0) {
        table_.place().run("delete from vault where id = " + key);
        text.clear();
      } else {
        const std::string sealed = table_.sealed(vault_.ring, key, text);
        table_.place().run(
            fmt::format("insert into vault (id, sealed) values ({}, {}) on conflict (id) do update set "
                        "sealed = excluded.sealed",
                        key, sealed));
      }
      expected_[thread][key] = text;
    }
  }

  const Table& table_;
  const Vault& vault_;
  std::atomic<bool> done_ = false;
  std::map<std::string, std::string> expected_[kThreads];
  std::string failures_[kThreads];
  std::vector<std::thread> threads_;
};

/// A server all of whose processes stand still.
class Frozen {
 public:
  explicit Frozen(const PostgresServer& server) : server_(server) { server_.freeze(); }
  Frozen(const Frozen&) = delete;
  Frozen& operator=(const Frozen&) = delete;
  ~Frozen() { server_.thaw(); }

 private:
  const PostgresServer& server_;
};

}  // namespace

TEST_CASE("an application that edits, adds and deletes rows of a table loses nothing, and nothing comes back") {
  const std::string kind = GENERATE("postgresql", "sqlite");
  CAPTURE(kind);
  constexpr int kRows = 300;
  Vault vault;
  const Table table{kind, RowForm::Text};
  table.fill(vault.ring, kRows);
  vault.rotate();
  const auto source = table.source();
  RewrapOptions options;
  options.batch = 7;
  options.workers = 2;
  RewrapReport report;
  std::map<std::string, std::string> expected;
  {
    Application application{table, vault};
    report = Rewrapper{vault.ring, source, options}.run();
    application.stop();
    CHECK(application.failures().empty());
    expected = application.expected();
  }
  CAPTURE(report.reason, report.moved, report.edited);
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.failed == 0);
  CHECK(report.moved > 0);
  REQUIRE(expected.size() > 10);
  for (int i = 1; i <= kRows; ++i) expected.try_emplace(std::to_string(i), Vault::secret(std::to_string(i)));
  std::uint64_t rows = 0;
  for (const auto& [key, text] : expected) {
    CAPTURE(key);
    CHECK(source->read({key}).at(0).has_value() == !text.empty());
    if (!text.empty()) CHECK(table.opened(vault.ring, *source, key) == text);
    rows += text.empty() ? 0 : 1;
  }
  CHECK(source->census(vault.ring.id()).sealed == std::map<Version, std::uint64_t>{{2, rows}});
}

TEST_CASE("a forked child reads and replaces rows on a connection of its own, and leaves its parent's alone") {
  const std::string kind = GENERATE(from_range(kRowDatabases));
  CAPTURE(kind);
  Vault vault;
  const Table table{kind, RowForm::Text};
  table.fill(vault.ring, 4);
  vault.rotate();
  const auto source = table.source();
  auto batch = source->next(query(vault.ring, 2));
  REQUIRE(batch.rows.size() == 2);
  batch.hold.reset();
  CHECK(exit_status_of([&] {
          auto other = source->next(query(vault.ring, 10));
          return other.rows.size() == 4 &&
                 source->replace(other, changes_of(other, "a child's")) == std::vector(4, true);
        }) == 0);
  CHECK(source->read({"3"}).at(0)->value == bytes("a child's"));
  CHECK(source->replace(batch, changes_of(batch, "late")) == std::vector{false, false});
}

TEST_CASE("rows that a process holds stay its own when a child of it ends") {
  const std::string kind = GENERATE("postgresql", "odbc to postgresql");
  CAPTURE(kind);
  Vault vault;
  const Table table{kind, RowForm::Text};
  table.fill(vault.ring, 4);
  vault.rotate();
  const auto source = table.source();
  auto batch = source->next(query(vault.ring, 2));
  REQUIRE(batch.rows.size() == 2);
  REQUIRE(batch.hold);
  const std::string before = server_processes(table);
  if (kind == "postgresql") {
    CHECK(exit_status_of([&] {
            // The child lets go of its copy of the hold, and sees that the rows are still held.
            batch.hold.reset();
            return source->next(query(vault.ring, 10)).rows.size() == 2;
          }) == 0);
  } else {
    CHECK(exit_status_of([&] {
            try {
              static_cast<void>(source->next(query(vault.ring, 10)));
              return false;
            } catch (const StoreError& error) {
              return std::string_view{error.what()}.find("forked while") != std::string_view::npos;
            }
          }) == 0);
  }
  CHECK(server_processes(table).find(before) != std::string::npos);
  CHECK(source->next(query(vault.ring, 10)).rows.size() == 2);
  CHECK(source->replace(batch, changes_of(batch, "the parent's")) == std::vector{true, true});
  CHECK(source->read({"1"}).at(0)->value == bytes("the parent's"));
}

TEST_CASE("a server that stands still is given up in a batch too, and the run goes on when it does") {
  PostgresServer server;
  Vault vault;
  const std::string database = server.new_database();
  server.run(database, "create table vault (id integer primary key, sealed text)");
  for (int i = 1; i <= 20; ++i) {
    const std::string key = std::to_string(i);
    server.run(database, fmt::format("insert into vault values ({}, '{}')", key,
                                     EnvelopeEncryptor{vault.ring}.seal_text(Vault::secret(key), context_of(key))));
  }
  vault.rotate();
  SqlRowOptions where{.table = "vault", .key_column = "id", .value_column = "sealed"};
  where.context = [](std::string_view key) { return context_of(key).encoded(); };
  where.timeout = std::chrono::milliseconds{500};
  const auto source = sql_row_source("postgresql:" + server.conninfo(database), where);
  auto batch = source->next(query(vault.ring, 5));
  REQUIRE(batch.rows.size() == 5);
  {
    const Frozen frozen{server};
    CHECK_NAMES(message_of<StoreError>([&] { return source->next(query(vault.ring, 5)); }), "did not answer");
    CHECK_NAMES(message_of<StoreError>([&] { return source->read({"1"}); }), "did not answer");
    CHECK_NAMES(message_of<StoreError>([&] { return source->census(vault.ring.id()); }), "did not answer");
    CHECK_NAMES(message_of<StoreError>([&] { return source->replace(batch, changes_of(batch, "late")); }),
                "did not answer within 1000 ms");
  }
  CHECK(source->read({"1"}).at(0)->value == batch.rows.at(0).value);

  auto options = vault.options();
  options.batch = 5;
  std::optional<Frozen> frozen;
  options.on_progress = [&](const RewrapProgress& progress) {
    if (progress.moved == 10 && vault.time->sleeps == 0) frozen.emplace(server);
  };
  vault.time->on_sleep = [&] { frozen.reset(); };
  const auto report = Rewrapper{vault.ring, source, options}.run();
  CAPTURE(report.reason);
  CHECK(vault.time->sleeps >= 1);
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.moved == 20);
}
