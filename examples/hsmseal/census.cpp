#include "census.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "envelope_file.hpp"
#include "failure.hpp"
#include "system.hpp"

namespace tool {
namespace {

std::uint64_t count_in_files(const std::vector<std::string>& files, const hsmseal::RingId& ring,
                             hsmseal::Version version) {
  std::uint64_t looked_at = 0, found = 0;
  for (const std::string& file : files) {
    const EnvelopeFile content = EnvelopeFile::read(file);
    for (const StoredEnvelope& envelope : content.envelopes()) {
      const hsmseal::EnvelopeHeader header = envelope.header();
      ++looked_at;
      const bool of_ring = std::ranges::equal(header.ring_prefix, std::span{ring.bytes}.first<4>());
      if (of_ring && header.version == version) ++found;
    }
  }
  // An empty census is more likely a wrong file than an application without secrets.
  if (looked_at == 0) {
    throw UsageError(
        "the census files hold no envelope at all; give those where the application keeps its envelopes, "
        "or a --census-command");
  }
  return found;
}

std::uint64_t number_from_command(const std::string& command, hsmseal::Version version) {
  set_environment("HSMSEAL_VERSION", std::to_string(version));
  std::string output = output_of_command(command);
  output.erase(output.find_last_not_of(" \t\r\n") + 1);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(output.data(), output.data() + output.size(), number);
  if (error != std::errc{} || end != output.data() + output.size()) {
    throw Failure(Exit::Failed, "the census command did not print a number and nothing else; nothing was changed");
  }
  return number;
}

}  // namespace

void CensusOptions::add_to(CLI::App& command_line) {
  auto* of_files =
      command_line
          .add_option("--census", files, "count the envelopes in these files: one in bytes, or one on each line")
          ->type_name("FILE...");
  command_line
      .add_option("--census-command", command,
                  "ask a shell command, which finds the version in HSMSEAL_VERSION and prints the number of envelopes")
      ->type_name("COMMAND")
      ->excludes(of_files);
}

hsmseal::Census CensusOptions::census(const hsmseal::RingId& ring) const {
  if (!given()) {
    throw UsageError(
        "a census is needed, so that no envelope is lost; give --census FILE... or --census-command COMMAND");
  }
  return [options = *this, ring](hsmseal::Version version) {
    return options.files.empty() ? number_from_command(options.command, version)
                                 : count_in_files(options.files, ring, version);
  };
}

}  // namespace tool
