#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/audit_log.hpp>

#include "ring/audit_line.hpp"
#include "ring/snapshot.hpp"

namespace hsmseal::ring {

/// Holds the lines of a log, one after the other, against the ring's keys and against each other.
class AuditChecker {
 public:
  /// @throws InvalidArgumentError  the ring was opened for salvage and has no key.
  AuditChecker(std::shared_ptr<const Snapshot> ring, const std::optional<AuditEnd>& expected);

  /// The next line, in its file's order.
  void line(std::uint64_t number, std::string_view text, const std::optional<LogLine>& line);

  /// Whether no other line can change what finish() returns.
  [[nodiscard]] bool decided() const noexcept { return verdict_.bad.has_value(); }

  /// @param last_is_open  the last line had no line feed.
  [[nodiscard]] AuditVerdict finish(bool last_is_open);

 private:
  /// What is no line: torn, if the next line says so.
  struct Unreadable {
    std::uint64_t number;
    std::string digest;
    bool may_be_torn;  ///< it is not too long
  };
  /// A good line in the wrong place. Those behind it show what happened.
  struct Misplaced {
    std::uint64_t number;
    LogLine line;
    bool next_found = false;    ///< the line that should stand here comes later
    bool before_found = false;  ///< the line that it should stand behind comes later
  };

  [[nodiscard]] const SecretBytes* key_number(std::uint64_t number);
  [[nodiscard]] bool is_genuine(const LogLine& line);
  void check_place(std::uint64_t number, const LogLine& line);
  void accept(const LogLine& line);
  void look_behind_misplaced(const LogLine& line);
  void judge_misplaced();
  void bad(std::uint64_t number, AuditFault fault, std::string why);

  const std::shared_ptr<const Snapshot> ring_;
  const std::optional<AuditEnd> expected_;
  std::map<std::uint64_t, SecretBytes> keys_;  ///< audit keys by number, as far as they were needed
  AuditVerdict verdict_;
  std::uint64_t last_number_ = 0;
  std::uint64_t highest_key_ = 0;
  bool expected_found_ = false;
  std::optional<Unreadable> unreadable_;
  std::optional<Misplaced> misplaced_;
};

}  // namespace hsmseal::ring
