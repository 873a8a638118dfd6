// inspect: what an envelope says about itself, without any token.

#include <memory>

#include "command.hpp"
#include "envelope_file.hpp"
#include "stream_file.hpp"
#include "words.hpp"

namespace tool {
namespace {

Exit inspect(const Tool& tool, const std::string& path) {
  const hsmseal::EnvelopeHeader header =
      holds_stream(path) ? header_of_stream(path) : EnvelopeFile::read(path).only().header();
  const Output out = tool.output();
  out.line("format: {}", header.format);
  out.line("suite: {} ({})", static_cast<int>(header.suite), word(header.suite));
  out.line("wrapped with: {}", word(header.algorithm));
  out.line("ring: {}... (the first 4 bytes of its id)", hexadecimal(header.ring_prefix));
  out.line("credential set: {}", header.version);
  out.line("secret: {} bytes{}", header.secret_bytes, header.padded ? " or less: it is padded" : "");
  out.line("nothing of this is authenticated before the envelope is opened");
  out.document({{"format", header.format},
                {"suite", static_cast<int>(header.suite)},
                {"algorithm", word(header.algorithm)},
                {"ring_prefix", hexadecimal(header.ring_prefix)},
                {"version", header.version},
                {"secret_bytes", header.secret_bytes},
                {"padded", header.padded}});
  return Exit::Success;
}

}  // namespace

void add_inspect(Tool& tool) {
  const auto file = std::make_shared<std::string>("-");
  auto* inspection = tool.command("inspect", "show what an envelope says about itself; no token is asked",
                                  [&tool, file] { return inspect(tool, *file); });
  inspection->add_option("FILE", *file, "the envelope, in bytes or in its text form; - is the standard input");
}

}  // namespace tool
