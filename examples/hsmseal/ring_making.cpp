// ring create, add, export, import.

#include <memory>

#include <hsmseal/error.hpp>

#include "failure.hpp"
#include "ring_commands.hpp"
#include "ring_parts.hpp"
#include "set_options.hpp"
#include "words.hpp"

namespace tool {
namespace {

struct CreateOptions {
  SetOptions set = {};
  std::string max_staleness = {}, removal_grace = {}, quarantine = {};

  [[nodiscard]] hsmseal::RingSettings settings() const {
    hsmseal::RingSettings settings;
    if (!max_staleness.empty()) settings.max_staleness = duration_from(max_staleness);
    if (!removal_grace.empty()) settings.removal_grace = duration_from(removal_grace);
    if (!quarantine.empty()) settings.quarantine = duration_from(quarantine);
    return settings;
  }
};

void tell_made(const Output& out, const hsmseal::KeyRing& ring, hsmseal::Version version) {
  const auto set = ring.find(version);
  if (!set) throw Failure(Exit::Failed, fmt::format("set {} was added, and removed by another host at once", version));
  out.line("set {}: {}, token '{}', key '{}'", version, to_string(set->state), set->key.token, set->key.key_label);
  out.line("it wraps with: {}", describe(set->key.profile));
  Json document = {{"ring", ring.id().to_string()}, {"generation", ring.generation()}, {"set", to_json(*set)}};
  out.document(document);
}

Exit create(const Tool& tool, const CreateOptions& options) {
  const hsmseal::SetSpec spec = options.set.spec();
  const hsmseal::RingSettings settings = options.settings();
  const HostFile host = tool.host();
  static_cast<void>(host.token(spec.token));
  const RingParts parts{host};
  const hsmseal::KeyRing ring = parts.create(spec, settings);
  tool.output().line("ring {}", ring.id().to_string());
  tell_made(tool.output(), ring, ring.active().version);
  parts.tell_of_lost_events();
  return Exit::Success;
}

Exit add(const Tool& tool, const SetOptions& options, hsmseal::Activation activation) {
  const hsmseal::SetSpec spec = options.spec();
  const HostFile host = tool.host();
  static_cast<void>(host.token(spec.token));
  return with_ring(host, [&](hsmseal::KeyRing& ring) {
    tell_made(tool.output(), ring, ring.add(spec, activation));
    return Exit::Success;
  });
}

Exit export_to(const Tool& tool, const std::string& file) {
  return with_ring(tool.host(), [&](const hsmseal::KeyRing& ring) {
    ring.export_to(file);
    tool.output().line("ring {}, generation {}: written to '{}'", ring.id().to_string(), ring.generation(), file);
    tool.output().document({{"ring", ring.id().to_string()}, {"generation", ring.generation()}, {"file", file}});
    return Exit::Success;
  });
}

Exit import_from(const Tool& tool, const std::string& file, Trust trust) {
  const HostFile host = tool.host();
  const RingParts parts{host};
  const auto imported = [&] {
    try {
      return parts.import_from(file, trust);
    } catch (const hsmseal::RingRolledBackError& error) {
      std::string message = error.what();
      constexpr std::string_view kToOpen = "RingPin::accept_rollback()";
      const auto at = message.find(kToOpen);
      if (at != std::string::npos) message.replace(at, kToOpen.size(), "hsmseal ring import --accept-rollback");
      throw Failure(exit_code_of(error), message);
    }
  };
  const hsmseal::KeyRing ring = imported();
  tool.output().line("ring {}, generation {}: put into the store", ring.id().to_string(), ring.generation());
  tool.output().document({{"ring", ring.id().to_string()}, {"generation", ring.generation()}});
  parts.tell_of_lost_events();
  return Exit::Success;
}

}  // namespace

void add_ring_making(Tool& tool, CLI::App* ring) {
  const auto creation = std::make_shared<CreateOptions>();
  auto* creating = tool.command(ring, "create", "make a new ring with its first set in an empty store",
                                [&tool, creation] { return create(tool, *creation); });
  creation->set.add_to(*creating);
  creating->add_option("--max-staleness", creation->max_staleness, "how old a host's view may be; 5s by default");
  creating->add_option("--removal-grace", creation->removal_grace,
                       "how long a set must have been archived before it is removed; 60s by default");
  creating->add_option("--quarantine", creation->quarantine,
                       "how long a removed set must wait before it is purged or its key destroyed; 7d by default");

  const auto addition = std::make_shared<SetOptions>();
  const auto later = std::make_shared<bool>(false);
  auto* adding = tool.command(
      ring, "add", "add a set, which seals from now on; the one that was active is archived", [&tool, addition, later] {
        return add(tool, *addition, *later ? hsmseal::Activation::Later : hsmseal::Activation::Now);
      });
  addition->add_to(*adding);
  adding->add_flag("--later", *later, "only stage it, until `ring activate`");

  const auto target = std::make_shared<std::string>();
  auto* exporting = tool.command(ring, "export", "write the ring into a new file, as a backup; no secret is in it",
                                 [&tool, target] { return export_to(tool, *target); });
  exporting->add_option("FILE", *target, "a file that does not exist")->required();

  const auto source = std::make_shared<std::string>();
  const auto first_use = std::make_shared<bool>(false), rollback = std::make_shared<bool>(false);
  auto* importing =
      tool.command(ring, "import", "put an exported ring into an empty store", [&tool, source, first_use, rollback] {
        return import_from(tool, *source,
                           *first_use  ? Trust::FirstUse
                           : *rollback ? Trust::AcceptRollback
                                       : Trust::Pinned);
      });
  importing->add_option("FILE", *source, "what `ring export` wrote")->required();
  auto* first = importing->add_flag("--trust-first-use", *first_use, "on a host that remembers no ring");
  importing->add_flag("--accept-rollback", *rollback, "if the export is older than what this host has seen")
      ->excludes(first);
}

}  // namespace tool
