// What an audit log writes, and what it does when it cannot.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <sys/stat.h>

#include <hsmseal/audit_log.hpp>
#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>

#include "logged_ring.hpp"
#include "platform/platform.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/expect_error.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::Child;
using test::contains;
using test::entries_in;
using test::events_in;
using test::good;
using test::LoggedRing;
using test::message_of;
namespace fs = std::filesystem;

namespace {

using Names = std::vector<std::string>;

void set_mode(const fs::path& path, mode_t mode) { REQUIRE(::chmod(path.c_str(), mode) == 0); }

Names names_of(test::Recorder& recorder) {
  Names names;
  for (const auto kind : recorder.kinds()) names.emplace_back(to_string(kind));
  return names;
}

}  // namespace

TEST_CASE("an audit log has a line for each event, also for those before it was attached") {
  LoggedRing f{{.clock = [] { return Timestamp{1'700'000'000'123ms}; }}};
  CHECK_FALSE(fs::exists(f.file));
  f.log->attach(f.ring);
  f.add();
  f.lose_token();
  Names expected = names_of(*f.recorder);
  REQUIRE(expected.size() > 4);
  expected.emplace_back("token-lost");
  CHECK(events_in(f.file) == expected);
  const auto entries = entries_in(f.file);
  std::uint64_t sequence = 0;
  for (const AuditEntry& entry : entries) {
    CHECK(entry.sequence == ++sequence);
    CHECK(entry.ring == f.ring.id());
    CHECK(entry.process == platform::process_id());
    CHECK(entry.time == Timestamp{1'700'000'000'123ms});
    CHECK(entry.key == 0);
  }
  CHECK(entries.front().version == 1);
  CHECK(entries.front().token == "t");
  CHECK(entries.back().reason == "gone");
  CHECK(entries.back().rv == 0x32);
  CHECK(f.log->failures().events == 0);
  const AuditVerdict verdict = good(f.verify());
  CHECK(verdict.lines == entries.size());
  CHECK(verdict.end == AuditEnd{entries.back().sequence, entries.back().mac});
}

TEST_CASE("an audit log's file is its owner's alone") {
  LoggedRing f;
  f.log->attach(f.ring);
  struct stat status {};
  REQUIRE(::lstat(f.file.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777U) == 0600U);
}

TEST_CASE("seals, opens and rewraps are in an audit log if that is asked for") {
  for (const AuditScope scope : {AuditScope::WithoutUses, AuditScope::Everything}) {
    LoggedRing f{{.scope = scope}};
    f.log->attach(f.ring);
    const EnvelopeEncryptor encryptor{f.ring};
    const Bytes sealed = encryptor.seal(bytes_of("secret"), kNoContext);
    CHECK(encryptor.open(sealed, kNoContext).text() == "secret");
    static_cast<void>(encryptor.rewrap(sealed));
    const Context other = Context{}.add("a", "b");
    CHECK_THROWS_AS(encryptor.open(sealed, other), OpenError);
    const Names all = events_in(f.file);
    const Names uses{all.begin() + 2, all.end()};
    CHECK(uses == (scope == AuditScope::Everything ? Names{"sealed", "opened", "rewrapped", "open-refused"}
                                                   : Names{"open-refused"}));
    CHECK_FALSE(contains(test::content_of(f.file), "secret"));
    CHECK(f.recorder->kinds().size() == 6);
  }
}

TEST_CASE("an audit log goes on after a restart") {
  LoggedRing f;
  f.log->attach(f.ring);
  const AuditEnd before = good(f.verify()).end;
  const auto log = std::make_shared<AuditLog>(f.file);
  KeyRing again = f.parts.open({.observer = log, .clock = test::hurried_clock()});
  log->attach(again);
  again.add({.token = "t"});
  CHECK(entries_in(f.file).at(before.sequence).sequence == before.sequence + 1);
  CHECK(good(f.verify(before)).end.sequence > before.sequence);
}

TEST_CASE("an audit log follows its ring to another key") {
  LoggedRing f;
  f.log->attach(f.ring);
  for (const Version version : {1U, 2U}) {
    f.add();
    f.remove(version);
  }
  std::set<std::uint64_t> keys;
  for (const auto& entry : entries_in(f.file)) keys.insert(entry.key);
  CHECK(keys == std::set<std::uint64_t>{0, 1, 2});
  CHECK(good(f.verify()).under_former == 0);
}

TEST_CASE("a host that does not know the ring's new key yet writes under the old one, and that shows") {
  LoggedRing f;
  f.log->attach(f.ring);
  f.add();
  const auto log = std::make_shared<AuditLog>(f.file);
  KeyRing other = f.parts.open({.observer = log, .clock = [] { return std::chrono::steady_clock::time_point{}; }});
  log->attach(other);
  f.remove(1);
  log->on_event({.kind = Event::Kind::TokenLost});
  CHECK(entries_in(f.file).back().key == 0);
  CHECK(good(f.verify()).under_former == 1);

  const AuditVerdict unknown = verify_audit_log(other, f.file);
  REQUIRE(unknown.bad);
  CHECK(unknown.bad->fault == AuditFault::UnknownKey);
  CHECK_NAMES(unknown.bad->why, "key 1");
  other.refresh();
  CHECK(good(verify_audit_log(other, f.file)).lines == entries_in(f.file).size());
  CHECK(entries_in(f.file).back().key == 1);
  CHECK(good(f.verify()).under_former == 1);
}

TEST_CASE("events that come before an audit log is attached are kept up to a limit, and the rest counted") {
  LoggedRing f{{.most_kept = 3}};  // two are there from create()
  for (int i = 0; i < 5; ++i) f.lose_token();
  CHECK(f.log->failures().events == 4);
  CHECK_NAMES(f.log->failures().last_error, "more than 3 events");
  f.log->attach(f.ring);
  f.lose_token();
  CHECK(events_in(f.file) == Names{"set-added", "set-activated", "token-lost", "events-lost", "token-lost"});
  CHECK(entries_in(f.file)[3].lost == 4);
  CHECK(good(f.verify()).events_lost == 4);
}

TEST_CASE("several processes and threads write one audit log") {
  constexpr int kProcesses = 4, kThreads = 2, kEvents = 15;
  LoggedRing f;
  f.log->attach(f.ring);
  std::vector<std::unique_ptr<Child>> children;
  for (int process = 0; process < kProcesses; ++process) {
    children.push_back(std::make_unique<Child>([&] {
      AuditLog log{f.file};
      log.attach(f.ring);
      const auto write = [&] {
        for (int i = 0; i < kEvents; ++i) log.on_event({.kind = Event::Kind::TokenLost, .token = "t"});
      };
      std::vector<std::thread> threads;
      for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(write);
      for (auto& thread : threads) thread.join();
      return log.failures().events == 0;
    }));
  }
  for (const auto& child : children) CHECK(child->wait() == 0);
  CHECK(good(f.verify()).lines == 2 + kProcesses * kThreads * kEvents);
  std::set<std::uint64_t> processes;
  for (const auto& entry : entries_in(f.file)) processes.insert(entry.process);
  CHECK(processes.size() == kProcesses + 1);
}

TEST_CASE("a forked child goes on with its parent's audit log under its own number") {
  LoggedRing f;
  f.log->attach(f.ring);
  CHECK(test::exit_status_of([&] {
          f.lose_token();
          return f.log->failures().events == 0;
        }) == 0);
  f.lose_token();
  const auto entries = entries_in(f.file);
  REQUIRE(entries.size() == 4);
  CHECK(entries[2].process != platform::process_id());
  CHECK(entries[3].process == platform::process_id());
  good(f.verify());
}

TEST_CASE("what an audit log keeps until it is attached is written by the process that it happened in") {
  LoggedRing f;
  CHECK(test::exit_status_of([&] {
          f.log->attach(f.ring);
          f.lose_token();
          return true;
        }) == 0);
  CHECK(events_in(f.file) == Names{"token-lost"});
  f.log->attach(f.ring);
  CHECK(events_in(f.file) == Names{"token-lost", "set-added", "set-activated"});
  good(f.verify());
}

TEST_CASE("an audit log that cannot be written does not stop the ring, and says so later") {
  LoggedRing f;
  const fs::path away = f.scratch.path() / "away", folder = f.scratch.path() / "folder";
  REQUIRE(fs::create_directory(folder));
  const auto log = std::make_shared<AuditLog>(folder / "audit.log");
  KeyRing ring = f.parts.open({.observer = log, .clock = test::hurried_clock()});
  log->attach(ring);
  fs::rename(folder, away);
  CHECK(ring.add({.token = "t"}) == 2);
  const AuditFailures failures = log->failures();
  CHECK(failures.events >= 3);
  CHECK_NAMES(failures.last_error, "No such file");
  fs::rename(away, folder);
  log->on_event({.kind = Event::Kind::TokenRecovered});
  CHECK(events_in(folder / "audit.log") == Names{"events-lost", "token-recovered"});
  const AuditVerdict verdict = good(verify_audit_log(ring, folder / "audit.log"));
  CHECK(verdict.events_lost == failures.events);
  CHECK(log->failures().events == failures.events);
  CHECK_NAMES(entries_in(folder / "audit.log").front().reason, "No such file");
}

TEST_CASE("an audit log on a full disk keeps its lines whole, and the ring works on") {
  LoggedRing f;
  f.log->attach(f.ring);
  const std::string before = test::content_of(f.file);
  CHECK(test::exit_status_of([&] {
          test::limit_files(before.size() + 10);  // a part of a line would fit
          return f.add() == 2 && f.log->failures().events >= 3 &&
                 contains(f.log->failures().last_error, "cannot be written");
        }) == 0);
  CHECK(test::content_of(f.file) == before);
  good(f.verify());
}

TEST_CASE("an audit log whose lock others keep counts what it cannot write") {
  LoggedRing f;
  f.log->attach(f.ring);
  {
    const platform::PathLock lock{f.file};
    f.lose_token();
  }
  CHECK(f.log->failures().events == 1);
  CHECK_NAMES(f.log->failures().last_error, "others hold its lock");
  f.lose_token();
  CHECK(good(f.verify()).events_lost == 1);
}

TEST_CASE("an audit log's file that others could change is refused, and what happened before is kept") {
  LoggedRing f;
  const auto refused = [&](const std::string& why) {
    CHECK_NAMES(message_of<InvalidArgumentError>([&] { return f.log->attach(f.ring), 0; }), why);
  };
  const fs::path target = f.scratch.path() / "target";
  test::put(target, "");
  fs::create_symlink(target, f.file);
  refused("is a link");
  fs::remove(f.file);
  fs::create_directory(f.file);
  refused("is not a regular file");
  fs::remove(f.file);
  test::put(f.file, "");
  for (const mode_t mode : {0620U, 0602U}) {
    set_mode(f.file, mode);
    refused("is writable by its group or others");
  }
  set_mode(f.file, 0640);
  f.log->attach(f.ring);
  CHECK(events_in(f.file) == Names{"set-added", "set-activated"});
}

TEST_CASE("an audit log below a folder that everybody may write is refused") {
  LoggedRing f;
  const fs::path open = f.scratch.path() / "open", closed = open / "closed";
  REQUIRE(fs::create_directories(closed));
  set_mode(open, 0777);
  AuditLog log{closed / "audit.log"};
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return log.attach(f.ring), 0; }),
              "lies in '" + open.string() + "', which everybody may write");
  set_mode(open, 01777);
  log.attach(f.ring);
  CHECK(fs::exists(closed / "audit.log"));
}

TEST_CASE("an audit log is of one ring") {
  LoggedRing f, other;
  f.log->attach(f.ring);
  AuditLog same_file{f.file};
  CHECK_NAMES(message_of<WrongRingError>([&] { return same_file.attach(other.ring), 0; }), f.ring.id().to_string());
  CHECK_NAMES(message_of<WrongRingError>([&] { return f.log->attach(other.ring), 0; }), f.ring.id().to_string());
  f.log->on_event({.kind = Event::Kind::RingChanged, .ring = other.ring.id()});
  CHECK(f.log->failures().events == 1);
  CHECK_NAMES(f.log->failures().last_error, "another ring");
  f.lose_token();
  CHECK(events_in(f.file) == Names{"set-added", "set-activated", "events-lost", "token-lost"});
}

TEST_CASE("a ring that was opened for salvage has no audit log") {
  LoggedRing f;
  f.log->attach(f.ring);
  const KeyRing salvaged = KeyRing::open_for_salvage(f.parts.store, f.parts.provider, f.ring.id());
  AuditLog log{f.scratch.path() / "other.log"};
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return log.attach(salvaged), 0; }), "salvage");
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return verify_audit_log(salvaged, f.file); }), "salvage");
}

TEST_CASE("an audit log does not keep its ring alive, and outlives it") {
  LoggedRing f;
  const auto log = std::make_shared<AuditLog>(f.file);
  {
    const KeyRing ring = f.parts.open({.observer = log, .clock = test::hurried_clock()});
    log->attach(ring);
    CHECK(log.use_count() > 1);
  }
  CHECK(log.use_count() == 1);
  log->on_event({.kind = Event::Kind::TokenLost});
  CHECK(good(f.verify()).lines == 1);
}

TEST_CASE("texts that no line can hold are made to fit") {
  LoggedRing f;
  f.log->attach(f.ring);
  f.lose_token(std::string(100'000, '\x01'));
  f.lose_token("\xff\xfe" + std::string(5'000, 'x') + "\xc3");
  f.lose_token(std::string(4'095, 'y') + "\xc3\xa4");
  f.lose_token("line\nfeed \"quoted\"");
  const auto entries = entries_in(f.file);
  CHECK(entries[2].reason == std::string(4'096, '\x01'));
  CHECK(entries[3].reason == "\xef\xbf\xbd\xef\xbf\xbd" + std::string(4'094, 'x'));
  CHECK(entries[4].reason == std::string(4'095, 'y') + "\xef\xbf\xbd");
  CHECK(entries[5].reason == "line\nfeed \"quoted\"");
  good(f.verify());
}

TEST_CASE("paths and limits that cannot be are refused by an audit log") {
  CHECK_THROWS_AS(AuditLog{""}, InvalidArgumentError);
  CHECK_THROWS_AS(AuditLog{"/tmp/"}, InvalidArgumentError);
  CHECK_THROWS_AS((AuditLog{"/tmp/x", {.most_kept = 1'000'001}}), InvalidArgumentError);
  const test::ScratchDirectory scratch;
  const fs::path missing = scratch.path() / "missing";
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return read_audit_log(missing, [](const auto&) {}), 0; }),
              "cannot read the audit log '" + missing.string() + "'");
}

TEST_CASE("the end of an audit log is kept as text") {
  AuditEnd end{12, {}};
  end.mac[31] = std::byte{0xab};
  CHECK(end.to_text() == "12:" + std::string(62, '0') + "ab");
  CHECK(AuditEnd::from_text(end.to_text()) == end);
  for (const std::string& text :
       {std::string{}, std::string{"12"}, "12:" + std::string(62, '0'), " 12:" + std::string(64, '0'),
        "012:" + std::string(64, '0'), "12:" + std::string(64, 'A'), "12:" + std::string(66, '0'),
        "18446744073709551616:" + std::string(64, '0'), ":" + std::string(64, '0')}) {
    INFO(text);
    CHECK_THROWS_AS(AuditEnd::from_text(text), InvalidArgumentError);
  }
}

TEST_CASE("each kind of event has a name of its own") {
  std::set<std::string_view> names;
  for (int kind = 0; kind <= static_cast<int>(Event::Kind::PinRefused); ++kind) {
    const auto name = to_string(static_cast<Event::Kind>(kind));
    CHECK(name != "unknown");
    CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-") == std::string_view::npos);
    CHECK(names.insert(name).second);
  }
  CHECK(names.size() > 20);
}
