#pragma once

#include <memory>
#include <optional>

#include <hsmseal/audit_log.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "host_file.hpp"

namespace tool {

/// How far the ring that the store shows is believed.
enum class Trust {
  Pinned,          ///< it is the one that this host remembers
  FirstUse,        ///< or the host remembers none yet
  AcceptRollback,  ///< or it is an older record of it, as the operator says
};

/// What a ring is opened with on this host, the audit log included.
class RingParts {
 public:
  explicit RingParts(const HostFile& host);
  /// For what only reads the log.
  [[nodiscard]] static RingParts without_log(const HostFile& host) { return {host, std::nullopt}; }

  [[nodiscard]] hsmseal::KeyRing open(Trust trust = Trust::Pinned) const;
  [[nodiscard]] hsmseal::KeyRing create(const hsmseal::SetSpec& first, const hsmseal::RingSettings& settings) const;
  [[nodiscard]] hsmseal::KeyRing import_from(const std::filesystem::path& file, Trust trust) const;

  /// Says so if the audit log lost events. For the end of a command.
  void tell_of_lost_events() const;

 private:
  RingParts(const HostFile& host, const std::optional<std::filesystem::path>& log);
  [[nodiscard]] hsmseal::RingPin pin(Trust trust) const;
  [[nodiscard]] hsmseal::KeyRing attached(hsmseal::KeyRing ring) const;

  std::filesystem::path pin_file_;
  std::shared_ptr<hsmseal::AuditLog> log_;
  hsmseal::RingOptions options_;
  std::shared_ptr<hsmseal::RingStore> store_;
  std::shared_ptr<hsmseal::KeyProvider> provider_;
};

/// Opens the ring, does something with it, and tells of events that the audit log lost.
template <typename Work>
auto with_ring(const HostFile& host, const Work& work) {
  const RingParts parts{host};
  struct AtEnd {
    const RingParts& parts;
    ~AtEnd() { parts.tell_of_lost_events(); }
  } const at_end{parts};
  hsmseal::KeyRing ring = parts.open();
  return work(ring);
}

}  // namespace tool
