#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include <hsmseal/audit_log.hpp>

#include "support/catch.hpp"
#include "support/hurried_clock.hpp"
#include "support/ring_parts.hpp"
#include "support/softhsm.hpp"

namespace hsmseal::test {

inline std::string content_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  REQUIRE(stream);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void put(const std::filesystem::path& file, const std::string& content) {
  std::ofstream(file, std::ios::binary) << content;
  REQUIRE(::chmod(file.c_str(), 0600) == 0);
}

/// With their line feeds.
inline std::vector<std::string> lines_in(const std::string& content) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = std::min(content.find('\n', begin), content.size() - 1) + 1;
    lines.push_back(content.substr(begin, end - begin));
    begin = end;
  }
  return lines;
}

inline std::string joined(const std::vector<std::string>& lines) {
  std::string content;
  for (const auto& line : lines) content += line;
  return content;
}

/// What a log says; each of its lines must be one.
inline std::vector<AuditEntry> entries_in(const std::filesystem::path& file) {
  std::vector<AuditEntry> entries;
  read_audit_log(file, [&](const AuditLine& line) {
    INFO(line.text);
    REQUIRE(line.entry);
    CHECK(line.number == entries.size() + 1);
    entries.push_back(*line.entry);
  });
  return entries;
}

inline std::vector<std::string> events_in(const std::filesystem::path& file) {
  std::vector<std::string> events;
  for (const auto& entry : entries_in(file)) events.push_back(entry.event);
  return events;
}

/// A ring in memory whose events are logged, and recorded beside.
struct LoggedRing {
  explicit LoggedRing(AuditOptions options = {}) : log(std::make_shared<AuditLog>(file, std::move(options))) {}

  ScratchDirectory scratch;
  std::filesystem::path file = scratch.path() / "audit.log";
  std::shared_ptr<AuditLog> log;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  RingParts parts;
  KeyRing ring = parts.create({.observer = observe_all({log, nullptr, recorder}), .clock = hurried_clock()});

  Version add() { return ring.add({.token = "t"}); }
  /// Removes the oldest set, which gives the ring another key.
  void remove(Version version) {
    parts.store->clock += std::chrono::hours{1};
    ring.remove_without_census(version);
  }
  void lose_token(std::string reason = "gone") {
    log->on_event({.kind = Event::Kind::TokenLost, .token = "t", .reason = std::move(reason), .rv = 0x32});
  }
  [[nodiscard]] AuditVerdict verify(const std::optional<AuditEnd>& expected = {}) const {
    return verify_audit_log(ring, file, expected);
  }
  [[nodiscard]] std::vector<std::string> lines() const { return lines_in(content_of(file)); }
};

/// A log that must be good.
inline AuditVerdict good(const AuditVerdict& verdict) {
  INFO((verdict.bad ? verdict.bad->why : "good"));
  CHECK(verdict.good());
  return verdict;
}

}  // namespace hsmseal::test
