// ring activate, amend, restore.

#include <memory>

#include "failure.hpp"
#include "ring_commands.hpp"
#include "ring_parts.hpp"
#include "words.hpp"

namespace tool {
namespace {

/// Changes one set and shows what it is then.
template <typename Change>
Exit change(const Tool& tool, hsmseal::Version version, const Change& make) {
  return with_ring(tool.host(), [&](hsmseal::KeyRing& ring) {
    make(ring);
    const auto set = ring.find(version);
    if (!set) throw Failure(Exit::Failed, fmt::format("set {} is gone after the change", version));
    tool.output().line("set {}: {}, token '{}'", version, to_string(set->state), set->key.token);
    tool.output().document({{"generation", ring.generation()}, {"set", to_json(*set)}});
    return Exit::Success;
  });
}

struct AmendOptions {
  hsmseal::Version version = 0;
  hsmseal::SetChange change = {};
};

}  // namespace

void add_ring_changes(Tool& tool, CLI::App* ring) {
  const auto staged = std::make_shared<hsmseal::Version>(0);
  auto* activating = tool.command(ring, "activate", "let a staged set seal from now on", [&tool, staged] {
    return change(tool, *staged, [&](hsmseal::KeyRing& opened) { opened.activate(*staged); });
  });
  activating->add_option("VERSION", *staged, "the set")->required();

  const auto amendment = std::make_shared<AmendOptions>();
  auto* amending = tool.command(
      ring, "amend", "change a set's description, or how its key is reached; the key is proved there first",
      [&tool, amendment] {
        const hsmseal::SetChange& asked = amendment->change;
        if (!asked.description && !asked.token && !asked.token_label && !asked.token_serial) {
          throw UsageError("nothing is to be changed; give --description, --token, --label or --serial");
        }
        return change(tool, amendment->version,
                      [&](hsmseal::KeyRing& opened) { opened.amend(amendment->version, asked); });
      });
  amending->add_option("VERSION", amendment->version, "the set")->required();
  amending->add_option("--description", amendment->change.description, "new words for people");
  amending->add_option("--token", amendment->change.token, "the token, as this host's file names it");
  amending->add_option("--label", amendment->change.token_label, "the label that the token has now");
  amending->add_option("--serial", amendment->change.token_serial, "the serial number that the token has now");

  const auto deleted = std::make_shared<hsmseal::Version>(0);
  auto* restoring = tool.command(ring, "restore", "bring a removed set back", [&tool, deleted] {
    return change(tool, *deleted, [&](hsmseal::KeyRing& opened) { opened.restore(*deleted); });
  });
  restoring->add_option("VERSION", *deleted, "the set")->required();
}

}  // namespace tool
