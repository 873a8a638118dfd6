// Whatever is done to an audit log shows, and what a crash does to it is told
// from that.
#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/audit_log.hpp>

#include "logged_ring.hpp"
#include "ring/audit_line.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"

using namespace hsmseal;
using test::content_of;
using test::events_in;
using test::good;
using test::joined;
using test::lines_in;
using test::LoggedRing;
namespace fs = std::filesystem;

namespace {

using Lines = std::vector<std::string>;

/// A log of seven lines or more, under two keys of its ring, and what can be
/// done to it.
struct Scene : LoggedRing {
  Scene() {
    log->attach(ring);
    add();
    remove(1);
    lose_token();
    original = lines();
    REQUIRE(original.size() >= 7);
    REQUIRE(lines().front().find("\"key\":0") != std::string::npos);
    REQUIRE(lines().back().find("\"key\":1") != std::string::npos);
    end = good(verify()).end;
    REQUIRE(end.sequence == original.size());
  }

  [[nodiscard]] AuditVerdict with(const std::string& content, const std::optional<AuditEnd>& expected = {}) const {
    test::put(file, content);
    return verify(expected);
  }
  [[nodiscard]] AuditVerdict with(const Lines& changed, const std::optional<AuditEnd>& expected = {}) const {
    return with(joined(changed), expected);
  }

  Lines original;
  AuditEnd end;
};

/// Checks where the first bad line is, and what it is.
void check_bad(const AuditVerdict& verdict, std::uint64_t line, AuditFault fault) {
  REQUIRE(verdict.bad);
  INFO(verdict.bad->why);
  CHECK_FALSE(verdict.good());
  CHECK(verdict.bad->line == line);
  CHECK(verdict.bad->fault == fault);
  CHECK_FALSE(verdict.bad->why.empty());
}

Lines without(Lines lines, std::size_t index) {
  lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(index));
  return lines;
}

Lines inserted(Lines lines, std::size_t index, const std::string& line) {
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(index), line);
  return lines;
}

}  // namespace

TEST_CASE("every byte that is altered in an audit log shows") {
  const Scene f;
  const std::size_t count = f.original.size();
  std::size_t tried = 0, found = 0;
  for (std::size_t index = 0; index < count; ++index) {
    const std::size_t step = index == count / 2 ? 1 : 11;  // of the other lines some
    for (std::size_t i = 0; i < f.original[index].size(); i += step) {
      if (index + 1 == count && i + 1 == f.original[index].size()) break;  // its line feed: see the test of torn lines
      Lines lines = f.original;
      lines[index][i] = static_cast<char>(lines[index][i] ^ 1);
      const AuditVerdict verdict = f.with(lines);
      // A digit of the ring's id or of the key's number may make it a line of another ring, or under another key.
      const bool named =
          verdict.bad && (verdict.bad->fault == AuditFault::Altered || verdict.bad->fault == AuditFault::OtherRing ||
                          verdict.bad->fault == AuditFault::UnknownKey);
      const bool shows = named && verdict.bad->line == index + 1 && verdict.lines == index;
      if (!shows) UNSCOPED_INFO("byte " << i << " of line " << index + 1);
      ++tried;
      found += shows ? 1 : 0;
    }
  }
  CHECK(found == tried);
  CHECK(tried > 500);
}

TEST_CASE("a line that is removed from an audit log shows, the last to who knows of it") {
  const Scene f;
  const std::size_t count = f.original.size();
  for (std::size_t index = 0; index + 1 < count; ++index) {
    check_bad(f.with(without(f.original, index)), index + 1, AuditFault::Removed);
  }
  const Lines cut = without(f.original, count - 1);
  const AuditVerdict unseen = good(f.with(cut));
  CHECK(unseen.end.sequence == count - 1);
  check_bad(f.with(cut, f.end), count - 1, AuditFault::Cut);
  check_bad(f.with("", f.end), 0, AuditFault::Cut);
  CHECK(good(f.with(f.original, f.end)).lines == count);
  CHECK(good(f.with(f.original, unseen.end)).lines == count);  // an earlier end is there still
}

TEST_CASE("lines of an audit log that were exchanged show") {
  const Scene f;
  std::size_t pairs = 0;
  for (std::size_t a = 0; a < f.original.size(); ++a) {
    for (std::size_t b = a + 1; b < f.original.size(); ++b, ++pairs) {
      Lines lines = f.original;
      std::swap(lines[a], lines[b]);
      check_bad(f.with(lines), a + 1, AuditFault::Reordered);
    }
  }
  CHECK(pairs > 20);
}

TEST_CASE("a line that was copied into an audit log shows") {
  const Scene f;
  std::size_t copies = 0;
  for (std::size_t from = 0; from < f.original.size(); ++from) {
    for (std::size_t to = 0; to <= f.original.size(); ++to, ++copies) {
      const AuditVerdict verdict = f.with(inserted(f.original, to, f.original[from]));
      if (to <= from) {
        // The line as it stands further down is then the copy, unless it stands
        // here as it should.
        check_bad(verdict, to == from ? to + 2 : to + 1, to == from ? AuditFault::Inserted : AuditFault::Reordered);
      } else {
        check_bad(verdict, to + 1, AuditFault::Inserted);
      }
    }
  }
  CHECK(copies > 50);
}

TEST_CASE("a line of another audit log shows") {
  const Scene f;
  const fs::path beside = f.scratch.path() / "beside.log";
  AuditLog log{beside};
  log.attach(f.ring);
  for (int i = 0; i < 20; ++i) log.on_event({.kind = Event::Kind::TokenLost});
  const Lines of_same_ring = lines_in(content_of(beside));
  for (std::size_t index = 1; index < f.original.size(); ++index) {
    check_bad(f.with(inserted(f.original, index, of_same_ring[index])), index + 1, AuditFault::Inserted);
    check_bad(f.with(inserted(f.original, index, of_same_ring[index + 2])), index + 1, AuditFault::Inserted);
    Lines replaced = f.original;
    replaced[index] = of_same_ring[index];
    check_bad(f.with(replaced), index + 1, AuditFault::Inserted);
  }
  Lines begun_otherwise = f.original;
  begun_otherwise.front() = of_same_ring.front();
  check_bad(f.with(begun_otherwise), 2, AuditFault::Inserted);
  check_bad(f.with(of_same_ring, f.end), 20,
            AuditFault::Cut);  // a whole log in the place of another

  const Scene other;
  check_bad(f.with(inserted(f.original, 3, other.original[3])), 4, AuditFault::OtherRing);
  check_bad(f.with(other.original), 1, AuditFault::OtherRing);
}

TEST_CASE("a line that was made without the ring's key shows") {
  const Scene f;
  auto line = ring::line_from_text(f.original.back().substr(0, f.original.back().size() - 1));
  REQUIRE(line);
  const auto with_line = [&](const ring::LogLine& forged) {
    return f.with(inserted(f.original, f.original.size(), ring::to_text(forged) + "\n"));
  };
  ring::LogLine next{line->entry, line->entry.mac};
  ++next.entry.sequence;
  check_bad(with_line(next), next.entry.sequence, AuditFault::Altered);
  next.entry.mac = ring::mac_of(next, ring::audit_key(SecretBytes{32}));
  check_bad(with_line(next), next.entry.sequence, AuditFault::Altered);
  next.entry.key = 2;
  check_bad(with_line(next), next.entry.sequence, AuditFault::UnknownKey);
}

TEST_CASE("what a crash leaves of a line is told from tampering, and the log goes on behind it") {
  const Scene f;
  const std::size_t count = f.original.size();
  const std::string whole = joined(without(f.original, count - 1)), last = f.original.back();
  const auto go_on = [&] {
    AuditLog log{f.file};
    log.attach(f.ring);
    log.on_event({.kind = Event::Kind::TokenRecovered});
    CHECK(log.failures().events == 0);
  };
  for (std::size_t kept = 1; kept + 1 < last.size(); kept += kept < 20 ? 1 : 17) {
    INFO(kept << " bytes of the last line");
    CHECK(good(f.with(whole + last.substr(0, kept))).torn == 1);
    go_on();
    const AuditVerdict verdict = good(f.verify());
    CHECK(verdict.torn == 1);
    CHECK(verdict.lines == count + 1);  // "line-torn" and "token-recovered", without the torn one
    const Lines now = f.lines();
    REQUIRE(now.size() == count + 2);
    CHECK(now[count - 1] == last.substr(0, kept) + "\n");
    check_bad(f.with(without(now, count - 1)), count, AuditFault::Removed);
    check_bad(f.with(without(now, count)), count, AuditFault::Altered);
    Lines altered = now;
    altered[count - 1].front() ^= 1;
    check_bad(f.with(altered), count, AuditFault::Altered);
    check_bad(f.with(inserted(now, count, "x\n")), count, AuditFault::Altered);
  }
  // Blocks that the file system had not written yet.
  CHECK(good(f.with(whole + std::string(5'000, '\0'))).torn == 1);
  go_on();
  CHECK(good(f.verify()).torn == 1);
  // Nothing but the line feed is missing: the line is whole.
  CHECK(good(f.with(whole + last.substr(0, last.size() - 1), f.end)).lines == count);
  go_on();
  CHECK(good(f.verify(f.end)).torn == 0);
  CHECK(f.lines().size() == count + 1);
  // Nothing but what was torn.
  CHECK(good(f.with("{\"dur")).torn == 1);
  go_on();
  CHECK(good(f.verify()).lines == 2);
}

TEST_CASE("an audit log whose end was damaged, not torn, goes on and shows it") {
  const Scene f;
  const std::size_t count = f.original.size();
  Lines damaged = f.original;
  damaged.back()[5] = '!';
  for (const std::string& content : {joined(damaged), joined(f.original) + "\n", joined(f.original) + "a\nb"}) {
    test::put(f.file, content);
    AuditLog log{f.file};
    log.attach(f.ring);
    log.on_event({.kind = Event::Kind::TokenRecovered});
    CHECK(log.failures().events == 0);
    CHECK(f.lines().back().find("token-recovered") != std::string::npos);
    CHECK(joined(f.lines()).find("line-damaged") != std::string::npos);
    check_bad(f.verify(), content == joined(damaged) ? count : count + 1, AuditFault::Altered);
  }
  Lines altered = f.original;
  altered.back().replace(altered.back().find("gone"), 4, "come");
  test::put(f.file, joined(altered));
  AuditLog{f.file}.attach(f.ring);
  f.log->on_event({.kind = Event::Kind::TokenRecovered});
  check_bad(f.verify(), count, AuditFault::Altered);
}

TEST_CASE("lines that are removed from an audit log while a process writes it show") {
  for (const bool all : {false, true}) {
    LoggedRing f;
    f.log->attach(f.ring);
    f.lose_token();
    f.lose_token();
    const Lines before = f.lines();
    REQUIRE(before.size() == 4);
    test::put(f.file, all ? "" : before[0] + before[1]);
    f.lose_token();
    const std::uint64_t left = all ? 0 : 2;
    const auto events = events_in(f.file);
    REQUIRE(events.size() == left + 2);
    CHECK(events[left] == "log-cut");
    check_bad(f.verify(), left + 1, AuditFault::Removed);
    CHECK_NAMES(f.verify().bad->why, all ? "4 lines" : "2 lines");
  }
}

TEST_CASE("a file that is no audit log is not written to") {
  LoggedRing f;
  const std::string other(3'000'000, 'x');
  test::put(f.file, other);
  CHECK_NAMES(test::message_of<InvalidArgumentError>([&] { return f.log->attach(f.ring), 0; }),
              "holds no line of an audit log");
  CHECK(content_of(f.file) == other);
  check_bad(f.verify(), 1, AuditFault::Altered);  // too long for what is left of a line
}

TEST_CASE("each line of an audit log is shown, also behind one that is bad") {
  const Scene f;
  Lines lines = f.original;
  lines[2] = "nonsense\n";
  test::put(f.file, joined(lines));
  std::size_t shown = 0, unreadable = 0;
  const AuditVerdict verdict = verify_audit_log(f.ring, f.file, {}, [&](const AuditLine& line) {
    CHECK(std::string{line.text} + "\n" == lines.at(shown));
    CHECK(line.number == ++shown);
    if (!line.entry) ++unreadable;
  });
  check_bad(verdict, 3, AuditFault::Altered);
  CHECK(shown == lines.size());
  CHECK(unreadable == 1);
}
