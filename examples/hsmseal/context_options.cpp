#include "context_options.hpp"

#include <fmt/format.h>

#include "failure.hpp"

namespace tool {

void ContextOptions::add_to(CLI::App& command) {
  auto* given =
      command
          .add_option("--context", pairs_,
                      "a name and its value that the envelope is bound to, such as record=42; may be repeated")
          ->type_name("NAME=VALUE")
          ->allow_extra_args(false);
  command.add_flag("--no-context", none_, "bind the envelope to nothing: it then opens in any place")->excludes(given);
}

void ContextOptions::check() {
  if (pairs_.empty() == !none_) {
    throw UsageError("say what the envelope is bound to: --context record=42, say, or --no-context");
  }
  for (const std::string& pair : pairs_) {
    const auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError(fmt::format("--context '{}' is no NAME=VALUE, such as record=42", pair));
    }
    context_.add(pair.substr(0, equals), pair.substr(equals + 1));
  }
}

hsmseal::ContextView ContextOptions::view() const {
  return none_ ? hsmseal::ContextView{hsmseal::kNoContext} : hsmseal::ContextView{context_};
}

}  // namespace tool
