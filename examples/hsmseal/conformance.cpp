// conformance: what hsmseal needs of a token, tried on the operator's own, and a report to send to its vendor.

#include <algorithm>
#include <memory>

#include <hsmseal/probe.hpp>
#include <hsmseal/version.hpp>

#include "command.hpp"
#include "diagnosis.hpp"
#include "failure.hpp"
#include "patience.hpp"
#include "probe_view.hpp"
#include "set_options.hpp"
#include "system.hpp"

namespace tool {
namespace {

struct ConformanceOptions {
  std::string token = {}, report = {};
  bool with_names = false;
  unsigned calls = 32;
  GcmOptions gcm = {};
  Patience patience = {};
};

/// Messages name the token, and the report goes to somebody else.
void leave_out_names(hsmseal::ProbeReport& report, const std::string& alias) {
  const auto leave_out = [&](std::vector<hsmseal::ProbeCheck>& checks) {
    for (auto& check : checks) {
      for (const std::string& name : {report.token.label, alias}) {
        const std::string named = fmt::format("token '{}'", name);
        for (auto at = check.detail.find(named); at != std::string::npos; at = check.detail.find(named)) {
          check.detail.replace(at, named.size(), "the token");
        }
      }
    }
  };
  for (auto& trial : report.trials) leave_out(trial.checks);
  leave_out(report.sessions);
}

std::string report_text(const hsmseal::ProbeReport& report, const std::vector<hsmseal::TokenInfo>& named) {
  std::string text = fmt::format("hsmseal {}.{}.{} conformance report\nmade: {}\n", HSMSEAL_VERSION_MAJOR,
                                 HSMSEAL_VERSION_MINOR, HSMSEAL_VERSION_PATCH, time_now());
  if (!named.empty()) text += fmt::format("label: '{}'\n", report.token.label);
  for (const auto& other : named) {
    if (other.serial == report.token.serial && other.label == report.token.label) continue;
    text += fmt::format("other token: '{}', serial {}, model {}\n", other.label, other.serial, other.model);
  }
  return text + to_text(report);
}

Exit conformance(const Tool& tool, ConformanceOptions& options) {
  options.patience.check();
  const Output out = tool.output();
  hsmseal::ProbeOptions how{.algorithm = options.gcm.wrap_algorithm(), .gcm = options.gcm.form()};
  how.timed_calls = options.calls;
  const HostFile host = tool.host();
  const HostToken& token = host.token(options.token);
  const bool wants_file = !options.report.empty();
  if (wants_file && std::filesystem::exists(std::filesystem::symlink_status(options.report))) {
    throw UsageError(fmt::format("'{}' exists and is never overwritten; name a new file", options.report));
  }
  options.patience.begin(host.deadline());
  Findings findings{out, false};
  const auto module = diagnose_driver(host, token, options.patience, findings);
  auto session = module ? diagnose_token(module, token, options.patience, findings) : std::nullopt;
  if (!session) {
    out.document({{"problems", findings.problems()}, {"findings", findings.document()}});
    return Exit::Problems;
  }
  std::vector<hsmseal::TokenInfo> named;
  if (options.with_names) named = options.patience.call("the search for tokens", [module] { return module->tokens(); });
  hsmseal::ProbeReport report = probe(host, token, std::move(*session), how, options.patience);
  if (!options.with_names) leave_out_names(report, token.alias);
  const std::string text = report_text(report, named);
  out.line("{}", text.substr(0, text.find_last_not_of('\n') + 1));
  if (wants_file) {
    write_file(options.report, hsmseal::bytes_of(text), Existing::Keep);
    out.line("report: '{}'", options.report);
  }
  out.document(to_json(report));
  return conforms(report) ? Exit::Success : Exit::NotConformant;
}

}  // namespace

void add_conformance(Tool& tool) {
  const auto options = std::make_shared<ConformanceOptions>();
  auto* command = tool.command("conformance", "try on a token all that hsmseal needs of it; no key is left behind",
                               [&tool, options] { return conformance(tool, *options); });
  command->add_option("TOKEN", options->token, "the token, as the host file names it")->required();
  command->add_option("--report", options->report, "write a report to send to the vendor, into a new file")
      ->type_name("FILE");
  command->add_flag("--with-names", options->with_names,
                    "put the labels of this token and of the driver's others into it");
  command->add_option("--calls", options->calls, "how many calls of each kind are timed; 32 by default")
      ->check(CLI::Range(0, 10000));
  options->patience.add_to(*command);
  options->gcm.add_to(*command);
}

}  // namespace tool
