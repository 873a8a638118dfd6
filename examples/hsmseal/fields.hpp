#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "output.hpp"

namespace tool {

/// The fields of one JSON object of a file. Every message names the file and the field; a field that nobody asked for
/// is refused at the end, so that a misspelt one is not silently without effect.
class Fields {
 public:
  /// @param where  for messages: empty for the whole file, or a path such as `tokens.hsm1`.
  /// @throws UsageError  it is not an object.
  Fields(std::string file, std::string where, const Json& object);

  [[nodiscard]] std::string name_of(const std::string& field) const;
  [[nodiscard]] bool has(const std::string& field) const { return object_.contains(field); }
  [[nodiscard]] const Json* find(const std::string& field);
  [[nodiscard]] std::optional<std::string> text(const std::string& field);
  [[nodiscard]] std::optional<std::uint64_t> number(const std::string& field);
  [[nodiscard]] std::optional<bool> flag(const std::string& field);
  [[nodiscard]] std::map<std::string, std::string> texts(const std::string& field);
  /// One of some words.
  template <typename Value>
  Value word(const std::string& field, Value otherwise, const std::map<std::string, Value>& words) {
    const auto given = text(field);
    if (!given) return otherwise;
    const auto found = words.find(*given);
    if (found != words.end()) return found->second;
    std::vector<std::string> names;
    for (const auto& [name, value] : words) names.push_back(name);
    refuse(field, fmt::format("is none of {}", fmt::join(names, ", ")));
  }
  [[nodiscard]] Fields object(const std::string& field);
  /// Refuses because of a field that must be there; one that looks like it, misspelt, is named instead.
  /// @param cure  behind a semicolon, or nothing.
  [[noreturn]] void refuse_missing(const std::string& field, const std::string& cure = "") const;

  /// @throws UsageError  there is a field that was not asked for.
  void done() const;
  [[noreturn]] void refuse(const std::string& field, const std::string& what) const;

 private:
  std::string file_, where_;
  const Json& object_;
  std::set<std::string> asked_;
};

/// Parses a file's text.
/// @throws UsageError  with line and column; also for a field that stands twice.
[[nodiscard]] Json parse_json(const std::string& file, const std::string& text);

}  // namespace tool
