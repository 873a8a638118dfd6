#include "words.hpp"

#include <array>
#include <charconv>
#include <ratio>
#include <utility>

#include <fmt/chrono.h>

#include "failure.hpp"

namespace tool {

std::string_view word(hsmseal::WrapAlgorithm algorithm) {
  switch (algorithm) {
    case hsmseal::WrapAlgorithm::Aes256Gcm:
      return "AES-256-GCM";
    case hsmseal::WrapAlgorithm::Aes256CbcHmac:
      return "AES-256-CBC with HMAC-SHA-256";
  }
  return "unknown";
}

std::string_view word(hsmseal::Evidence evidence) {
  return evidence == hsmseal::Evidence::Run ? "run" : "documented, not run";
}

std::string_view word(hsmseal::Suite suite) {
  if (suite == hsmseal::Suite::Stream) return "sealed as a stream";
  return suite == hsmseal::Suite::Token ? "sealed in the token" : "sealed under a data key";
}

std::string describe(const hsmseal::WrapProfile& profile) {
  std::string text{word(profile.algorithm)};
  if (profile.algorithm == hsmseal::WrapAlgorithm::Aes256Gcm) {
    text += fmt::format(", IV rule {}, IV of {} bytes, mechanism 0x{:x}, parameters {}", to_string(profile.gcm.iv_rule),
                        profile.gcm.iv_bytes, profile.gcm.mechanism, to_string(profile.gcm.parameters));
  }
  return text + fmt::format(", at most {} bytes a call", profile.max_plaintext);
}

std::string to_text(hsmseal::Timestamp time) {
  const auto milliseconds = time.time_since_epoch().count() % 1000;
  return fmt::format(
      "{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
      fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::seconds>(time))),
      milliseconds);
}

std::string to_text(std::chrono::nanoseconds duration) {
  const auto count = static_cast<double>(duration.count());
  if (count < 1e6) return fmt::format("{:.1f} us", count / 1e3);
  if (count < 1e9) return fmt::format("{:.2f} ms", count / 1e6);
  return fmt::format("{:.2f} s", count / 1e9);
}

std::string hexadecimal(hsmseal::ByteView bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

hsmseal::Bytes bytes_from_hexadecimal(std::string_view text, std::string_view what) {
  hsmseal::Bytes bytes;
  for (std::size_t at = 0; at + 1 < text.size(); at += 2) {
    unsigned byte = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 2, byte, 16);
    if (error != std::errc{} || end != text.data() + at + 2) break;
    bytes.push_back(static_cast<std::byte>(byte));
  }
  if (text.empty() || bytes.size() * 2 != text.size()) {
    throw UsageError(fmt::format("{} must be an even number of hexadecimal digits, such as 0a1b", what));
  }
  return bytes;
}

std::chrono::milliseconds duration_from(std::string_view text) {
  using namespace std::chrono_literals;
  static constexpr std::array<std::pair<std::string_view, std::chrono::milliseconds>, 5> kUnits = {
      {{"ms", 1ms}, {"s", 1s}, {"m", 1min}, {"h", 1h}, {"d", 24h}}};
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  for (const auto& [name, length] : kUnits) {
    if (error == std::errc{} && unit == name) return number * length;
  }
  throw UsageError(fmt::format("'{}' is no length of time; write 200ms, 5s, 10m, 12h or 7d", text));
}

Json to_json(const hsmseal::WrapProfile& profile) {
  Json json = {{"algorithm", word(profile.algorithm)}, {"max_plaintext", profile.max_plaintext}};
  if (profile.algorithm == hsmseal::WrapAlgorithm::Aes256Gcm) {
    json["iv"] = to_string(profile.gcm.iv_rule);
    json["iv_bytes"] = profile.gcm.iv_bytes;
    json["mechanism"] = profile.gcm.mechanism;
    json["parameters"] = to_string(profile.gcm.parameters);
  }
  return json;
}

Json to_json(const hsmseal::CredentialSet& set) {
  const auto time = [](const std::optional<hsmseal::Timestamp>& value) {
    return value ? Json(to_text(*value)) : Json();
  };
  return {{"version", set.version},
          {"state", to_string(set.state)},
          {"token", set.key.token},
          {"token_label", set.key.token_label},
          {"token_serial", set.key.token_serial},
          {"key_id", hexadecimal(set.key.key_id)},
          {"key_label", set.key.key_label},
          {"mac_key_id", set.key.mac_key_id.empty() ? Json() : Json(hexadecimal(set.key.mac_key_id))},
          {"kek_id", set.key.kek_id.to_string()},
          {"wrap", to_json(set.key.profile)},
          {"description", set.description},
          {"created_at", to_text(set.created_at)},
          {"activated_at", time(set.activated_at)},
          {"archived_at", time(set.archived_at)},
          {"deleted_at", time(set.deleted_at)},
          {"key_destroyed_at", time(set.key_destroyed_at)}};
}

Json to_json(const hsmseal::FoundKey& key) {
  return {{"token", key.token},
          {"token_label", key.token_label},
          {"token_serial", key.token_serial},
          {"key_id", hexadecimal(key.key_id)},
          {"key_label", key.key_label},
          {"version", key.version},
          {"part", key.part == hsmseal::KeyPart::Mac ? "mac" : "encryption"}};
}

}  // namespace tool
