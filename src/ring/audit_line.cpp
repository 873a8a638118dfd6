#include "ring/audit_line.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include <nlohmann/json.hpp>

#include "core/binding.hpp"
#include "core/hex.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::ring {
namespace {

using nlohmann::json;

// Each byte takes six at worst ("\u0000"), so that no line is too long.
constexpr std::size_t kMostReasonBytes = 4'096, kMostTokenBytes = 1'024;
constexpr std::size_t kMostEventBytes = 64;

json to_json(const LogLine& line) {
  const AuditEntry& entry = line.entry;
  return {
      {"duration", entry.duration.count()},
      {"event", entry.event},
      {"key", entry.key},
      {"lost", entry.lost},
      {"prev", core::to_hex(line.prev)},
      {"process", entry.process},
      {"reason", entry.reason},
      {"ring", entry.ring.to_string()},
      {"rv", entry.rv},
      {"sequence", entry.sequence},
      {"time", entry.time.time_since_epoch().count()},
      {"token", entry.token},
      {"version", entry.version},
  };
}

bool read(const json& value, std::string& into) {
  if (!value.is_string()) return false;
  into = value.get_ref<const std::string&>();
  return true;
}

template <typename Number>
requires std::is_unsigned_v<Number>
bool read(const json& value, Number& into) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<Number>::max()) return false;
  into = value.get<Number>();
  return true;
}

bool read(const json& value, std::chrono::milliseconds& into) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  std::uint64_t count = 0;
  if (!read(value, count) || count > kMost) return false;
  into = std::chrono::milliseconds{static_cast<std::int64_t>(count)};
  return true;
}

bool read(const json& value, Timestamp& into) {
  std::chrono::milliseconds since{};
  if (!read(value, since)) return false;
  into = Timestamp{since};
  return true;
}

bool read_hex(const json& value, std::span<std::byte> into) {
  const auto bytes = value.is_string() ? crypto::from_hex(value.get_ref<const std::string&>()) : std::nullopt;
  if (!bytes || bytes->size() != into.size()) return false;
  std::ranges::copy(*bytes, into.begin());
  return true;
}

bool is_event_name(std::string_view name) {
  return !name.empty() && name.size() <= kMostEventBytes &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-") == std::string_view::npos;
}

std::string fit(std::string_view text, std::size_t most) {
  text = text.substr(0, most);
  const std::string quoted = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  return json::parse(quoted).get<std::string>();
}

}  // namespace

SecretBytes audit_key(const SecretBytes& ring_key) {
  return crypto::hkdf_expand_sha256(ring_key.view(), bytes_of(core::kAuditLogLabel), crypto::kKeyBytes);
}

void make_fit(AuditEntry& entry) {
  entry.token = fit(entry.token, kMostTokenBytes);
  entry.reason = fit(entry.reason, kMostReasonBytes);
}

std::string to_text(const LogLine& line) {
  json object = to_json(line);
  object["mac"] = core::to_hex(line.entry.mac);
  return object.dump();
}

std::optional<LogLine> line_from_text(std::string_view text) {
  if (text.size() > kMostLineBytes) return std::nullopt;
  const json object = json::parse(text, nullptr, false);
  LogLine line;
  AuditEntry& entry = line.entry;
  const auto field = [&](const char* name) { return object.value(name, json{}); };
  const bool whole =
      object.is_object() && read(field("duration"), entry.duration) && read(field("event"), entry.event) &&
      read(field("key"), entry.key) && read(field("lost"), entry.lost) && read_hex(field("mac"), entry.mac) &&
      read_hex(field("prev"), line.prev) && read(field("process"), entry.process) &&
      read(field("reason"), entry.reason) && read_hex(field("ring"), entry.ring.bytes) && read(field("rv"), entry.rv) &&
      read(field("sequence"), entry.sequence) && read(field("time"), entry.time) && read(field("token"), entry.token) &&
      read(field("version"), entry.version);
  if (!whole || !is_event_name(entry.event) || to_text(line) != text) return std::nullopt;
  return line;
}

Mac mac_of(const LogLine& line, const SecretBytes& audit_key) {
  return crypto::hmac_sha256(audit_key.view(), bytes_of(to_json(line).dump()));
}

std::string digest_of(std::string_view passed_over) { return core::to_hex(crypto::sha256(bytes_of(passed_over))); }

}  // namespace hsmseal::ring
