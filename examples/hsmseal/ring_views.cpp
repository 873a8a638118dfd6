// ring list, show, verify, orphans.

#include <algorithm>
#include <memory>

#include <hsmseal/error.hpp>

#include "failure.hpp"
#include "ring_commands.hpp"
#include "ring_parts.hpp"
#include "words.hpp"

namespace tool {
namespace {

Json head_of(const hsmseal::KeyRing& ring) {
  return {{"ring", ring.id().to_string()}, {"generation", ring.generation()}, {"active", ring.active().version}};
}

Exit list(const Tool& tool) {
  return with_ring(tool.host(), [&](const hsmseal::KeyRing& ring) {
    const Output out = tool.output();
    Json document = head_of(ring);
    out.line("ring {}, generation {}", ring.id().to_string(), ring.generation());
    document["sets"] = Json::array();
    for (const hsmseal::CredentialSet& set : ring.list()) {
      out.line("set {}: {}, token '{}'{}", set.version, to_string(set.state), set.key.token,
               set.description.empty() ? "" : fmt::format(", {}", set.description));
      document["sets"].push_back(to_json(set));
    }
    out.document(document);
    return Exit::Success;
  });
}

void show_set(const Output& out, const hsmseal::CredentialSet& set) {
  const auto time = [&](std::string_view name, const std::optional<hsmseal::Timestamp>& value) {
    if (value) out.line("{}: {}", name, to_text(*value));
  };
  out.line("set: {}", set.version);
  out.line("state: {}", to_string(set.state));
  out.line("token: '{}' (label '{}', serial {})", set.key.token, set.key.token_label, set.key.token_serial);
  out.line("key: '{}', CKA_ID {}", set.key.key_label, hexadecimal(set.key.key_id));
  if (!set.key.mac_key_id.empty()) out.line("second key: CKA_ID {}", hexadecimal(set.key.mac_key_id));
  out.line("kek_id: {}", set.key.kek_id.to_string());
  out.line("wraps with: {}", describe(set.key.profile));
  if (!set.description.empty()) out.line("description: {}", set.description);
  time("created", set.created_at);
  time("activated", set.activated_at);
  time("archived", set.archived_at);
  time("deleted", set.deleted_at);
  time("key destroyed", set.key_destroyed_at);
}

Exit show(const Tool& tool, hsmseal::Version version) {
  return with_ring(tool.host(), [&](const hsmseal::KeyRing& ring) {
    const auto set = ring.find(version);
    if (!set) {
      throw hsmseal::UnknownVersionError(
          fmt::format("the ring has no set {}; hsmseal ring list shows those it has", version));
    }
    show_set(tool.output(), *set);
    tool.output().document(to_json(*set));
    return Exit::Success;
  });
}

struct VerifyOptions {
  hsmseal::Version version = 0;  ///< 0: all
  bool first_use = false, accept_rollback = false;
  [[nodiscard]] Trust trust() const {
    return first_use ? Trust::FirstUse : accept_rollback ? Trust::AcceptRollback : Trust::Pinned;
  }
};

Exit verify(const Tool& tool, const VerifyOptions& options) {
  const HostFile host = tool.host();
  const RingParts parts{host};
  hsmseal::KeyRing ring = parts.open(options.trust());
  const Output out = tool.output();
  Json document = head_of(ring);
  document["verified"] = Json::array();
  Exit worst = Exit::Success;
  const auto verify_one = [&](hsmseal::Version version) {
    Json result = {{"version", version}, {"answers", true}};
    try {
      ring.verify(version);
      out.line("set {}: its key answers", version);
    } catch (const hsmseal::Error& error) {
      if (worst == Exit::Success) worst = exit_code_of(error);
      note(fmt::format("set {}: {}", version, error.what()));
      result["answers"] = false;
      result["error"] = error.what();
    }
    document["verified"].push_back(std::move(result));
  };
  if (options.version != 0) {
    verify_one(options.version);
  } else {
    for (const auto& set : ring.list()) {
      if (set.state != hsmseal::SetState::Deleted) verify_one(set.version);
    }
  }
  out.document(document);
  parts.tell_of_lost_events();
  return worst;
}

Exit orphans(const Tool& tool) {
  return with_ring(tool.host(), [&](const hsmseal::KeyRing& ring) {
    const Output out = tool.output();
    Json document = {{"ring", ring.id().to_string()}, {"orphans", Json::array()}};
    const auto keys = ring.orphans();
    for (const hsmseal::FoundKey& key : keys) {
      out.line("token '{}': key '{}', CKA_ID {}", key.token, key.key_label, hexadecimal(key.key_id));
      document["orphans"].push_back(to_json(key));
    }
    if (keys.empty()) out.line("every key of this ring in this host's tokens belongs to a set");
    out.document(document);
    return Exit::Success;
  });
}

}  // namespace

void add_ring_views(Tool& tool, CLI::App* ring) {
  tool.command(ring, "list", "list the credential sets", [&tool] { return list(tool); });

  const auto version = std::make_shared<hsmseal::Version>(0);
  auto* showing = tool.command(ring, "show", "show all of one set", [&tool, version] { return show(tool, *version); });
  showing->add_option("VERSION", *version, "the set")->required();

  const auto options = std::make_shared<VerifyOptions>();
  auto* verifying = tool.command(ring, "verify", "show that the sets' keys answer on this host",
                                 [&tool, options] { return verify(tool, *options); });
  verifying->add_option("VERSION", options->version, "one set; otherwise all that are not deleted");
  auto* first = verifying->add_flag("--trust-first-use", options->first_use,
                                    "on a new host: remember the ring that the store shows now");
  verifying
      ->add_flag("--accept-rollback", options->accept_rollback,
                 "after an older copy of the store was restored on purpose: remember that one")
      ->excludes(first);

  tool.command(ring, "orphans", "list keys of the ring in this host's tokens that no set names",
               [&tool] { return orphans(tool); });
}

void add_ring_commands(Tool& tool) {
  CLI::App* ring = tool.group("ring", "make and manage the ring of credential sets");
  add_ring_making(tool, ring);
  add_ring_views(tool, ring);
  add_ring_changes(tool, ring);
  add_ring_removal(tool, ring);
  add_ring_log(tool, ring);
}

}  // namespace tool
