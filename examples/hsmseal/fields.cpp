#include "fields.hpp"

#include <utility>

#include <fmt/ranges.h>

#include "failure.hpp"

namespace tool {

Fields::Fields(std::string file, std::string where, const Json& object)
    : file_(std::move(file)), where_(std::move(where)), object_(object) {
  if (!object_.is_object()) {
    throw UsageError(fmt::format("host file '{}': {} must be an object in braces", file_,
                                 where_.empty() ? "the whole" : fmt::format("'{}'", where_)));
  }
}

std::string Fields::name_of(const std::string& field) const { return where_.empty() ? field : where_ + "." + field; }

void Fields::refuse(const std::string& field, const std::string& what) const {
  throw UsageError(fmt::format("host file '{}': field '{}' {}", file_, name_of(field), what));
}

const Json* Fields::find(const std::string& field) {
  asked_.insert(field);
  const auto found = object_.find(field);
  return found == object_.end() ? nullptr : &*found;
}

std::optional<std::string> Fields::text(const std::string& field) {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string() || value->get<std::string>().empty()) refuse(field, "must be a text in quotes, not empty");
  return value->get<std::string>();
}

std::optional<std::uint64_t> Fields::number(const std::string& field) {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_unsigned()) refuse(field, "must be a whole number of 0 or more");
  return value->get<std::uint64_t>();
}

std::optional<bool> Fields::flag(const std::string& field) {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(field, "must be true or false");
  return value->get<bool>();
}

std::map<std::string, std::string> Fields::texts(const std::string& field) {
  std::map<std::string, std::string> result;
  const Json* value = find(field);
  if (value == nullptr) return result;
  if (!value->is_object()) refuse(field, "must be an object of texts");
  for (const auto& [name, text] : value->items()) {
    if (!text.is_string()) refuse(field + "." + name, "must be a text in quotes");
    result.emplace(name, text.get<std::string>());
  }
  return result;
}

Fields Fields::object(const std::string& field) {
  const Json* value = find(field);
  if (value == nullptr) refuse(field, "is missing");
  return {file_, name_of(field), *value};
}

void Fields::done() const {
  for (const auto& [name, value] : object_.items()) {
    if (!asked_.contains(name)) {
      refuse(name, fmt::format("is unknown; use one of {}", fmt::join(asked_, ", ")));
    }
  }
}

Json parse_json(const std::string& file, const std::string& text) {
  std::vector<std::set<std::string>> open_objects;
  const auto no_field_twice = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key && !open_objects.back().insert(parsed.get<std::string>()).second) {
      throw UsageError(fmt::format("host file '{}': field '{}' stands twice", file, parsed.get<std::string>()));
    }
    return true;
  };
  try {
    return Json::parse(text, no_field_twice);
  } catch (const Json::parse_error& error) {
    std::size_t line = 1, column = 1;
    for (const char c : text.substr(0, error.byte == 0 ? 0 : error.byte - 1)) {
      ++column;
      if (c == '\n') ++line, column = 1;
    }
    throw UsageError(
        fmt::format("host file '{}' is not JSON: something is wrong at line {}, column {}", file, line, column));
  }
}

}  // namespace tool
