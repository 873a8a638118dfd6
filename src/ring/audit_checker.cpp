#include "ring/audit_checker.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "crypto/crypto.hpp"
#include "ring/ring_key.hpp"

namespace hsmseal::ring {

AuditChecker::AuditChecker(std::shared_ptr<const Snapshot> ring, const std::optional<AuditEnd>& expected)
    : ring_(std::move(ring)), expected_(expected), expected_found_(!expected || expected->sequence == 0) {
  if (!ring_->ring_key()) throw InvalidArgumentError("a ring that was opened for salvage has no key for an audit log");
}

void AuditChecker::bad(std::uint64_t number, AuditFault fault, std::string why) {
  if (!verdict_.bad) verdict_.bad = {number, fault, std::move(why)};
}

/// @returns nullptr if the ring has no such key, or it cannot be reached.
const SecretBytes* AuditChecker::key_number(std::uint64_t number) {
  const auto known = keys_.find(number);
  if (known != keys_.end()) return &known->second;
  const Body& body = ring_->body();
  if (number > body.former_ring_keys.size()) return nullptr;
  const auto key = former_ring_key(body, *ring_->ring_key(), static_cast<std::size_t>(number));
  return key ? &keys_.emplace(number, audit_key(*key)).first->second : nullptr;
}

bool AuditChecker::is_genuine(const LogLine& line) {
  if (line.entry.ring != ring_->body().id) return false;
  const SecretBytes* const key = key_number(line.entry.key);
  return key != nullptr && crypto::equal(mac_of(line, *key), line.entry.mac);
}

void AuditChecker::line(std::uint64_t number, std::string_view text, const std::optional<LogLine>& line) {
  last_number_ = number;
  if (misplaced_ && line) look_behind_misplaced(*line);
  if (verdict_.bad || misplaced_) return;
  if (!line) {
    if (unreadable_) return bad(unreadable_->number, AuditFault::Altered, "it is no line of an audit log");
    unreadable_ = {number, digest_of(text), text.size() <= kMostTornBytes};
    return;
  }
  const AuditEntry& entry = line->entry;
  if (is_genuine(*line)) return check_place(number, *line);
  if (unreadable_) return bad(unreadable_->number, AuditFault::Altered, "it is no line of an audit log");
  if (entry.ring != ring_->body().id) {
    bad(number, AuditFault::OtherRing, fmt::format("it is of ring {}", entry.ring.to_string()));
  } else if (key_number(entry.key) == nullptr) {
    bad(number, AuditFault::UnknownKey,
        fmt::format("it is under key {} of the ring, which has {} as it is known here", entry.key,
                    ring_->body().former_ring_keys.size() + 1));
  } else {
    bad(number, AuditFault::Altered, "its MAC is wrong");
  }
}

/// What its own MAC vouches for stands where it was written, or it does not.
void AuditChecker::check_place(std::uint64_t number, const LogLine& line) {
  const AuditEntry& entry = line.entry;
  const bool follows = entry.sequence == verdict_.end.sequence + 1 && line.prev == verdict_.end.mac;
  if (unreadable_) {
    const bool torn =
        follows && unreadable_->may_be_torn && entry.event == kLineTorn && entry.reason == unreadable_->digest;
    if (!torn) return bad(unreadable_->number, AuditFault::Altered, "it is no line of an audit log");
    unreadable_.reset();
    ++verdict_.torn;
    return accept(line);
  }
  if (!follows) {
    misplaced_ = {number, line};
  } else if (entry.event == kLineTorn || entry.event == kLineDamaged) {
    bad(number, AuditFault::Removed, "the damaged line in front of it, which it tells of, is missing");
  } else if (entry.event == kLogCut) {
    bad(number, AuditFault::Removed,
        fmt::format("{} lines in front of it were removed, or replaced, while a process was writing the log",
                    entry.lost));
  } else {
    accept(line);
  }
}

void AuditChecker::accept(const LogLine& line) {
  const AuditEntry& entry = line.entry;
  ++verdict_.lines;
  verdict_.end = {entry.sequence, entry.mac};
  if (entry.event == kEventsLost) verdict_.events_lost += entry.lost;
  if (entry.key < highest_key_) ++verdict_.under_former;
  highest_key_ = std::max(highest_key_, entry.key);
  if (expected_ && *expected_ == verdict_.end) expected_found_ = true;
}

void AuditChecker::look_behind_misplaced(const LogLine& line) {
  const bool is_next = line.prev == verdict_.end.mac && line.entry.sequence == verdict_.end.sequence + 1;
  const bool is_before = line.entry.mac == misplaced_->line.prev;
  if ((is_next || is_before) && is_genuine(line)) {
    misplaced_->next_found |= is_next;
    misplaced_->before_found |= is_before;
  }
}

void AuditChecker::judge_misplaced() {
  const auto& [number, line, next_found, before_found] = *misplaced_;
  const std::uint64_t wanted = verdict_.end.sequence + 1;
  const std::string found = fmt::format("line {} of a log stands where line {} should", line.entry.sequence, wanted);
  if (line.entry.sequence <= wanted || (next_found && !before_found)) {
    bad(number, AuditFault::Inserted, found + "; it was copied from elsewhere");
  } else if (next_found) {
    bad(number, AuditFault::Reordered, found);
  } else {
    bad(number, AuditFault::Removed, found);
  }
}

AuditVerdict AuditChecker::finish(bool last_is_open) {
  if (misplaced_) judge_misplaced();
  if (unreadable_ && !verdict_.bad) {
    if (last_is_open && unreadable_->may_be_torn) {
      ++verdict_.torn;
    } else {
      bad(unreadable_->number, AuditFault::Altered, "it is no line of an audit log");
    }
  }
  if (!expected_found_) {
    bad(last_number_, AuditFault::Cut,
        verdict_.end.sequence < expected_->sequence
            ? fmt::format("the log ends with line {}, but it had {}", verdict_.end.sequence, expected_->sequence)
            : fmt::format("line {} is another one than it was", expected_->sequence));
  }
  return std::move(verdict_);
}

}  // namespace hsmseal::ring
