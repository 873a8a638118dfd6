// rewrap and reseal: moves the envelopes in files to the active set, in place.

#include <memory>

#include "command.hpp"
#include "context_options.hpp"
#include "envelope_file.hpp"
#include "failure.hpp"
#include "progress.hpp"
#include "ring_parts.hpp"
#include "stream_file.hpp"
#include "system.hpp"

namespace tool {
namespace {

struct RewrapOptions {
  std::vector<std::string> files = {};
  bool check = false;
  bool all = false;  ///< of reseal: also what the active set sealed
  ContextOptions context = {};
};

using Move = std::function<void(StoredEnvelope&, const hsmseal::EnvelopeEncryptor&)>;

enum class Verb { Rewrap, Reseal };

/// What became of one file.
struct Moved {
  std::size_t envelopes = 0, due = 0;
};

Moved move_stream(const std::string& path, const hsmseal::EnvelopeEncryptor& vault, const RewrapOptions& options,
                  Verb verb) {
  if (verb == Verb::Reseal) throw UsageError("a stream is not resealed; open it into a file and seal that");
  const Moved result{1, vault.needs_rewrap(start_of(path, hsmseal::kStreamStartBytes)) ? 1U : 0U};
  if (!options.check && result.due != 0) rewrap_stream_file(vault, path);
  return result;
}

Moved move_file(const std::string& path, const hsmseal::EnvelopeEncryptor& vault, const RewrapOptions& options,
                Verb verb, const Move& move) {
  if (holds_stream(path)) return move_stream(path, vault, options, verb);
  EnvelopeFile file = EnvelopeFile::read(path);
  std::vector<StoredEnvelope*> due;
  for (StoredEnvelope& envelope : file.envelopes()) {
    if (options.all || envelope.needs_rewrap(vault)) due.push_back(&envelope);
  }
  const Moved result{file.envelopes().size(), due.size()};
  if (options.check || due.empty()) return result;
  {
    Progress progress{path, due.size()};
    for (StoredEnvelope* envelope : due) {
      try {
        move(*envelope, vault);
      } catch (const std::exception& error) {
        if (envelope->line == 0) throw;
        throw Failure(exit_code_of(error), fmt::format("line {}: {}", envelope->line, error.what()));
      }
      progress.step();
    }
  }
  replace_content(path, file.content());
  return result;
}

/// Goes on with the next file when one fails, which then is as it was.
Exit move_all(const Tool& tool, const RewrapOptions& options, Verb verb, const Move& move) {
  const std::string_view done = verb == Verb::Rewrap ? "rewrapped" : "resealed";
  const HostFile host = tool.host();
  for (const std::string& file : options.files) {
    if (file == "-") throw UsageError("envelopes are moved in their files; give files, not the standard input");
  }
  return with_ring(host, [&](const hsmseal::KeyRing& ring) {
    hsmseal::EnvelopeOptions how;
    how.deadline = host.deadline();
    const hsmseal::EnvelopeEncryptor vault{ring, how};
    const Output out = tool.output();
    Json document = {{"active", ring.active().version}, {"files", Json::array()}};
    Exit result = Exit::Success;
    for (const std::string& path : options.files) {
      Json one = {{"file", path}};
      try {
        const Moved moved = move_file(path, vault, options, verb, move);
        out.line("'{}': {} of {} envelopes {}", path, moved.due, moved.envelopes,
                 options.check ? fmt::format("are not of set {}", ring.active().version) : std::string{done});
        one["envelopes"] = moved.envelopes;
        one[options.check ? "due" : "moved"] = moved.due;
      } catch (const std::exception& error) {
        note(fmt::format("'{}' is as it was: {}", path, error.what()));
        one["error"] = error.what();
        if (result == Exit::Success) result = exit_code_of(error);
      }
      document["files"].push_back(std::move(one));
    }
    out.document(document);
    return result;
  });
}

}  // namespace

void add_rewrap_and_reseal(Tool& tool) {
  const auto rewrapping = std::make_shared<RewrapOptions>();
  auto* rewraps = tool.command(
      "rewrap", "move the envelopes in files to the active set; no secret is decrypted", [&tool, rewrapping] {
        return move_all(tool, *rewrapping, Verb::Rewrap,
                        [](StoredEnvelope& envelope, const auto& vault) { envelope.rewrap(vault); });
      });
  rewraps->add_option("FILE", rewrapping->files, "files with one envelope in bytes, or one on each line")->required();
  rewraps->add_flag("--check", rewrapping->check, "only count those that are to be moved");

  const auto resealing = std::make_shared<RewrapOptions>();
  auto* reseals =
      tool.command("reseal", "open the envelopes in files and seal them anew, after a key may have been used by others",
                   [&tool, resealing] {
                     resealing->context.check();
                     return move_all(tool, *resealing, Verb::Reseal, [&](StoredEnvelope& envelope, const auto& vault) {
                       envelope.reseal(vault, resealing->context.view());
                     });
                   });
  reseals->add_option("FILE", resealing->files, "files with one envelope in bytes, or one on each line")->required();
  reseals->add_flag("--check", resealing->check, "only count those that are to be resealed");
  reseals->add_flag("--all", resealing->all, "also what the active set sealed");
  resealing->context.add_to(*reseals);
}

}  // namespace tool
