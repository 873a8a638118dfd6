#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "rewrap/vault_rows.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

namespace fs = std::filesystem;

/// Damages an envelope in one of many ways. What begins with another magic is plain, and no damage.
void damage(Bytes& value, int way) {
  const bool text = value.front() == std::byte{'h'};
  const std::size_t start = text ? 5 : 4;
  switch (way % 5) {
    case 0:
      value.resize(value.size() - 1);
      return;
    case 1:
      value.resize(start + 1);
      return;
    case 2:
      value.push_back(text ? std::byte{'!'} : std::byte{0});
      return;
    case 3:
      value[text ? 18 : 9] = text && value[18] == std::byte{'A'} ? std::byte{'B'} : std::byte{'A'};  // the ring's id
      return;
    default:
      // The last character of a text has bits that are always zero, which the format refuses to see changed.
      const std::size_t at = start + static_cast<std::size_t>(way) * 131 % (value.size() - start);
      value[at] = text ? (value[at] == std::byte{'A'} ? std::byte{'B'} : std::byte{'A'}) : value[at] ^ std::byte{8};
  }
}

fs::path checkpoint_in(const ScratchDirectory& folder) { return folder.path() / "checkpoint"; }

std::string read_file(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>{file}, {}};
}

}  // namespace

TEST_CASE("100 damaged rows among 2000 are all reported, and none is changed") {
  const std::size_t workers = GENERATE(1U, 3U);
  Vault vault;
  vault.fill(2'000);
  std::map<std::string, Bytes> damaged;
  for (int i = 0; i < 100; ++i) {
    const std::string key = Vault::key(i * 20 + i % 7);
    damage(vault.rows->values.at(key), i);
    damaged[key] = vault.rows->values.at(key);
  }
  REQUIRE(damaged.size() == 100);
  vault.rotate();
  auto options = vault.options();
  options.workers = workers;
  options.batch = 50;
  const auto report = vault.run(options);
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.moved == 1'900);
  CHECK(report.failed == 100);
  std::map<std::string, Bytes> reported;
  std::set<ErrorCode> codes;
  for (const auto& error : report.errors) {
    reported[error.key] = vault.rows->values.at(error.key);
    codes.insert(error.code);
    CHECK_FALSE(error.message.empty());
  }
  CHECK(report.errors.size() == 100);
  CHECK(reported == damaged);
  CHECK(codes.contains(ErrorCode::Format));
  CHECK(codes.contains(ErrorCode::Open));
  CHECK(codes.contains(ErrorCode::WrongRing));
  for (const auto& [key, value] : damaged) vault.rows->remove(key);
  CHECK(vault.opened_under(2) == 1'900);
  CHECK(vault.run().verdict == RewrapVerdict::Done);
}

TEST_CASE("all errors are counted, and as many kept as were asked for") {
  Vault vault;
  vault.fill(30);
  for (int i = 0; i < 25; ++i) vault.rows->values.at(Vault::key(i)).pop_back();
  vault.rotate();
  auto options = vault.options();
  options.errors_kept = 10;
  const auto report = vault.run(options);
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.failed == 25);
  CHECK(report.errors.size() == 10);
}

TEST_CASE("an altered payload is moved as it is if the data key alone is checked, and still does not open") {
  Vault vault;
  vault.fill(1);
  vault.rows->values.at(Vault::key(0)).back() ^= std::byte{1};
  vault.rotate();
  auto options = vault.options();
  options.check = RowCheck::Commitment;
  CHECK(vault.run(options).verdict == RewrapVerdict::Done);
  CHECK(vault.rows->census(vault.ring.id()).may_need(2) == 1);
  CHECK_THROWS_AS(vault.opened(Vault::key(0)), OpenError);
}

TEST_CASE("a row that was put in another's place is reported") {
  Vault vault;
  vault.fill(4);
  std::swap(vault.rows->values.at(Vault::key(1)), vault.rows->values.at(Vault::key(3)));
  vault.rotate();
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.moved == 2);
  REQUIRE(report.errors.size() == 2);
  CHECK(report.errors[0].key == Vault::key(1));
  CHECK(report.errors[0].code == ErrorCode::Open);
}

TEST_CASE("rows of a set that was removed are reported, and moved when it is restored") {
  Vault vault;
  vault.fill(5);
  vault.rotate();
  vault.parts.store->clock += std::chrono::seconds{1};
  vault.ring.remove_without_census(1);
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.failed == 5);
  REQUIRE_FALSE(report.errors.empty());
  CHECK(report.errors[0].code == ErrorCode::DeletedVersion);
  vault.ring.restore(1);
  CHECK(vault.run().verdict == RewrapVerdict::Done);
}

TEST_CASE("a token that fails for a while is waited for") {
  Vault vault;
  vault.fill(30);
  vault.rotate();
  vault.rows->before_replace = [&](const RowChange& change) {
    if (change.key == Vault::key(10)) vault.parts.provider->fail(true);
  };
  vault.time->on_sleep = [&] {
    if (vault.time->sleeps == 3) vault.parts.provider->fail(false);
  };
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.moved == 30);
  CHECK(report.failed == 0);
  CHECK(vault.time->slept == std::chrono::milliseconds{100 + 200 + 400});
  CHECK(vault.opened_under(2) == 30);
}

TEST_CASE("a token that stays away ends the run, which goes on from its checkpoint later") {
  Vault vault;
  vault.fill(30);
  vault.rotate();
  const ScratchDirectory folder;
  auto options = vault.options();
  options.checkpoint = checkpoint_in(folder);
  options.retry.attempts = 5;
  vault.rows->before_replace = [&](const RowChange& change) {
    if (change.key == Vault::key(16)) vault.parts.provider->fail(true);
  };
  const auto first = vault.run(options);
  CHECK(first.verdict == RewrapVerdict::Failing);
  CHECK(first.reason_code == ErrorCode::Token);
  CHECK_FALSE(first.reason.empty());
  CHECK(first.failed == 0);
  CHECK(first.moved == 21);
  CHECK_FALSE(first.census);
  CHECK(first.after == Vault::key(20));
  CHECK(vault.time->sleeps == 4);
  CHECK((fs::status(checkpoint_in(folder)).permissions() & fs::perms::mask) ==
        (fs::perms::owner_read | fs::perms::owner_write));
  vault.rows->before_replace = nullptr;
  vault.parts.provider->fail(false);
  vault.rows->queries.clear();
  const auto second = vault.run(options);
  CHECK(second.verdict == RewrapVerdict::Done);
  CHECK(second.moved == 9);
  REQUIRE_FALSE(vault.rows->queries.empty());
  CHECK(vault.rows->queries.front().after == Vault::key(20));
  CHECK_FALSE(fs::exists(checkpoint_in(folder)));
  CHECK(vault.opened_under(2) == 30);
}

TEST_CASE("what cannot pass by itself is not tried again") {
  Vault vault;
  vault.fill(5);
  vault.rotate();
  vault.rows->on_call = [](const std::string& what) {
    if (what == "replace")
      throw TokenLoginError({.function = "C_Login", .rv = 0xa0, .rv_name = "CKR_PIN_INCORRECT"}, "the PIN is wrong");
  };
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::Failing);
  CHECK(report.reason_code == ErrorCode::TokenLogin);
  CHECK(report.reason == "the PIN is wrong");
  CHECK(vault.time->sleeps == 0);
}

TEST_CASE("a store that fails for a while, at any call, is asked again") {
  const std::string call = GENERATE("census", "next", "replace", "replaced", "read");
  CAPTURE(call);
  Vault vault;
  vault.fill(20);
  vault.rotate();
  int failures = 0;
  vault.rows->on_call = [&](const std::string& what) {
    if (what == call && failures++ < 4) throw StoreError("the database is away");
  };
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(failures >= 3);  // as many as there are batches, if they come after a batch was replaced
  CHECK(report.moved == 20);
  CHECK(report.edited == 0);
  CHECK(vault.rows->replaced == 20);
  CHECK(vault.opened_under(2) == 20);
}

TEST_CASE("a store that stays away ends the run") {
  const std::string call = GENERATE("census", "next", "replace", "read");
  CAPTURE(call);
  Vault vault;
  vault.fill(20);
  vault.rotate();
  vault.rows->on_call = [&](const std::string& what) {
    if (what == call) throw StoreError("the database is away");
  };
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::Failing);
  CHECK(report.reason_code == ErrorCode::Store);
  CHECK(report.reason == "the database is away");
  CHECK(vault.time->sleeps >= 7);
  vault.rows->on_call = nullptr;
  CHECK(vault.run().verdict == RewrapVerdict::Done);
  CHECK(vault.opened_under(2) == 20);
}

TEST_CASE("a store that does not keep what it is given gets the old value back, and the run ends") {
  Vault vault;
  vault.fill(10);
  const auto before = vault.rows->values;
  vault.rotate();
  SECTION("it cuts off the end") {
    vault.rows->kept = [&](const Bytes& value) {
      return std::ranges::any_of(before, [&](const auto& row) { return row.second == value; })
                 ? value
                 : Bytes{value.begin(), value.begin() + 90};
    };
  }
  SECTION("it changes a character") {
    vault.rows->kept = [&](Bytes value) {
      if (std::ranges::none_of(before, [&](const auto& row) { return row.second == value; }))
        value[100] = std::byte{'?'};
      return value;
    };
  }
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::Failing);
  CHECK(report.reason_code == ErrorCode::Store);
  CHECK_NAMES(report.reason, "did not keep");
  CHECK(report.moved == 0);
  CHECK(report.failed == 7);
  REQUIRE_FALSE(report.errors.empty());
  CHECK_NAMES(report.errors[0].message, "put back");
  CHECK(report.errors[0].old_value.empty());
  CHECK(vault.rows->values == before);
}

TEST_CASE("what a store neither keeps nor takes back is in the report") {
  Vault vault;
  vault.fill(1);
  const Bytes before = vault.rows->values.at(Vault::key(0));
  vault.rotate();
  vault.rows->kept = [](const Bytes& value) { return Bytes{value.begin(), value.begin() + 90}; };
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::Failing);
  REQUIRE(report.errors.size() == 1);
  CHECK(report.errors[0].key == Vault::key(0));
  CHECK(report.errors[0].old_value == before);
}

TEST_CASE("a store that says it replaced a row and did not is asked again, and then left") {
  Vault vault;
  vault.fill(3);
  const auto before = vault.rows->values;
  vault.rotate();
  vault.rows->kept = [&](const Bytes&) { return before.at(Vault::key(0)); };
  vault.rows->remove(Vault::key(1));
  vault.rows->remove(Vault::key(2));
  const auto report = vault.run();
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.moved == 0);
  CHECK(vault.rows->values.at(Vault::key(0)) == before.at(Vault::key(0)));
}

TEST_CASE("rows are moved at the rate that was asked for") {
  const std::size_t workers = GENERATE(1U, 3U);
  Vault vault;
  vault.fill(100);
  vault.rotate();
  auto options = vault.options();
  options.batch = 10;
  options.workers = workers;
  options.rows_per_second = 20;
  CHECK(vault.run(options).verdict == RewrapVerdict::Done);
  CHECK(vault.time->slept == std::chrono::milliseconds{4'500});  // the last ten need not be waited for
  CHECK(vault.opened_under(2) == 100);
}

TEST_CASE("a checkpoint that is another's, old or damaged is not used") {
  Vault vault;
  vault.fill(20);
  vault.rotate();
  const ScratchDirectory folder;
  const fs::path file = checkpoint_in(folder);
  auto options = vault.options();
  options.checkpoint = file;
  std::stop_source stop;
  vault.rows->before_replace = [&](const RowChange& change) {
    if (change.key == Vault::key(10)) stop.request_stop();
  };
  CHECK(vault.run(options, stop.get_token()).after == Vault::key(6));
  vault.rows->before_replace = nullptr;
  std::string content = read_file(file);
  REQUIRE(content.find("\nactive 2\n") != std::string::npos);
  SECTION("of another ring") { content[content.find("ring ") + 5] ^= 1; }
  SECTION("of another active set") { content.replace(content.find("active 2"), 8, "active 1"); }
  SECTION("cut off") { content.pop_back(); }
  SECTION("no digits") { content[content.size() - 2] = 'x'; }
  SECTION("empty") { content.clear(); }
  std::ofstream{file, std::ios::trunc} << content;
  vault.rows->queries.clear();
  CHECK(vault.run(options).verdict == RewrapVerdict::Done);
  REQUIRE_FALSE(vault.rows->queries.empty());
  CHECK_FALSE(vault.rows->queries.front().after);
}

TEST_CASE("a checkpoint that skips rows costs a pass, and no row") {
  Vault vault;
  vault.fill(20);
  vault.rotate();
  auto options = vault.options();
  options.start_after = Vault::key(15);
  const auto report = vault.run(options);
  CHECK(report.verdict == RewrapVerdict::Done);
  CHECK(report.moved == 20);
  CHECK(vault.opened_under(2) == 20);
}

TEST_CASE("a checkpoint that others may write is refused") {
  Vault vault;
  vault.fill(2);
  vault.rotate();
  const ScratchDirectory folder;
  auto options = vault.options();
  options.checkpoint = checkpoint_in(folder);
  std::ofstream{checkpoint_in(folder)} << "x";
  fs::permissions(checkpoint_in(folder), fs::perms::all);
  CHECK_THROWS_AS(vault.run(options), InvalidArgumentError);
  CHECK(vault.rows->replaced == 0);
}

TEST_CASE("a census tells rows by the set they name, and by what they are") {
  Vault vault;
  vault.fill(2);
  RowCensus census;
  census.ring = vault.ring.id();
  const Bytes binary = vault.rows->values.at(Vault::key(0)), text = vault.rows->values.at(Vault::key(1));
  REQUIRE(is_sealed(binary));
  census.add(binary);
  census.add(text, 5);
  census.add(ByteView{binary}.first(RowCensus::kStartBytes));
  census.add(ByteView{text}.first(RowCensus::kStartCharacters));
  CHECK(census.sealed == std::map<Version, std::uint64_t>{{1, 8}});
  census.add(ByteView{binary}.first(RowCensus::kStartBytes - 1));
  census.add(ByteView{text}.first(RowCensus::kStartCharacters - 1));
  census.add(bytes("hse1.not base64url at all, but long"));
  Bytes version_zero = binary;
  version_zero[15] = std::byte{0};
  census.add(version_zero);
  CHECK(census.unreadable == 4);
  census.add(bytes("hunter2"), 3);
  census.add({});
  CHECK(census.plain == 4);
  Bytes foreign = binary;
  foreign[8] ^= std::byte{1};
  census.add(foreign);
  CHECK(census.foreign == 1);
  CHECK(census.sealed == std::map<Version, std::uint64_t>{{1, 8}});
  CHECK(census.may_need(1) == 12);
  CHECK(census.may_need(2) == 4);
  CHECK(census.not_under(1) == 5);
  CHECK(census.not_under(2) == 13);
}
