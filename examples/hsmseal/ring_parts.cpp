#include "ring_parts.hpp"

#include <utility>

#include <hsmseal/error.hpp>

#include "failure.hpp"
#include "output.hpp"

namespace tool {

RingParts::RingParts(const HostFile& host) : RingParts(host, host.audit_log()) {}

RingParts::RingParts(const HostFile& host, const std::optional<std::filesystem::path>& log)
    : pin_file_(host.ring_pin()), store_(host.store()) {
  if (log) log_ = std::make_shared<hsmseal::AuditLog>(*log);
  options_.observer = log_;
  options_.deadline = host.deadline();
  hsmseal::Pkcs11Options of_tokens;
  of_tokens.observer = log_;
  provider_ = hsmseal::pkcs11_provider(host.host(), of_tokens);
}

hsmseal::RingPin RingParts::pin(Trust trust) const {
  switch (trust) {
    case Trust::FirstUse:
      return hsmseal::RingPin::trust_first_use(pin_file_);
    case Trust::AcceptRollback:
      return hsmseal::RingPin::accept_rollback(pin_file_);
    case Trust::Pinned:
      break;
  }
  return hsmseal::RingPin::file(pin_file_);
}

hsmseal::KeyRing RingParts::attached(hsmseal::KeyRing ring) const {
  if (log_) log_->attach(ring);
  return ring;
}

hsmseal::KeyRing RingParts::open(Trust trust) const {
  return attached(hsmseal::KeyRing::open(store_, provider_, pin(trust), options_));
}

hsmseal::KeyRing RingParts::create(const hsmseal::SetSpec& first, const hsmseal::RingSettings& settings) const {
  const auto ring = hsmseal::KeyRing::create(store_, provider_, first, pin(Trust::Pinned), options_, settings);
  try {
    return attached(ring);
  } catch (const hsmseal::Error& error) {
    throw Failure(exit_code_of(error),
                  fmt::format("the ring was made, but its audit log does not work: {}", error.what()));
  }
}

hsmseal::KeyRing RingParts::import_from(const std::filesystem::path& file, Trust trust) const {
  return attached(hsmseal::KeyRing::import_from(file, store_, provider_, pin(trust), options_));
}

void RingParts::tell_of_lost_events() const {
  if (!log_) return;
  const hsmseal::AuditFailures failures = log_->failures();
  if (failures.events == 0) return;
  note(fmt::format("{} events are missing in the audit log: {}", failures.events, failures.last_error));
}

}  // namespace tool
