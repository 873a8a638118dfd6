#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/audit_log.hpp>
#include <hsmseal/secret_bytes.hpp>

#include "ring/body.hpp"

/// The lines of an audit log, src/FORMAT.md section 6.7.
namespace hsmseal::ring {

/// No line is longer, its line feed left aside.
inline constexpr std::size_t kMostLineBytes = 32'768;
/// Nor is what a crash leaves of lines that were written at once taken for that if it is longer.
inline constexpr std::size_t kMostTornBytes = std::size_t{1} << 20;

/// What a log says of itself.
inline constexpr std::string_view kEventsLost = "events-lost", kLineTorn = "line-torn", kLineDamaged = "line-damaged",
                                  kLogCut = "log-cut";

struct LogLine {
  AuditEntry entry;
  Mac prev{};  ///< the MAC of the line before; zeros in the first
};

/// The key of the log's lines while the ring has this key.
[[nodiscard]] SecretBytes audit_key(const SecretBytes& ring_key);

/// Shortens the texts and replaces what is not UTF-8, so that they can stand in a line.
void make_fit(AuditEntry& entry);

/// Without a line feed. The entry's texts must be as make_fit() leaves them.
[[nodiscard]] std::string to_text(const LogLine& line);

/// @returns nothing unless it is what to_text() makes of some line.
[[nodiscard]] std::optional<LogLine> line_from_text(std::string_view text);

/// What AuditEntry::mac has to be.
[[nodiscard]] Mac mac_of(const LogLine& line, const SecretBytes& audit_key);

/// What the reason of kLineTorn and kLineDamaged says of the bytes that are passed over.
[[nodiscard]] std::string digest_of(std::string_view passed_over);

}  // namespace hsmseal::ring
