#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "rewrap/vault_rows.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// A crash, as far as it can be had within a process: nothing catches it on the way.
struct Crash {};

std::set<std::string> keys_of(const std::vector<RowError>& errors) {
  std::set<std::string> keys;
  for (const auto& error : errors) keys.insert(error.key);
  return keys;
}

}  // namespace

TEST_CASE("all rows come to the active set, and then the old set may go") {
  const std::size_t workers = GENERATE(1U, 4U);
  CAPTURE(workers);
  Vault vault;
  vault.fill(60);
  vault.rows->put("plain", bytes("hunter2"));
  vault.rotate();
  const auto census = census_of(vault.rows, vault.ring.id());
  vault.parts.store->clock += std::chrono::seconds{1};
  CHECK_THROWS_AS(vault.ring.remove(1, census), SetInUseError);
  auto options = vault.options();
  options.workers = workers;
  const auto report = vault.run(options);
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.active == 2);
  CHECK(report.moved == 60);
  CHECK(report.edited == 0);
  CHECK(report.failed == 0);
  REQUIRE(report.census);
  CHECK(report.census->sealed == std::map<Version, std::uint64_t>{{2, 60}});
  CHECK(report.census->plain == 1);
  CHECK(vault.rows->values.at("plain") == bytes("hunter2"));
  CHECK_FALSE(report.after);
  vault.ring.remove(1, census);
  vault.rows->remove("plain");
  CHECK(vault.opened_under(2) == 60);
  // There is nothing to do a second time, and no row is asked for.
  vault.rows->queries.clear();
  CHECK(vault.run().verdict == RewrapVerdict::Done);
  CHECK(vault.rows->queries.empty());
}

TEST_CASE("a rewrap leaves the payload as it is, and a reseal does not") {
  const auto mode = GENERATE(RewrapMode::Rewrap, RewrapMode::Reseal);
  Vault vault;
  vault.fill(1);
  const Bytes before = vault.rows->values.at(Vault::key(0));
  vault.rotate();
  auto options = vault.options();
  options.mode = mode;
  CHECK(vault.run(options).verdict == RewrapVerdict::Done);
  const Bytes& after = vault.rows->values.at(Vault::key(0));
  CHECK(after != before);
  REQUIRE(after.size() == before.size());
  const bool same_payload = std::equal(after.end() - 40, after.end(), before.end() - 40);
  CHECK(same_payload == (mode == RewrapMode::Rewrap));
  CHECK(vault.opened_under(2) == 1);
}

TEST_CASE("rows that were sealed in the token are resealed") {
  const auto check = GENERATE(RowCheck::Open, RowCheck::Commitment);
  Vault vault{{.suite = Suite::Token}};
  vault.fill(4);
  vault.rotate();
  auto options = vault.options();
  options.check = check;
  CHECK(vault.run(options).verdict == RewrapVerdict::Done);
  CHECK(vault.opened_under(2) == 4);
  CHECK(inspect(vault.rows->values.at(Vault::key(0))).suite == Suite::Token);
}

TEST_CASE("a row costs three uses of the token if it is to open, and two if its data key alone is checked") {
  const auto check = GENERATE(RowCheck::Open, RowCheck::Commitment);
  Vault vault;
  vault.fill(30);
  vault.rotate();
  const int before = vault.parts.provider->wraps() + vault.parts.provider->unwraps();
  auto options = vault.options();
  options.check = check;
  vault.rows->knows_contexts = check == RowCheck::Open;
  CHECK(vault.run(options).verdict == RewrapVerdict::Done);
  const int uses = vault.parts.provider->wraps() + vault.parts.provider->unwraps() - before;
  CHECK(uses == 30 * (check == RowCheck::Open ? 3 : 2));
  CHECK(vault.opened_under(2) == 30);
}

TEST_CASE("a dry run changes nothing, and finds the rows that would fail") {
  Vault vault;
  vault.fill(40);
  vault.rows->values.at(Vault::key(12)).back() ^= std::byte{1};
  vault.rotate();
  const auto before = vault.rows->values;
  const ScratchDirectory folder;
  auto options = vault.options();
  options.writes = RewrapWrites::Nothing;
  options.checkpoint = folder.path() / "checkpoint";
  const auto report = vault.run(options);
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.moved == 39);
  CHECK(keys_of(report.errors) == std::set{Vault::key(12)});
  CHECK(vault.rows->values == before);
  CHECK(vault.rows->replaced == 0);
  CHECK(std::filesystem::is_empty(folder.path()));
  REQUIRE_FALSE(vault.rows->queries.empty());
  for (const auto& query : vault.rows->queries) CHECK(query.access == RowAccess::Read);
}

TEST_CASE("a run that is stopped at any row goes on where it was") {
  constexpr int kRows = 23;
  int stopped = 0;
  for (int at = 0; at <= kRows; ++at) {
    CAPTURE(at);
    Vault vault;
    vault.fill(kRows);
    vault.rotate();
    std::stop_source stop;
    int rows = 0;
    vault.rows->before_replace = [&](const RowChange&) {
      if (rows++ == at) stop.request_stop();
    };
    auto options = vault.options();
    const auto first = vault.run(options, stop.get_token());
    REQUIRE(first.verdict == (at < kRows ? RewrapVerdict::Cancelled : RewrapVerdict::Done));
    stopped += first.verdict == RewrapVerdict::Cancelled ? 1 : 0;
    CHECK(first.census.has_value() == (first.verdict == RewrapVerdict::Done));
    options.start_after = first.after;
    const auto second = vault.run(options);
    CHECK(second.verdict == RewrapVerdict::Done);
    CHECK(first.moved + second.moved == kRows);
    CHECK(vault.rows->replaced == kRows);
    CHECK(vault.opened_under(2) == kRows);
  }
  CHECK(stopped == kRows);
}

TEST_CASE("a run that breaks off at any call loses no row, and the next one finishes") {
  constexpr int kRows = 15;
  const ScratchDirectory folder;
  int crashes = 0;
  for (int at = 0;; ++at) {
    CAPTURE(at);
    Vault vault;
    vault.fill(kRows);
    vault.rotate();
    int calls = 0;
    vault.rows->on_call = [&](const std::string&) {
      if (calls++ == at) throw Crash{};
    };
    auto options = vault.options();
    options.batch = 4;
    options.checkpoint = folder.path() / std::to_string(at);
    bool crashed = false;
    try {
      static_cast<void>(vault.run(options));
    } catch (const Crash&) {
      crashed = true;
    }
    vault.rows->on_call = nullptr;
    REQUIRE(vault.rows->values.size() == kRows);
    for (const auto& [key, value] : vault.rows->values) REQUIRE(vault.opened(key) == Vault::secret(key));
    CHECK(vault.run(options).verdict == RewrapVerdict::Done);
    CHECK(vault.rows->replaced == kRows);
    CHECK(vault.opened_under(2) == kRows);
    if (!crashed) break;
    ++crashes;
  }
  CHECK(crashes == 2 + 4 * 4);  // two counts, and the calls for four batches: take, replace, its end, read
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("what the application does meanwhile wins") {
  Vault vault;
  vault.fill(50);
  // Hosts that have not heard of the new set yet write under the old one.
  const Bytes old_edit = vault.sealed(Vault::key(10), "edited under the old set");
  const Bytes late_row = vault.sealed("row-99990", Vault::secret("row-99990"));
  vault.rotate();
  const Bytes new_edit = vault.sealed(Vault::key(20), "edited under the new set");
  vault.rows->before_replace = [&](const RowChange& change) {
    if (change.key == Vault::key(10) && change.old_value != old_edit) vault.rows->put(change.key, old_edit);
    if (change.key == Vault::key(20)) vault.rows->put(change.key, new_edit);
    if (change.key == Vault::key(30)) vault.rows->remove(change.key);
    if (change.key == Vault::key(40)) vault.rows->put("row-99990", late_row);
    if (change.key == Vault::key(41)) vault.rows->put("row-00000a", late_row);
  };
  const auto report = vault.run();
  // One row was written where the run had been before: the census sees it, and another pass finds it, bound elsewhere.
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(keys_of(report.errors) == std::set<std::string>{"row-00000a"});
  CHECK(report.edited == 2);
  CHECK(report.moved == 49);
  CHECK(vault.opened(Vault::key(10)) == "edited under the old set");
  CHECK(vault.opened(Vault::key(20)) == "edited under the new set");
  CHECK(vault.rows->values.at(Vault::key(20)) == new_edit);
  CHECK_FALSE(vault.rows->values.contains(Vault::key(30)));
  CHECK(vault.opened("row-99990") == Vault::secret("row-99990"));
  vault.rows->remove("row-00000a");
  CHECK(vault.run().verdict == RewrapVerdict::Done);
}

TEST_CASE("threads that edit, add and delete rows all the while lose nothing, and nothing comes back") {
  Vault vault;
  vault.fill(400);
  vault.rotate();
  std::atomic<bool> done = false;
  std::map<std::string, std::string> expected;  // nothing: deleted
  std::thread application{[&] {
    for (int i = 0; !done; i = (i + 7) % 600) {
      const std::string key = Vault::key(i);
      const std::string text = i % 5 == 0 ? "" : fmt::format("edit {} of {}", expected.size(), key);
      if (text.empty()) {
        vault.rows->remove(key);
      } else {
        vault.rows->put(key, vault.sealed(key, text));
      }
      expected[key] = text;
    }
  }};
  auto options = vault.options();
  options.workers = 3;
  const auto report = vault.run(options);
  done = true;
  application.join();
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.failed == 0);
  REQUIRE_FALSE(expected.empty());
  for (const auto& [key, text] : expected) {
    CAPTURE(key);
    CHECK(vault.rows->values.contains(key) == !text.empty());
    if (!text.empty()) CHECK(vault.opened(key) == text);
  }
  for (const auto& [key, value] : vault.rows->values) {
    CAPTURE(key);
    if (!expected.contains(key)) CHECK(vault.opened(key) == Vault::secret(key));
  }
}

TEST_CASE("two runs at once share the work") {
  Vault vault;
  vault.fill(200);
  vault.rotate();
  RewrapReport there;
  std::thread other{[&] { there = vault.run(); }};
  const auto here = vault.run();
  other.join();
  CHECK(here.verdict == RewrapVerdict::Done);
  CHECK(there.verdict == RewrapVerdict::Done);
  CHECK(here.moved + there.moved == 200);
  CHECK(vault.rows->replaced == 200);
  CHECK(vault.opened_under(2) == 200);
}

TEST_CASE("rows that are held by another host are waited for, while fewer are left each time") {
  Vault vault;
  vault.fill(20);
  for (int i = 5; i < 10; ++i) vault.rows->held_back.insert(Vault::key(i));
  vault.rotate();
  auto options = vault.options();
  options.retry.attempts = 2;
  SECTION("they are let go, one by one") {
    vault.time->on_sleep = [&] { vault.rows->held_back.erase(vault.rows->held_back.begin()); };
    const auto report = vault.run(options);
    CHECK(report.verdict == RewrapVerdict::Done);
    CHECK(report.moved == 20);
    CHECK(vault.time->sleeps >= 1);
  }
  SECTION("they are kept") {
    const auto report = vault.run(options);
    CHECK(report.verdict == RewrapVerdict::RowsLeft);
    CHECK(report.moved == 15);
    CHECK(report.failed == 0);
    REQUIRE(report.census);
    CHECK(report.census->may_need(1) == 5);
  }
}

TEST_CASE("a set that becomes the active one during a run is where the rows go") {
  Vault vault;
  vault.fill(40);
  vault.rotate();
  vault.rows->before_replace = [&](const RowChange& change) {
    if (change.key == Vault::key(20) && vault.ring.active().version == 2) vault.rotate();
  };
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.active == 3);
  CHECK(report.moved > 40);
  CHECK(vault.opened_under(3) == 40);
}

TEST_CASE("a run that was stopped before it began does nothing") {
  Vault vault;
  vault.fill(3);
  vault.rotate();
  std::stop_source stop;
  stop.request_stop();
  CHECK(vault.run(vault.options(), stop.get_token()).verdict == RewrapVerdict::Cancelled);
  CHECK(vault.rows->replaced == 0);
}

TEST_CASE("progress is told after each batch, up to all that was to be moved") {
  Vault vault;
  vault.fill(50);
  vault.rotate();
  std::vector<RewrapProgress> told;
  auto options = vault.options();
  options.workers = 3;
  options.on_progress = [&](const RewrapProgress& progress) { told.push_back(progress); };
  CHECK(vault.run(options).verdict == RewrapVerdict::Done);
  CHECK(told.size() == 8);
  for (std::size_t i = 0; i < told.size(); ++i) {
    CHECK(told[i].to_move == 50);
    if (i > 0) CHECK(told[i].moved >= told[i - 1].moved);
    if (i > 0 && told[i].after) CHECK(told[i].after >= told[i - 1].after);
  }
  CHECK(told.back().moved == 50);
}

TEST_CASE("options out of their bounds, and sources that do not fit, are refused") {
  Vault vault;
  vault.fill(1);
  vault.rotate();
  const auto refused = [&](const std::function<void(RewrapOptions&)>& change) {
    auto options = vault.options();
    change(options);
    return message_of<InvalidArgumentError>([&] { return Rewrapper{vault.ring, vault.rows, options}; });
  };
  CHECK_NAMES(refused([](auto& o) { o.workers = 0; }), "workers");
  CHECK_NAMES(refused([](auto& o) { o.workers = 257; }), "workers");
  CHECK_NAMES(refused([](auto& o) { o.batch = 0; }), "rows");
  CHECK_NAMES(refused([](auto& o) { o.batch = 10'001; }), "rows");
  CHECK_NAMES(refused([](auto& o) { o.retry.attempts = 0; }), "attempt");
  CHECK_NAMES(refused([](auto& o) { o.clock = nullptr; }), "clock");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return Rewrapper{vault.ring, nullptr}; }), "source");
  vault.rows->knows_contexts = false;
  const auto message = message_of<InvalidArgumentError>([&] { return vault.run(); });
  CHECK_NAMES(message, Vault::key(0));
  CHECK_NAMES(message, "RowCheck::Commitment");
  CHECK(vault.rows->replaced == 0);
}
