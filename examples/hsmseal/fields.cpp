#include "fields.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <string_view>
#include <utility>

#include <fmt/ranges.h>

#include "failure.hpp"

namespace tool {
namespace {

/// How many letters must be put in, taken out or exchanged to make one word of the other, in lower case (Levenshtein).
std::size_t distance(std::string_view from, std::string_view to) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < to.size(); ++j) {
      const std::size_t exchanged = diagonal + (lower(from[i]) == lower(to[j]) ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({exchanged, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row.back();
}

}  // namespace

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
    if (!text.is_string()) refuse(fmt::format("{}.{}", field, name), "must be a text in quotes");
    result.emplace(name, text.get<std::string>());
  }
  return result;
}

Fields Fields::object(const std::string& field) {
  const Json* value = find(field);
  if (value == nullptr) refuse_missing(field);
  return {file_, name_of(field), *value};
}

void Fields::refuse_missing(const std::string& field, const std::string& cure) const {
  constexpr std::size_t kMisspelt = 2;  // no two fields of one object are as close as that
  for (const auto& [name, value] : object_.items()) {
    if (!asked_.contains(name) && distance(name, field) <= kMisspelt) {
      refuse(name, fmt::format("is unknown, and '{0}' is missing; write '{0}' if that is meant", field));
    }
  }
  refuse(field, "is missing" + cure);
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
