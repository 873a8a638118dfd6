#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <hsmseal/audit_log.hpp>

#include "ring/audit_line.hpp"
#include "ring/present_key.hpp"

namespace hsmseal::ring {

/// What an AuditLog does.
///
/// Thread safety: all members may run concurrently.
class AuditWriter {
 public:
  /// @throws InvalidArgumentError  see AuditLog.
  AuditWriter(const std::filesystem::path& file, AuditOptions options);

  /// @throws WrongRingError, InvalidArgumentError  see AuditLog.
  void attach(std::shared_ptr<const PresentKey> key);
  void take(const Event& event) noexcept;
  [[nodiscard]] AuditFailures failures() const;

 private:
  /// What waits to be written.
  struct Waiting {
    std::vector<AuditEntry> events;
    std::uint64_t lost = 0;  ///< events that were not written before, or did not fit
    std::string why;
  };
  enum class LostCome { Before, After };  ///< the events that wait

  [[nodiscard]] AuditEntry entry_of(const Event& event) const;
  [[nodiscard]] AuditEntry note(std::string_view name, std::uint64_t lost, std::string reason) const;
  [[nodiscard]] bool keep(AuditEntry entry);
  void write_what_waits();
  void write(const PresentKey::Key& key, Waiting waiting, LostCome order);
  void not_written(std::uint64_t events, const std::string& why);
  void leave_to_parent();

  const std::filesystem::path file_;
  const AuditOptions options_;

  std::mutex file_mutex_;  ///< before queue_mutex_; held while the file is written
  AuditEnd end_;           ///< the newest that this process has seen

  mutable std::mutex queue_mutex_;
  std::shared_ptr<const PresentKey> key_;  ///< null until attach()
  Waiting waiting_;
  AuditFailures failures_;
  std::uint64_t forks_;
};

}  // namespace hsmseal::ring
