// seal and open: a file or the standard input to a file or the standard output, of any size as streams.

#include <memory>
#include <optional>
#include <utility>

#include "command.hpp"
#include "context_options.hpp"
#include "envelope_file.hpp"
#include "failure.hpp"
#include "ring_parts.hpp"
#include "stream_file.hpp"
#include "system.hpp"

namespace tool {
namespace {

struct Target {
  std::string file = "-";
  bool force = false;

  void add_to(CLI::App& command) {
    command.add_option("-o,--output", file, "where to write; - is the standard output")->type_name("FILE");
    command.add_flag("-f,--force", force, "overwrite a file, or write to a terminal what is not for one");
  }
  [[nodiscard]] bool is_file() const { return file != "-"; }
  [[nodiscard]] Existing existing() const { return force ? Existing::Replace : Existing::Keep; }

  /// Before anything is done: what will be refused in the end is refused now.
  void check(const Output& out, std::string_view what, std::string_view instead) const {
    if (is_file()) {
      if (!force && std::filesystem::exists(std::filesystem::symlink_status(file))) {
        throw UsageError(fmt::format("'{}' exists and is not overwritten; give --force if it may be", file));
      }
    } else if (!force && !out.json() && is_terminal(Stream::Output)) {
      throw UsageError(fmt::format("{} is not written to a terminal; {}", what, instead));
    }
  }
};

struct SealOptions {
  std::string input = "-";
  Target target = {};
  ContextOptions context = {};
  bool text = false, in_token = false, stream = false;
  std::size_t padding = 0;

  /// Whether the secret is sealed as a stream: that was asked for, or it is too large for anything else.
  [[nodiscard]] bool as_stream() const { return stream || size_of(input).value_or(0) > hsmseal::kMaxSecretBytes; }

  [[nodiscard]] hsmseal::EnvelopeOptions envelope(const HostFile& host) const {
    hsmseal::EnvelopeOptions options;
    options.suite = in_token ? hsmseal::Suite::Token : hsmseal::Suite::DataKey;
    if (padding != 0) options.padding = hsmseal::Padding::to_multiple_of(padding);
    options.deadline = host.deadline();
    return options;
  }
};

hsmseal::SecretBytes secret_from(const std::string& input) {
  if (input == "-" && is_terminal(Stream::Input))
    return ask_secret("secret to be sealed", "give a file, or the secret on the standard input");
  return content_of(input);
}

/// Passes a stream to where it is to be. A file comes about only when all of it is there.
/// @param version  of the set that sealed it, as far as it is known.
template <typename Pass>
Exit put_stream(const Output& out, const Target& target, const Pass& pass, std::optional<hsmseal::Version> version) {
  std::uint64_t bytes = 0;
  if (target.is_file()) {
    write_file(target.file, target.existing(), [&](const Pieces& put) { bytes = pass(put); });
    Json document = {{"file", target.file}, {"bytes", bytes}};
    if (version) document["version"] = *version;
    out.document(document);
    return Exit::Success;
  }
  const auto put = [&](hsmseal::ByteView piece) {
    write_output(piece);
    bytes += piece.size();
  };
  try {
    pass(put);
  } catch (...) {
    if (bytes != 0) note("what was written to the standard output is not whole; throw it away");
    throw;
  }
  return Exit::Success;
}

Exit seal_as_stream(const Tool& tool, SealOptions& options) {
  const Output out = tool.output();
  if (options.text || options.in_token || options.padding != 0) {
    throw UsageError("a stream has no text form, no padding, and is not sealed in the token; give none of these");
  }
  if (out.json() && !options.target.is_file()) {
    throw UsageError("a stream is not put into JSON; give --output FILE with --json");
  }
  options.target.check(out, "a stream", "give --output FILE or --force");
  if (options.input == "-" && is_terminal(Stream::Input)) throw UsageError("a stream is not typed; give a file");
  const HostFile host = tool.host();
  return with_ring(host, [&](const hsmseal::KeyRing& ring) {
    const hsmseal::EnvelopeEncryptor vault{ring, options.envelope(host)};
    const auto pass = [&](const Pieces& put) {
      return seal_stream_file(vault, options.input, options.context.view(), put);
    };
    return put_stream(out, options.target, pass, ring.active().version);
  });
}

Exit seal(const Tool& tool, SealOptions& options) {
  const Output out = tool.output();
  options.context.check();
  if (options.as_stream()) return seal_as_stream(tool, options);
  const bool shown = out.json() && !options.target.is_file();
  if (!options.text) options.target.check(out, "an envelope in bytes", "give --text, --output FILE or --force");
  if (options.text && options.target.is_file()) options.target.check(out, "an envelope", "give --output FILE");
  const HostFile host = tool.host();
  const hsmseal::SecretBytes secret = secret_from(options.input);
  return with_ring(host, [&](const hsmseal::KeyRing& ring) {
    const hsmseal::EnvelopeEncryptor vault{ring, options.envelope(host)};
    hsmseal::Bytes sealed;
    std::string text;
    if (options.text || shown) {
      text = vault.seal_text(secret.text(), options.context.view());
      const std::string line = text + "\n";
      sealed.assign(hsmseal::bytes_of(line).begin(), hsmseal::bytes_of(line).end());
    } else {
      sealed = vault.seal(secret.view(), options.context.view());
    }
    if (options.target.is_file()) {
      write_file(options.target.file, sealed, options.target.existing());
      out.document({{"file", options.target.file}, {"bytes", sealed.size()}, {"version", ring.active().version}});
    } else if (shown) {
      out.document({{"envelope", text}, {"version", hsmseal::inspect_text(text).version}});
    } else {
      write_output(sealed);
    }
    return Exit::Success;
  });
}

struct OpenOptions {
  std::string input = "-";
  Target target = {};
  ContextOptions context = {};
  bool stream = false;
};

Exit open_as_stream(const Output& out, OpenOptions& options, const HostFile& host) {
  std::optional<hsmseal::Version> version;
  if (holds_stream(options.input)) version = header_of_stream(options.input).version;
  return with_ring(host, [&](const hsmseal::KeyRing& ring) {
    hsmseal::EnvelopeOptions how;
    how.deadline = host.deadline();
    const hsmseal::EnvelopeEncryptor vault{ring, how};
    const auto pass = [&](const Pieces& put) {
      return open_stream_file(vault, options.input, options.context.view(), put);
    };
    return put_stream(out, options.target, pass, version);
  });
}

Exit open(const Tool& tool, OpenOptions& options) {
  const Output out = tool.output();
  options.context.check();
  if (out.json() && !options.target.is_file()) {
    throw UsageError("a secret is not put into JSON; give --output FILE with --json");
  }
  options.target.check(out, "a secret", "give --output FILE, or --force if nobody looks on");
  const HostFile host = tool.host();
  if (options.stream || holds_stream(options.input)) return open_as_stream(out, options, host);
  const EnvelopeFile file = EnvelopeFile::read(options.input);
  const StoredEnvelope& envelope = file.only();
  return with_ring(host, [&](const hsmseal::KeyRing& ring) {
    hsmseal::EnvelopeOptions how;
    how.deadline = host.deadline();
    const hsmseal::EnvelopeEncryptor vault{ring, how};
    const hsmseal::SecretBytes secret = envelope.open(vault, options.context.view());
    if (options.target.is_file()) {
      write_file(options.target.file, secret.view(), options.target.existing());
      out.document({{"file", options.target.file}, {"bytes", secret.size()}, {"version", envelope.header().version}});
    } else {
      write_output(secret.view());
    }
    return Exit::Success;
  });
}

}  // namespace

void add_seal_and_open(Tool& tool) {
  const auto sealing = std::make_shared<SealOptions>();
  auto* seals = tool.command("seal", "seal a file or the standard input under the ring's active set",
                             [&tool, sealing] { return seal(tool, *sealing); });
  seals->add_option("FILE", sealing->input, "the secret; - is the standard input");
  sealing->target.add_to(*seals);
  sealing->context.add_to(*seals);
  seals->add_flag("-t,--text", sealing->text, "write the text form, one line");
  seals->add_option("--padding", sealing->padding, "hide the secret's size: fill up to a multiple of so many bytes");
  seals->add_flag("--in-token", sealing->in_token, "encrypt in the token itself; small secrets only");
  seals->add_flag("--stream", sealing->stream, "seal in constant memory, as is done with more than 64 MiB");

  const auto opening = std::make_shared<OpenOptions>();
  auto* opens = tool.command("open", "open an envelope, in bytes or in the text form",
                             [&tool, opening] { return open(tool, *opening); });
  opens->add_option("FILE", opening->input, "the envelope; - is the standard input");
  opening->target.add_to(*opens);
  opening->context.add_to(*opens);
  opens->add_flag("--stream", opening->stream, "a stream comes on the standard input; files are looked at");
}

}  // namespace tool
