#include <algorithm>
#include <set>
#include <thread>

#include "rewrap/tables.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

RewrapReport run(const Vault& vault, std::shared_ptr<RowSource> source, RewrapOptions options) {
  return Rewrapper{vault.ring, std::move(source), std::move(options)}.run();
}

std::set<std::string> keys_of(const RowBatch& batch) {
  std::set<std::string> keys;
  for (const Row& row : batch.rows) keys.insert(row.key);
  return keys;
}

RowQuery query(const KeyRing& ring, std::size_t most, RowAccess access = RowAccess::Replace) {
  return {.most = most, .ring = ring.id(), .active = ring.active().version, .access = access};
}

}  // namespace

TEST_CASE("the rows of a table come to the active set, in every database and form") {
  const auto kind = GENERATE(from_range(kRowDatabases));
  const auto form = GENERATE(RowForm::Text, RowForm::Binary);
  const std::string key_type = GENERATE("integer", "varchar(40)");
  CAPTURE(kind, static_cast<int>(form), key_type);
  constexpr int kRows = 25;
  Vault vault;
  const Table table{kind, form, key_type};
  table.fill(vault.ring, kRows);
  const std::string longer(20'000, 'x');
  table.insert("1000", table.sealed(vault.ring, "1000", longer));
  table.insert("1001", form == RowForm::Text ? "'plain'" : table.literal(bytes_of("plain")));
  table.insert("1002", "null");
  vault.rotate();
  const auto source = table.source();
  CHECK(source->census(vault.ring.id()).sealed == std::map<Version, std::uint64_t>{{1, kRows + 1}});
  const auto report = run(vault, source, vault.options());
  CAPTURE(report.reason);
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.moved == kRows + 1);
  REQUIRE(report.census);
  CHECK(report.census->sealed == std::map<Version, std::uint64_t>{{2, kRows + 1}});
  CHECK(report.census->plain == 1);
  CHECK(table.opened(vault.ring, *source, "1000") == longer);
  for (int i = 1; i <= kRows; ++i) {
    const std::string key = std::to_string(i);
    CHECK(table.opened(vault.ring, *source, key) == Vault::secret(key));
  }
  CHECK(table.value("1001") == (form == RowForm::Text ? "plain" : "706c61696e"));
  CHECK_FALSE(source->read({"1002", "1003"}).at(0));
  CHECK(table.place().value("select cast(count(*) as varchar(9)) from vault") == std::to_string(kRows + 3));
  // What is there already is not asked for again.
  CHECK(source->next(query(vault.ring, 100)).rows.empty());
}

TEST_CASE("SQLite over ODBC is refused, since its driver cuts off what is computed") {
  Vault vault;
  const Table table{"odbc to sqlite", RowForm::Text};
  table.fill(vault.ring, 1);
  vault.rotate();
  const std::string before = table.value("1");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return run(vault, table.source(), vault.options()); }),
              "'sqlite:'");
  CHECK(table.value("1") == before);
}

TEST_CASE("a row that changed since it was read is not replaced, and one that is gone is not made") {
  const auto kind = GENERATE(from_range(kRowDatabases));
  const auto form = GENERATE(RowForm::Text, RowForm::Binary);
  CAPTURE(kind, static_cast<int>(form));
  Vault vault;
  const Table table{kind, form};
  table.fill(vault.ring, 3);
  vault.rotate();
  const auto source = table.source();
  auto batch = source->next(query(vault.ring, 10, RowAccess::Read));
  REQUIRE(batch.rows.size() == 3);
  table.place().run("update vault set sealed = " + table.sealed(vault.ring, "1", "an edit") + " where id = 1");
  table.place().run("delete from vault where id = 2");
  const std::string edit = table.value("1");
  std::vector<RowChange> changes;
  for (const Row& row : batch.rows) changes.push_back({row.key, row.value, bytes("a new value")});
  CHECK(source->replace(batch, changes) == std::vector{false, false, true});
  CHECK(table.value("1") == edit);
  CHECK_FALSE(source->read({"2"}).at(0));
  CHECK(source->read({"3"}).at(0)->value == bytes("a new value"));
}

TEST_CASE("damaged rows of a table are reported and left, also those in the other form") {
  const auto kind = GENERATE(from_range(kRowDatabases));
  const auto form = GENERATE(RowForm::Text, RowForm::Binary);
  CAPTURE(kind, static_cast<int>(form));
  Vault vault;
  const Table table{kind, form};
  table.fill(vault.ring, 10);
  const auto literal = [&](const std::string& text) {
    return form == RowForm::Text ? "'" + text + "'" : table.literal(bytes_of(text));
  };
  table.insert("21", literal("hse1.no envelope"));
  table.insert("22", literal("HSE1 no envelope"));
  table.insert("23", literal("hse1.SFNFMQEBAAAAAAAAAAAAAQA8"));
  vault.rotate();
  const auto report = run(vault, table.source(), vault.options());
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.moved == 10);
  std::set<std::string> keys;
  for (const auto& error : report.errors) keys.insert(error.key);
  CHECK(keys == std::set<std::string>{"21", "22", "23"});
  REQUIRE(report.census);
  CHECK(report.census->plain == 0);
  CHECK(report.census->unreadable + report.census->foreign == 3);
}

TEST_CASE("a column that holds the other form is not taken for one without envelopes") {
  const auto kind = GENERATE("sqlite", "postgresql");
  CAPTURE(kind);
  Vault vault;
  const Table table{kind, RowForm::Binary};
  for (int i = 1; i <= 9; ++i) {
    const std::string key = std::to_string(i);
    const std::string text = EnvelopeEncryptor{vault.ring}.seal_text(Vault::secret(key), context_of(key));
    table.insert(key, table.literal(bytes_of(text)));
  }
  vault.rotate();
  const auto report = run(vault, table.source(), vault.options());
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.moved == 9);
  CHECK(report.census->sealed == std::map<Version, std::uint64_t>{{2, 9}});
}

TEST_CASE("two hosts on one PostgreSQL table have different rows at the same time") {
  const std::string kind = GENERATE("postgresql", "odbc to postgresql");
  CAPTURE(kind);
  Vault vault;
  const Table table{kind, RowForm::Text};
  table.fill(vault.ring, 30);
  vault.rotate();
  const auto here = table.source(), there = table.source();
  auto first = here->next(query(vault.ring, 10));
  auto second = there->next(query(vault.ring, 10));
  const auto third = here->next(query(vault.ring, 100));
  std::set<std::string> all;
  for (const RowBatch* batch : {&std::as_const(first), &std::as_const(second), &third}) all.merge(keys_of(*batch));
  CHECK(first.rows.size() == 10);
  CHECK(second.rows.size() == 10);
  CHECK(third.rows.size() == 10);
  CHECK(all.size() == 30);
  CHECK(there->next(query(vault.ring, 100)).rows.empty());
  CHECK(there->next(query(vault.ring, 100, RowAccess::Read)).rows.size() == 30);
  const auto keys = keys_of(first);
  first.hold.reset();
  CHECK(keys_of(there->next(query(vault.ring, 100))) == keys);
}

TEST_CASE("runs on several hosts share a table, and each says done when all of it is") {
  const auto kind = GENERATE("postgresql", "sqlite");
  const auto form = GENERATE(RowForm::Text, RowForm::Binary);
  CAPTURE(kind, static_cast<int>(form));
  constexpr int kRows = 400;
  Vault vault;
  const Table table{kind, form};
  table.fill(vault.ring, kRows);
  vault.rotate();
  RewrapOptions options;
  options.batch = 9;
  options.workers = 2;
  RewrapReport here, there;
  CHECK(
      at_once(2, [&](std::size_t host) { (host == 0 ? here : there) = run(vault, table.source(), options); }).empty());
  CHECK(here.verdict == RewrapVerdict::Done);
  CHECK(there.verdict == RewrapVerdict::Done);
  CHECK(here.moved + there.moved == kRows);
  if (std::string{kind} == "postgresql") CHECK(here.edited + there.edited == 0);
  CHECK(table.source()->census(vault.ring.id()).sealed == std::map<Version, std::uint64_t>{{2, kRows}});
}

TEST_CASE("a server that is started anew in the middle of a run costs nothing but time") {
  PostgresServer server;
  Vault vault;
  const std::string database = server.new_database();
  server.run(database, "create table vault (id integer primary key, sealed text)");
  for (int i = 1; i <= 60; ++i) {
    const std::string key = std::to_string(i);
    server.run(database, fmt::format("insert into vault values ({}, '{}')", key,
                                     EnvelopeEncryptor{vault.ring}.seal_text(Vault::secret(key), context_of(key))));
  }
  vault.rotate();
  SqlRowOptions where{.table = "public.vault", .key_column = "id", .value_column = "sealed"};
  where.context = [](std::string_view key) { return context_of(key).encoded(); };
  auto options = vault.options();
  bool restarted = false;
  options.on_progress = [&](const RewrapProgress& progress) {
    if (progress.moved >= 20 && !std::exchange(restarted, true)) server.restart();
  };
  const auto report = run(vault, sql_row_source("postgresql:" + server.conninfo(database), where), options);
  CAPTURE(report.reason);
  CHECK(restarted);
  CHECK(vault.time->sleeps >= 1);
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.moved == 60);
  CHECK(server.value(database, "select count(*) from vault") == "60");
}

TEST_CASE("a column or table that is not there is an error, and never a column without envelopes") {
  const auto kind = GENERATE(from_range(kRowDatabases));
  CAPTURE(kind);
  Vault vault;
  const Table table{kind, RowForm::Text};
  table.fill(vault.ring, 1);
  vault.rotate();
  const auto fails = [&](const std::function<void(SqlRowOptions&)>& change, const std::string& name) {
    auto where = table.options();
    change(where);
    const auto source = sql_row_source(table.place().url(), where);
    const auto message = message_of<StoreError>([&] { return source->census(vault.ring.id()); });
    CHECK_NAMES(message, name);
    CHECK_THROWS_AS(source->next(query(vault.ring, 1)), StoreError);
  };
  fails([](auto& where) { where.value_column = "sealed2"; }, "sealed2");
  fails([](auto& where) { where.table = "vault2"; }, "vault2");
  auto where = table.options();
  where.key_column = "id2";
  CHECK_THROWS_AS(sql_row_source(table.place().url(), where)->next(query(vault.ring, 1)), StoreError);
}

TEST_CASE("a key that several rows have is an error, and none of them is replaced") {
  const auto kind = GENERATE(from_range(kRowDatabases));
  CAPTURE(kind);
  Vault vault;
  const Table table{kind, RowForm::Text};
  const std::string value = table.sealed(vault.ring, "1", "x");
  table.place().run("create table doubles (id integer, sealed text)");
  for (int i = 0; i < 2; ++i) table.place().run("insert into doubles values (1, " + value + ")");
  auto where = table.options();
  where.table = "doubles";
  const auto source = sql_row_source(table.place().url(), where);
  RowBatch none;
  const Bytes old_value = source->read({"1"}).at(0)->value;
  CHECK_NAMES(message_of<StoreError>([&] {
                return source->replace(none, {{"1", old_value, bytes("new")}});
              }),
              "several rows");
  CHECK(source->read({"1"}).at(0)->value == old_value);
}

TEST_CASE("names that are none, and times out of their bounds, are refused") {
  const auto refused = [](const std::function<void(SqlRowOptions&)>& change) {
    SqlRowOptions options{.table = "vault", .key_column = "id", .value_column = "sealed"};
    change(options);
    return message_of<InvalidArgumentError>([&] { return sql_row_source("sqlite:/nowhere", options); });
  };
  const std::vector<std::string> names = {"", "a b", "a\"b", "1a", "a;", "a.b.c", ".a", "a.", std::string(64, 'a'),
                                          "ä"};
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK_NAMES(refused([&](auto& options) { options.table = name; }), "name");
    CHECK_NAMES(refused([&](auto& options) { options.key_column = name; }), "name");
    CHECK_NAMES(refused([&](auto& options) { options.value_column = name; }), "name");
  }
  CHECK_NAMES(refused([](auto& options) { options.timeout = std::chrono::milliseconds{99}; }), "timeout");
  CHECK_NAMES(refused([](auto& options) { options.timeout = std::chrono::hours{2}; }), "timeout");
}

TEST_CASE("no file and no table of hsmseal is made where rows are looked for") {
  const ScratchDirectory folder;
  const auto file = folder.path() / "missing.db";
  const SqlRowOptions options{.table = "vault", .key_column = "id", .value_column = "sealed"};
  const auto source = sql_row_source("sqlite:" + file.string(), options);
  CHECK_THROWS_AS(source->census({}), StoreError);
  CHECK_FALSE(std::filesystem::exists(file));
  const Table table{"sqlite", RowForm::Text};
  CHECK(table.source()->census({}).plain == 0);
  CHECK(table.place().value("select cast(count(*) as text) from sqlite_master where name like 'hsmseal%'") == "0");
}
