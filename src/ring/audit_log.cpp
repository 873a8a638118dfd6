#include <hsmseal/audit_log.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "platform/platform.hpp"
#include "ring/audit_checker.hpp"
#include "ring/audit_writer.hpp"
#include "ring/ring_core.hpp"

namespace hsmseal {
namespace {

/// A file's lines, as far as it is long when it is opened: others may be writing it.
class LinesOf {
 public:
  explicit LinesOf(const std::filesystem::path& path) : path_(path) {
    errno = 0;
    file_.open(path, std::ios::binary);
    if (!file_.is_open()) throw unreadable();
    // Under the lock, so that no line is seen while it is being written.
    const platform::PathLock lock{path};
    std::error_code error;
    left_ = std::filesystem::file_size(path, error);
    if (error)
      throw InvalidArgumentError(
          fmt::format("cannot read the audit log '{}': {}", platform::shown(path), error.message()));
  }

  /// @returns false if there is no other line. Of one that is too long, its beginning is enough to refuse it.
  [[nodiscard]] bool next(std::string& line) {
    line.clear();
    if (left_ == 0) return false;
    open_ = true;
    for (; left_ > 0; --left_) {
      const int character = file_.get();
      if (character == std::ifstream::traits_type::eof()) throw unreadable();
      if (character == '\n') {
        --left_;
        open_ = false;
        return true;
      }
      if (line.size() <= ring::kMostTornBytes) line += static_cast<char>(character);
    }
    return true;
  }
  /// Whether the last line had no line feed.
  [[nodiscard]] bool open() const noexcept { return open_; }

 private:
  [[nodiscard]] InvalidArgumentError unreadable() const {
    const int error = errno;
    return InvalidArgumentError(fmt::format("cannot read the audit log '{}': {}", platform::shown(path_),
                                            std::generic_category().message(error != 0 ? error : EIO)));
  }

  const std::filesystem::path path_;
  std::ifstream file_;
  std::uintmax_t left_ = 0;
  bool open_ = false;
};

}  // namespace

AuditLog::AuditLog(const std::filesystem::path& file, AuditOptions options)
    : writer_(std::make_unique<ring::AuditWriter>(file, std::move(options))) {}

AuditLog::~AuditLog() = default;

void AuditLog::attach(const KeyRing& ring) { writer_->attach(ring::CoreOf::handle(ring).present_key()); }
void AuditLog::on_event(const Event& event) noexcept { writer_->take(event); }
AuditFailures AuditLog::failures() const { return writer_->failures(); }

std::string AuditEnd::to_text() const { return fmt::format("{}:{}", sequence, core::to_hex(mac)); }

AuditEnd AuditEnd::from_text(std::string_view text) {
  AuditEnd end;
  const char* const last = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), last, end.sequence);
  const std::string_view behind = text.substr(static_cast<std::size_t>(rest - text.data()));
  const auto mac = behind.starts_with(':') ? crypto::from_hex(behind.substr(1)) : std::nullopt;
  if (error == std::errc{} && mac && mac->size() == end.mac.size()) {
    std::ranges::copy(*mac, end.mac.begin());
    if (end.to_text() == text) return end;
  }
  throw InvalidArgumentError("the end of an audit log is its last line's number, ':' and 64 hexadecimal digits");
}

AuditVerdict verify_audit_log(const KeyRing& ring, const std::filesystem::path& file,
                              const std::optional<AuditEnd>& expected, const AuditReader& each) {
  ring::AuditChecker checker{ring::CoreOf::handle(ring).snapshot(), expected};
  LinesOf lines{file};
  std::string text;
  for (std::uint64_t number = 1; (each || !checker.decided()) && lines.next(text); ++number) {
    const auto line = ring::line_from_text(text);
    checker.line(number, text, line);
    if (each) each({number, text, line ? std::optional{line->entry} : std::nullopt});
  }
  return checker.finish(lines.open());
}

void read_audit_log(const std::filesystem::path& file, const AuditReader& each) {
  if (!each) throw InvalidArgumentError("nobody is there to read the audit log to");
  LinesOf lines{file};
  std::string text;
  for (std::uint64_t number = 1; lines.next(text); ++number) {
    const auto line = ring::line_from_text(text);
    each({number, text, line ? std::optional{line->entry} : std::nullopt});
  }
}

}  // namespace hsmseal
