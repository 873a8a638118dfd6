#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/envelope_header.hpp>
#include <hsmseal/vendors.hpp>

#include "output.hpp"

// How the tool writes the library's values, and reads them.

namespace tool {

[[nodiscard]] std::string_view word(hsmseal::WrapAlgorithm algorithm);
[[nodiscard]] std::string_view word(hsmseal::Evidence evidence);
[[nodiscard]] std::string_view word(hsmseal::Suite suite);

/// `AES-256-GCM, the caller's IV of 12 bytes, mechanism 0x1087, at most 4096 bytes`
[[nodiscard]] std::string describe(const hsmseal::WrapProfile& profile);

/// 2026-01-31T12:00:00.000Z
[[nodiscard]] std::string to_text(hsmseal::Timestamp time);
/// 12.3 us, 4.56 ms and so on.
[[nodiscard]] std::string to_text(std::chrono::nanoseconds duration);
[[nodiscard]] std::string hexadecimal(hsmseal::ByteView bytes);

/// @throws UsageError  not an even number of hexadecimal digits, or none; `what` is named.
[[nodiscard]] hsmseal::Bytes bytes_from_hexadecimal(std::string_view text, std::string_view what);
/// Reads `200ms`, `5s`, `10m`, `12h` or `7d`.
/// @throws UsageError
[[nodiscard]] std::chrono::milliseconds duration_from(std::string_view text);

[[nodiscard]] Json to_json(const hsmseal::WrapProfile& profile);
[[nodiscard]] Json to_json(const hsmseal::CredentialSet& set);
[[nodiscard]] Json to_json(const hsmseal::FoundKey& key);

}  // namespace tool
