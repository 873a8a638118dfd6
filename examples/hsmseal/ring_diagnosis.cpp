#include <algorithm>

#include <hsmseal/error.hpp>

#include "diagnosis.hpp"
#include "failure.hpp"
#include "ring_parts.hpp"
#include "system.hpp"
#include "words.hpp"

namespace tool {
namespace {

/// @returns whether the store holds a ring.
bool diagnose_store(const HostFile& host, Findings& findings) {
  try {
    const auto head = host.store()->head();
    if (!head) {
      findings.note("store", "it works and holds no ring yet", "make one: hsmseal ring create --token ALIAS");
      return false;
    }
    findings.good("store", fmt::format("it holds a ring, generation {}", head->generation));
    return true;
  } catch (const std::exception& error) {
    findings.problem("store", error, "start the database, or correct \"store\" in the host file");
  }
  return false;
}

bool pin_of_ring_is_there(const HostFile& host, Findings& findings) {
  if (!host.has_ring_pin()) {
    findings.problem("ring pin", "the host file names no ring_pin, so no command can open the ring",
                     "add \"ring_pin\": \"ring.pin\", say, on a local disk");
    return false;
  }
  std::error_code ignored;
  if (std::filesystem::exists(host.ring_pin(), ignored)) return true;
  findings.problem(
      "ring pin",
      fmt::format("'{}' is missing, so this host does not know which ring is its own", host.ring_pin().string()),
      "restore a copy of it; on a new host, once you know that the store shows the right ring: hsmseal ring "
      "verify --trust-first-use");
  return false;
}

void diagnose_sets(const HostFile& host, hsmseal::KeyRing& ring, Findings& findings) {
  const auto bound = host.host().token_aliases();
  for (const auto& set : ring.list()) {
    if (set.state == hsmseal::SetState::Deleted) continue;
    const std::string subject = fmt::format("set {}", set.version);
    if (std::ranges::find(bound, set.key.token) == bound.end()) {
      findings.problem(subject,
                       fmt::format("it is {} and on token '{}', which the host file does not name",
                                   to_string(set.state), set.key.token),
                       "name the token in the host file; what this set sealed does not open here before");
      continue;
    }
    try {
      ring.verify(set.version);
      findings.good(subject,
                    fmt::format("it is {}, and its key on token '{}' answers", to_string(set.state), set.key.token));
    } catch (const hsmseal::KeyNotFoundError& error) {
      findings.problem(subject, error,
                       "in an HA group wait for replication; otherwise restore the key, or bind the token "
                       "that has it");
    } catch (const hsmseal::Error& error) {
      findings.problem(subject, error, "look at what is said of its token");
    }
  }
}

void diagnose_audit_log(const HostFile& host, const hsmseal::KeyRing& ring, Findings& findings) {
  if (!host.audit_log()) return;
  std::error_code ignored;
  if (!std::filesystem::exists(*host.audit_log(), ignored)) {
    findings.note("audit log", "nothing was written to it yet", "");
    return;
  }
  try {
    const auto verdict = hsmseal::verify_audit_log(ring, *host.audit_log());
    if (verdict.bad) {
      findings.problem("audit log", fmt::format("line {}: {}", verdict.bad->line, verdict.bad->why),
                       "find out who wrote it: hsmseal ring log --verify");
    } else {
      findings.good("audit log", fmt::format("{} lines, as they were written", verdict.lines));
    }
  } catch (const hsmseal::Error& error) {
    findings.problem("audit log", error, "correct \"audit_log\" in the host file");
  }
}

}  // namespace

void diagnose_ring(const HostFile& host, Findings& findings) {
  if (!host.has_store()) {
    findings.note("store", "the host file names none, so there is no ring to look at",
                  "add \"store\": \"sqlite:ring.db\", say");
    return;
  }
  if (host.store_has_password() && readable_by_others(host.name())) {
    findings.problem("store",
                     fmt::format("'{}' seems to hold the store's password, and others may read it", host.name()),
                     fmt::format("run: chmod go-r '{}'", host.name()));
  }
  if (!diagnose_store(host, findings) || !pin_of_ring_is_there(host, findings)) return;
  try {
    hsmseal::KeyRing ring = RingParts::without_log(host).open();
    findings.good("ring", fmt::format("{}, generation {}, set {} is active", ring.id().to_string(), ring.generation(),
                                      ring.active().version));
    diagnose_sets(host, ring, findings);
    diagnose_audit_log(host, ring, findings);
  } catch (const std::exception& error) {
    findings.problem("ring", error, "look at what is said of its tokens");
  }
}

}  // namespace tool
