#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/probe.hpp>

#include "output.hpp"

namespace tool {

/// How many sessions a token says it allows; nothing if it names no limit.
[[nodiscard]] std::optional<std::uint64_t> most_sessions(const hsmseal::TokenInfo& token);
/// Whether a token does all that hsmseal needs.
[[nodiscard]] bool conforms(const hsmseal::ProbeReport& report);
[[nodiscard]] std::string_view word(hsmseal::ProbeCheck::Outcome outcome);
/// `passed   gcm-changed-tag: a changed tag is refused`, with what came instead if it failed.
[[nodiscard]] std::string line_of(const hsmseal::ProbeCheck& check);
/// Everything, for people: lines.
[[nodiscard]] std::string to_text(const hsmseal::ProbeReport& report);
[[nodiscard]] Json to_json(const hsmseal::ProbeReport& report);

}  // namespace tool
