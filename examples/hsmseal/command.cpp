#include "command.hpp"

#include <cctype>
#include <exception>

#include <hsmseal/version.hpp>

#include "system.hpp"
#include "voice.hpp"

namespace tool {
namespace {

/// CLI11's words in the voice of the rest.
std::string voice(std::string text) {
  while (!text.empty() && (text.back() == '.' || std::isspace(static_cast<unsigned char>(text.back())) != 0)) {
    text.pop_back();
  }
  const bool is_word = text.size() > 1 && (text[1] == ' ' || std::islower(static_cast<unsigned char>(text[1])) != 0);
  if (is_word) text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

}  // namespace

Tool::Tool() : app_{"Manages a ring of HSM keys, and seals and opens secrets under it.", "hsmseal"} {
  app_.set_version_flag("--version", fmt::format("hsmseal {}.{}.{}", HSMSEAL_VERSION_MAJOR, HSMSEAL_VERSION_MINOR,
                                                 HSMSEAL_VERSION_PATCH));
  app_.require_subcommand(1);
  app_.fallthrough();
  app_.add_flag("--json", json_, "print one JSON document instead of lines for people");
  app_.add_option("--host", host_, "the host file; otherwise HSMSEAL_HOST, or hsmseal.json here");
  app_.footer(exit_code_table());
}

CLI::App* Tool::command(CLI::App* parent, const std::string& name, const std::string& description, Action action) {
  CLI::App* added = parent->add_subcommand(name, description);
  added->callback([this, action = std::move(action)] { chosen_ = action; });
  return added;
}

CLI::App* Tool::group(const std::string& name, const std::string& description) {
  CLI::App* added = app_.add_subcommand(name, description);
  added->require_subcommand(1);
  return added;
}

std::string Tool::host_path() const {
  if (!host_.empty()) return host_;
  const std::string from_environment = environment("HSMSEAL_HOST");
  return from_environment.empty() ? "hsmseal.json" : from_environment;
}

int Tool::run(int argc, char** argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return app_.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    const auto unknown = app_.remaining();
    const bool no_command = app_.get_subcommands().empty() && !unknown.empty();
    return fail((no_command ? fmt::format("there is no command '{}'", unknown.front()) : voice(error.what())) +
                    "; see hsmseal --help",
                Exit::Usage);
  }
  try {
    return static_cast<int>(chosen_());
  } catch (const std::exception& error) {
    return fail(error.what(), exit_code_of(error));
  }
}

int Tool::fail(const std::string& message, Exit code) const {
  note(message);
  output().document({{"error", {{"message", for_operators(message)}, {"exit", static_cast<int>(code)}}}});
  return static_cast<int>(code);
}

}  // namespace tool
