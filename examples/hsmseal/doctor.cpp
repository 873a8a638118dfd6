// doctor: looks at everything that this host needs, and names a cure for what is wrong.

#include <algorithm>
#include <memory>

#include <hsmseal/error.hpp>

#include "command.hpp"
#include "diagnosis.hpp"
#include "failure.hpp"
#include "patience.hpp"
#include "probe_view.hpp"
#include "words.hpp"

namespace tool {

void diagnose_probe(const hsmseal::ProbeReport& report, const HostToken& token, Findings& findings) {
  using Outcome = hsmseal::ProbeCheck::Outcome;
  for (const auto& trial : report.trials) {
    if (trial.works()) continue;
    const auto failed = std::ranges::find(trial.checks, Outcome::Failed, &hsmseal::ProbeCheck::outcome);
    const std::string why = failed == trial.checks.end() ? "it was not tried to the end"
                                                         : fmt::format("{} failed: {}", failed->name, failed->detail);
    findings.note(name_of(token), fmt::format("not fit: {}; {}", describe(trial.profile), why), "");
  }
  if (report.chosen) {
    findings.good(name_of(token), fmt::format("wraps with {}", describe(*report.chosen)));
  } else {
    findings.problem(
        name_of(token), "it wraps in no way that hsmseal knows to be safe, so no set can be added on it",
        fmt::format("if the vendor's manual says who makes the IV, give --gcm-iv to `ring add`; otherwise send "
                    "the vendor what `hsmseal conformance {} --report FILE` writes",
                    token.alias));
  }
  for (const auto& check : report.sessions) {
    if (check.outcome != Outcome::Failed) continue;
    findings.problem(name_of(token),
                     fmt::format("{} failed: {}{}", check.name, check.title,
                                 check.detail.empty() ? "" : fmt::format(" ({})", check.detail)),
                     "recovery relies on it; send the vendor what `hsmseal conformance` writes");
  }
  const auto sessions = most_sessions(report.token);
  if (sessions && *sessions < token.binding.limits.max_sessions + 1) {
    findings.problem(name_of(token),
                     fmt::format("it allows {} sessions, and the host file wants {} and one for the login", *sessions,
                                 token.binding.limits.max_sessions),
                     fmt::format("set \"limits\": {{\"max_sessions\": {}}}", *sessions > 1 ? *sessions - 1 : 1));
  }
  findings.good(name_of(token),
                fmt::format("it lists {} mechanisms; {}", report.mechanisms.size(),
                            sessions ? fmt::format("at most {} sessions", *sessions) : "no known limit of sessions"));
  for (const auto& time : report.times) {
    if (time.function.starts_with("C_")) continue;  // conformance tells them
    findings.good(name_of(token), fmt::format("{}: half within {}, slowest {}", time.function, to_text(time.median),
                                              to_text(time.slowest)));
  }
}

namespace {

struct DoctorOptions {
  std::vector<std::string> tokens = {};
  bool no_probe = false, no_ring = false;
  Patience patience = {};
};

void diagnose(const HostFile& host, const HostToken& token, const DoctorOptions& options, Findings& findings) {
  const Patience& patience = options.patience;
  try {
    const auto module = diagnose_driver(host, token, patience, findings);
    if (!module) return;
    auto session = diagnose_token(module, token, patience, findings);
    if (!session) return;
    if (options.no_probe) {
      patience.call("C_CloseSession", [closed = std::move(*session)] { return 0; });
    } else {
      diagnose_probe(probe(host, token, std::move(*session), {}, patience), token, findings);
    }
  } catch (const HangError& error) {
    findings.problem(name_of(token), error, "");
  } catch (const hsmseal::Error& error) {
    findings.problem(name_of(token), error, "look into the HSM's and the driver's log");
  }
}

Exit doctor(const Tool& tool, DoctorOptions& options) {
  options.patience.check();
  const Output out = tool.output();
  Findings findings{out};
  try {
    const HostFile host = tool.host();
    options.patience.begin(host.deadline());
    findings.good("host file", fmt::format("'{}', {} tokens", host.name(), host.tokens().size()));
    for (const HostToken& token : host.tokens()) {
      const bool wanted =
          options.tokens.empty() || std::ranges::find(options.tokens, token.alias) != options.tokens.end();
      if (wanted) diagnose(host, token, options, findings);
    }
    for (const std::string& alias : options.tokens) static_cast<void>(host.token(alias));
    if (!options.no_ring) diagnose_ring(host, findings);
  } catch (const UsageError& error) {
    constexpr std::string_view kSubject = "host file ";
    std::string_view message = error.what();
    if (message.starts_with(kSubject)) message.remove_prefix(kSubject.size());
    findings.problem("host file", UsageError{std::string{message}}, "correct it; man hsmseal has all fields");
  }
  out.line("{}", findings.problems() == 0 ? "no problem was found" : fmt::format("problems: {}", findings.problems()));
  out.document({{"problems", findings.problems()}, {"findings", findings.document()}});
  return findings.problems() == 0 ? Exit::Success : Exit::Problems;
}

}  // namespace

void add_doctor(Tool& tool) {
  const auto options = std::make_shared<DoctorOptions>();
  auto* command = tool.command("doctor", "look for what is wrong on this host: host file, drivers, tokens, PINs, ring",
                               [&tool, options] { return doctor(tool, *options); });
  command->add_option("TOKEN", options->tokens, "only these tokens, as the host file names them");
  command->add_flag("--no-probe", options->no_probe, "log in, and try nothing on the tokens");
  command->add_flag("--no-ring", options->no_ring, "leave the ring and its store alone");
  options->patience.add_to(*command);
}

}  // namespace tool
