#pragma once

#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace tool {

/// Fields stand in the order in which they were put in.
using Json = nlohmann::ordered_json;

enum class Format { Lines, Document };

/// What a command says on the standard output: lines for people or one JSON document, never both.
class Output {
 public:
  explicit Output(Format format) : format_(format) {}

  [[nodiscard]] bool json() const { return format_ == Format::Document; }

  /// A line for people.
  template <typename... Arguments>
  void line(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
    if (!json()) put(fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  /// The document; at most once.
  void document(const Json& value) const;

 private:
  static void put(const std::string& line);
  Format format_;
};

/// A line on the standard error that is neither result nor error.
void note(const std::string& text);

}  // namespace tool
