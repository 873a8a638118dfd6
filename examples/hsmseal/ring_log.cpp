// ring log: shows the audit log, and whether it was changed.

#include <memory>

#include "failure.hpp"
#include "ring_commands.hpp"
#include "ring_parts.hpp"
#include "words.hpp"

namespace tool {
namespace {

struct LogOptions {
  std::string file = {}, expect = {};
  bool verify = false;
};

Json to_json(const hsmseal::AuditEntry& entry) {
  Json json = {
      {"sequence", entry.sequence}, {"time", to_text(entry.time)}, {"process", entry.process}, {"event", entry.event}};
  if (entry.version != 0) json["version"] = entry.version;
  if (!entry.token.empty()) json["token"] = entry.token;
  if (!entry.reason.empty()) json["reason"] = entry.reason;
  if (entry.lost != 0) json["lost"] = entry.lost;
  return json;
}

void show_line(const Output& out, const hsmseal::AuditLine& line, Json& document) {
  if (!line.entry) {
    out.line("line {}: no line of an audit log", line.number);
    document.push_back({{"line", line.number}, {"event", nullptr}});
    return;
  }
  const hsmseal::AuditEntry& entry = *line.entry;
  std::string more;
  if (entry.version != 0) more += fmt::format(", set {}", entry.version);
  if (!entry.token.empty()) more += fmt::format(", token '{}'", entry.token);
  if (entry.lost != 0) more += fmt::format(", {} lost", entry.lost);
  if (!entry.reason.empty()) more += fmt::format(": {}", entry.reason);
  out.line("{} {} {}{}", entry.sequence, to_text(entry.time), entry.event, more);
  document.push_back(to_json(entry));
}

std::filesystem::path log_of(const LogOptions& options, const HostFile& host) {
  if (!options.file.empty()) return options.file;
  if (host.audit_log()) return *host.audit_log();
  throw UsageError(fmt::format("host file '{}' names no audit_log; add it, or name the log's file", host.name()));
}

Exit verify(const Tool& tool, const LogOptions& options) {
  const HostFile host = tool.host();
  const auto file = log_of(options, host);
  std::optional<hsmseal::AuditEnd> expected;
  if (!options.expect.empty()) expected = hsmseal::AuditEnd::from_text(options.expect);
  const hsmseal::KeyRing ring = RingParts::without_log(host).open();
  const hsmseal::AuditVerdict verdict = hsmseal::verify_audit_log(ring, file, expected);
  const Output out = tool.output();
  Json document = {{"file", file.string()},
                   {"good", verdict.good()},
                   {"lines", verdict.lines},
                   {"end", verdict.end.to_text()},
                   {"torn", verdict.torn},
                   {"events_lost", verdict.events_lost},
                   {"under_former_key", verdict.under_former}};
  out.line("{} lines are as they were written", verdict.lines);
  if (verdict.torn != 0) out.line("{} remains of lines that a crash or a full disk left", verdict.torn);
  if (verdict.events_lost != 0) out.line("{} events could not be written, as the log says", verdict.events_lost);
  if (verdict.under_former != 0) out.line("{} lines are under a key that the ring had before", verdict.under_former);
  out.line("end: {}", verdict.end.to_text());
  if (verdict.bad) document["bad"] = {{"line", verdict.bad->line}, {"why", verdict.bad->why}};
  out.document(document);
  if (!verdict.bad) return Exit::Success;
  note(fmt::format("line {} of the audit log: {}; find out who wrote it", verdict.bad->line, verdict.bad->why));
  return Exit::Tampered;
}

Exit show(const Tool& tool, const LogOptions& options) {
  const auto file = log_of(options, tool.host());
  const Output out = tool.output();
  Json document = {{"file", file.string()}, {"lines", Json::array()}};
  hsmseal::read_audit_log(file, [&](const hsmseal::AuditLine& line) { show_line(out, line, document["lines"]); });
  out.document(document);
  return Exit::Success;
}

}  // namespace

void add_ring_log(Tool& tool, CLI::App* ring) {
  const auto options = std::make_shared<LogOptions>();
  auto* log = tool.command(ring, "log", "show the audit log", [&tool, options] {
    return options->verify ? verify(tool, *options) : show(tool, *options);
  });
  log->add_option("FILE", options->file, "a log; otherwise the one of the host file");
  auto* verifying = log->add_flag("--verify", options->verify, "say whether it was changed since it was written");
  log->add_option("--expect", options->expect, "an end that an earlier --verify told, which must still be there")
      ->needs(verifying);
}

}  // namespace tool
