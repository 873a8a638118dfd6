// The operator's tool: looks at drivers, tokens and envelopes. It asks for no PIN and changes nothing.

#include <array>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <hsmseal/envelope_header.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/version.hpp>

namespace {

constexpr int kFailed = 1, kUsage = 2;

std::string hexadecimal(hsmseal::ByteView bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

/// Reads all of a file, or of the standard input.
std::string content_of(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error(fmt::format("cannot read {}", path));
  return content;
}

void list_drivers() {
  const hsmseal::Host host;
  for (const std::string& alias : hsmseal::driver_aliases()) {
    std::string where = "not found at its vendor's default paths";
    try {
      where = host.driver_for({.driver = alias}).library.string();
    } catch (const hsmseal::InvalidArgumentError&) {
      // That is what the line says.
    }
    fmt::print("{}: {}\n", alias, where);
  }
}

void list_tokens(const std::string& driver) {
  const auto module = hsmseal::Pkcs11Module::load(hsmseal::Host{}.driver_for({.driver = driver}));
  const auto info = module->info();
  fmt::print("driver: {} {}.{}, Cryptoki {}.{}\n", info.description, info.library_major, info.library_minor,
             info.cryptoki_major, info.cryptoki_minor);
  const auto tokens = module->tokens();
  for (const auto& token : tokens) {
    fmt::print("token: '{}', serial {}, model {}, of {}\n", token.label, token.serial, token.model, token.manufacturer);
  }
  if (tokens.empty()) throw std::runtime_error("the driver shows no token");
}

void inspect(const std::string& path) {
  std::string content = content_of(path);
  if (hsmseal::is_sealed_text(content)) content.erase(content.find_last_not_of("\r\n") + 1);
  const hsmseal::EnvelopeHeader header =
      hsmseal::is_sealed_text(content) ? hsmseal::inspect_text(content) : hsmseal::inspect(hsmseal::bytes_of(content));
  fmt::print("format: {}\n", header.format);
  fmt::print("suite: {} ({})\n", static_cast<int>(header.suite),
             header.suite == hsmseal::Suite::Token ? "sealed in the token" : "sealed under a data key");
  fmt::print("ring: {}... (the first 4 bytes of its id)\n", hexadecimal(header.ring_prefix));
  fmt::print("credential set: {}\n", header.version);
  fmt::print("secret: {} bytes{}\n", header.secret_bytes, header.padded ? " or less: it is padded" : "");
  fmt::print("nothing of this is authenticated before the envelope is opened\n");
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App tool{"Looks at what hsmseal works with: drivers, tokens and envelopes.", "hsmseal"};
  tool.set_version_flag("--version", fmt::format("hsmseal {}.{}.{}", HSMSEAL_VERSION_MAJOR, HSMSEAL_VERSION_MINOR,
                                                 HSMSEAL_VERSION_PATCH));
  tool.require_subcommand(1);

  tool.add_subcommand("drivers", "list the vendors' drivers, and where they are on this host")->callback(list_drivers);

  std::string driver;
  auto* tokens = tool.add_subcommand("tokens", "list the tokens that a driver shows");
  tokens->add_option("DRIVER", driver, "a vendor's alias, such as softhsm2, or the absolute path of a library")
      ->required();
  tokens->callback([&] { list_tokens(driver); });

  std::string file = "-";
  auto* inspection = tool.add_subcommand("inspect", "show what an envelope says about itself");
  inspection->add_option("FILE", file, "the envelope, in bytes or in its text form; - is the standard input")
      ->capture_default_str();
  inspection->callback([&] { inspect(file); });

  try {
    tool.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return tool.exit(error) == 0 ? 0 : kUsage;
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "hsmseal: {}\n", error.what());
  return kFailed;
}
