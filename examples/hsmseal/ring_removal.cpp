// ring remove, purge, destroy-key: what takes something away.

#include <charconv>
#include <memory>

#include "census.hpp"
#include "failure.hpp"
#include "ring_commands.hpp"
#include "ring_parts.hpp"
#include "system.hpp"
#include "words.hpp"

namespace tool {
namespace {

struct RemovalOptions {
  hsmseal::Version version = 0;
  CensusOptions census = {};
  bool without_census = false;
  std::optional<hsmseal::Version> confirmed = {};

  void add_to(CLI::App& command) {
    command.add_option("VERSION", version, "the set")->required();
    census.add_to(command);
  }
  void add_confirmation(CLI::App& command) {
    command.add_option("--confirm", confirmed, "the version again, for scripts; otherwise it is asked for")
        ->type_name("VERSION");
  }
};

/// What cannot be undone wants the version again, from a person or from a script that says it knows.
hsmseal::Confirmation confirmation(const RemovalOptions& options, std::string_view what) {
  hsmseal::Version again = 0;
  if (options.confirmed) {
    again = *options.confirmed;
  } else {
    const std::string typed = ask_line(fmt::format("{}; type the version again (or give --confirm)", what),
                                       "the version", "give --confirm VERSION");
    const auto [end, error] = std::from_chars(typed.data(), typed.data() + typed.size(), again);
    if (error != std::errc{} || end != typed.data() + typed.size()) again = 0;
  }
  if (again != options.version) {
    throw UsageError(fmt::format("version {} was not confirmed; nothing was changed", options.version));
  }
  return {again};
}

Exit remove(const Tool& tool, const RemovalOptions& options) {
  if (options.without_census == options.census.given()) {
    throw UsageError("give one of --census FILE..., --census-command COMMAND and --without-census");
  }
  if (options.without_census) {
    static_cast<void>(
        confirmation(options, fmt::format("set {} will open nothing any more, and nobody has counted what "
                                          "it sealed",
                                          options.version)));
  }
  return with_ring(tool.host(), [&](hsmseal::KeyRing& ring) {
    if (options.without_census) {
      ring.remove_without_census(options.version);
    } else {
      ring.remove(options.version, options.census.census(ring.id()));
    }
    tool.output().line("set {}: deleted; `ring restore {}` brings it back", options.version, options.version);
    tool.output().document({{"generation", ring.generation()}, {"version", options.version}, {"state", "deleted"}});
    return Exit::Success;
  });
}

Exit purge(const Tool& tool, const RemovalOptions& options) {
  static_cast<void>(options.census.census({}));
  static_cast<void>(
      confirmation(options, fmt::format("the record of set {} will be erased for ever", options.version)));
  return with_ring(tool.host(), [&](hsmseal::KeyRing& ring) {
    ring.purge(options.version, options.census.census(ring.id()));
    tool.output().line("set {}: its record is gone", options.version);
    tool.output().document({{"generation", ring.generation()}, {"version", options.version}, {"state", "purged"}});
    return Exit::Success;
  });
}

Exit destroy_key(const Tool& tool, const RemovalOptions& options) {
  static_cast<void>(options.census.census({}));
  const auto confirmed = confirmation(
      options,
      fmt::format("the key of set {} will be destroyed in its token, and what it sealed is lost", options.version));
  return with_ring(tool.host(), [&](hsmseal::KeyRing& ring) {
    ring.destroy_key(options.version, options.census.census(ring.id()), confirmed);
    tool.output().line("set {}: its key is destroyed", options.version);
    tool.output().document(
        {{"generation", ring.generation()}, {"version", options.version}, {"state", "key destroyed"}});
    return Exit::Success;
  });
}

}  // namespace

void add_ring_removal(Tool& tool, CLI::App* ring) {
  const auto removal = std::make_shared<RemovalOptions>();
  auto* removing = tool.command(ring, "remove", "remove an archived set that no envelope names any more",
                                [&tool, removal] { return remove(tool, *removal); });
  removal->add_to(*removing);
  removing->add_flag("--without-census", removal->without_census, "nobody counts; the version is asked for again");
  removal->add_confirmation(*removing);

  const auto erasure = std::make_shared<RemovalOptions>();
  auto* purging = tool.command(ring, "purge", "erase the record of a removed set for ever",
                               [&tool, erasure] { return purge(tool, *erasure); });
  erasure->add_to(*purging);
  erasure->add_confirmation(*purging);

  const auto destruction = std::make_shared<RemovalOptions>();
  auto* destroying = tool.command(ring, "destroy-key", "destroy the key of a removed set in its token for ever",
                                  [&tool, destruction] { return destroy_key(tool, *destruction); });
  destruction->add_to(*destroying);
  destruction->add_confirmation(*destroying);
}

}  // namespace tool
