#include "probe_view.hpp"

#include <algorithm>

#include "words.hpp"

namespace tool {
namespace {

using Outcome = hsmseal::ProbeCheck::Outcome;

Json to_json(const hsmseal::ProbeCheck& check) {
  return {{"name", check.name}, {"title", check.title}, {"outcome", word(check.outcome)}, {"detail", check.detail}};
}

Json to_json(const std::vector<hsmseal::ProbeCheck>& checks) {
  Json all = Json::array();
  for (const auto& check : checks) all.push_back(to_json(check));
  return all;
}

}  // namespace

std::optional<std::uint64_t> most_sessions(const hsmseal::TokenInfo& token) {
  // CK_EFFECTIVELY_INFINITE, and what CK_UNAVAILABLE_INFORMATION and its neighbours are.
  constexpr std::uint64_t kNoNumber = ~std::uint64_t{0} - 1;
  if (token.max_sessions == 0 || token.max_sessions >= kNoNumber) return std::nullopt;
  return token.max_sessions;
}

bool conforms(const hsmseal::ProbeReport& report) {
  return report.chosen.has_value() &&
         std::ranges::none_of(report.sessions, [](const auto& check) { return check.outcome == Outcome::Failed; });
}

std::string_view word(Outcome outcome) {
  switch (outcome) {
    case Outcome::Passed:
      return "passed";
    case Outcome::Failed:
      return "FAILED";
    case Outcome::NotTried:
      break;
  }
  return "not tried";
}

std::string line_of(const hsmseal::ProbeCheck& check) {
  return fmt::format("{:9} {}: {}{}", word(check.outcome), check.name, check.title,
                     check.detail.empty() ? "" : fmt::format(" ({})", check.detail));
}

std::string to_text(const hsmseal::ProbeReport& report) {
  std::string text;
  const auto line = [&](const std::string& content) { text += content + "\n"; };
  line(fmt::format("driver: {} {}.{}, of {}, Cryptoki {}.{}", report.driver.description, report.driver.library_major,
                   report.driver.library_minor, report.driver.manufacturer, report.driver.cryptoki_major,
                   report.driver.cryptoki_minor));
  line(fmt::format("token: model {}, of {}, serial {}, flags 0x{:x}, {}", report.token.model, report.token.manufacturer,
                   report.token.serial, report.token.flags,
                   most_sessions(report.token) ? fmt::format("at most {} sessions", *most_sessions(report.token))
                                               : "no known limit of sessions"));
  for (const auto& trial : report.trials) {
    line(fmt::format("profile: {}", describe(trial.profile)));
    for (const auto& check : trial.checks) line("  " + line_of(check));
  }
  line("sessions and errors:");
  for (const auto& check : report.sessions) line("  " + line_of(check));
  line("times:");
  for (const auto& time : report.times) {
    line(fmt::format("  {}: half within {}, slowest {}, of {} calls", time.function, to_text(time.median),
                     to_text(time.slowest), time.calls));
  }
  line(fmt::format("mechanisms: {}", report.mechanisms.size()));
  for (const auto& mechanism : report.mechanisms) {
    line(fmt::format("  {} (0x{:x}), keys of {} to {}", mechanism.name, mechanism.type, mechanism.min_key_size,
                     mechanism.max_key_size));
  }
  line(report.chosen ? fmt::format("chosen: {}", describe(*report.chosen)) : "chosen: none, so a set would be refused");
  line(fmt::format("verdict: {}", conforms(report) ? "the token does what hsmseal needs"
                                                   : "the token does NOT do what hsmseal needs"));
  return text;
}

Json to_json(const hsmseal::ProbeReport& report) {
  Json json = {{"driver",
                {{"description", report.driver.description},
                 {"manufacturer", report.driver.manufacturer},
                 {"library", fmt::format("{}.{}", report.driver.library_major, report.driver.library_minor)},
                 {"cryptoki", fmt::format("{}.{}", report.driver.cryptoki_major, report.driver.cryptoki_minor)}}},
               {"token",
                {{"model", report.token.model},
                 {"manufacturer", report.token.manufacturer},
                 {"serial", report.token.serial},
                 {"flags", report.token.flags},
                 {"max_sessions", report.token.max_sessions}}},
               {"trials", Json::array()},
               {"sessions", to_json(report.sessions)},
               {"chosen", report.chosen ? to_json(*report.chosen) : Json()},
               {"conforms", conforms(report)},
               {"times", Json::array()},
               {"mechanisms", Json::array()}};
  for (const auto& trial : report.trials) {
    json["trials"].push_back(
        {{"profile", to_json(trial.profile)}, {"works", trial.works()}, {"checks", to_json(trial.checks)}});
  }
  for (const auto& time : report.times) {
    json["times"].push_back({{"function", time.function},
                             {"median_ns", time.median.count()},
                             {"slowest_ns", time.slowest.count()},
                             {"calls", time.calls}});
  }
  for (const auto& mechanism : report.mechanisms) {
    json["mechanisms"].push_back({{"name", mechanism.name}, {"type", mechanism.type}});
  }
  return json;
}

}  // namespace tool
