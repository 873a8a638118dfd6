#include "faultyhsm/directives.hpp"

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace faulty {
namespace {

struct Directive {
  std::string_view word;
  std::string_view numbers;
  std::string_view arguments;
  unsigned long times;
};

constexpr Directive kTable[] = {
#define FAULTYHSM_ROW(id, word, numbers, arguments, times) {word, numbers, arguments, times},
    FAULTYHSM_DIRECTIVES(FAULTYHSM_ROW)
#undef FAULTYHSM_ROW
};

/// Words between blanks, to the end or a '#'; quotes keep blanks together.
std::vector<std::string> words_of(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\r\n";
  std::vector<std::string> words;
  for (std::size_t at = 0;;) {
    at = line.find_first_not_of(kBlanks, at);
    if (at == std::string_view::npos || line[at] == '#') return words;
    const bool quoted = line[at] == '"';
    if (quoted) ++at;
    const auto end = std::min(line.find_first_of(quoted ? "\"" : kBlanks, at), line.size());
    words.emplace_back(line.substr(at, end - at));
    at = std::min(end + (quoted ? 1 : 0), line.size());
  }
}

std::optional<unsigned long> place_among(std::string_view choices, std::string_view word) {
  for (unsigned long place = 0; !choices.empty(); ++place) {
    const auto end = std::min(choices.find('|'), choices.size());
    if (choices.substr(0, end) == word) return place;
    choices.remove_prefix(std::min(end + 1, choices.size()));
  }
  return std::nullopt;
}

/// Reads one argument. @returns whether it is what the table says.
bool read_argument(std::string_view kind, const std::string& word, unsigned long& number, std::string& text) {
  text = word;
  if (kind == "text") return true;
  const bool is_value = kind == "number" || kind == "rv" || kind == "attribute" || kind == "mechanism";
  const auto value = is_value ? value_of(word) : place_among(kind, word);
  if (!value) return false;
  number = *value;
  return true;
}

/// Whether a number with a name of its own follows: "times=3".
bool read_option(const std::string& word, Trigger::Setting& setting) {
  const auto equals = word.find('=');
  if (equals == std::string::npos) return false;
  const std::string name = word.substr(0, equals);
  const std::string value = word.substr(equals + 1);
  if (name == "p") {
    char* end = nullptr;
    setting.probability = std::strtod(value.c_str(), &end);
    return !value.empty() && *end == '\0' && setting.probability >= 0 && setting.probability <= 1;
  }
  if (name == "in") {
    const auto index = index_of(std::string_view(value));
    if (index) setting.in = static_cast<Function>(*index);
    return index.has_value();
  }
  if (name == "session" && value == "anchor") return setting.anchor = true;
  const auto number = value_of(value);
  if (!number) return false;
  if (name == "times")
    setting.times = *number;
  else if (name == "skip")
    setting.skip = *number;
  else if (name == "seed")
    setting.seed = *number;
  else if (name == "session")
    setting.session = *number;
  else if (name == "after")
    setting.after = std::chrono::milliseconds(*number);
  else if (name == "for")
    setting.lasts = std::chrono::milliseconds(*number);
  else
    return false;
  return true;
}

std::optional<std::size_t> find_directive(std::string_view word) {
  for (std::size_t i = 0; i < std::size(kTable); ++i) {
    if (kTable[i].word == word) return i;
  }
  return std::nullopt;
}

/// The words behind the directive's own, and behind its function.
std::optional<Trigger::Setting> read_setting(const Directive& directive, const std::vector<std::string>& words,
                                             std::size_t next) {
  Trigger::Setting setting;
  if (directive.times != 0) setting.times = directive.times;
  const auto kinds = words_of(directive.arguments);
  std::size_t place = 0;
  for (std::string kind : kinds) {
    if (kind == "function") continue;
    const bool optional = kind.back() == '?';
    if (optional) kind.pop_back();
    const bool given = next < words.size() && words[next].find('=') == std::string::npos;
    if (!given && optional) continue;
    if (!given || !read_argument(kind, words[next], setting.numbers.at(place), setting.texts.at(place))) return {};
    ++next;
    ++place;
  }
  for (; next < words.size(); ++next) {
    if (!read_option(words[next], setting)) return std::nullopt;
  }
  return setting;
}

Applied apply_to(std::size_t place, const std::vector<std::string>& words) {
  const auto& directive = kTable[place];
  const auto fault = static_cast<Fault>(place);
  std::size_t next = 1;
  std::size_t function = 0;
  if (directive.arguments.starts_with("function")) {
    if (words.size() < 2) return Applied::BadArgument;
    const auto index = words[1] == "*" ? kFunctions : index_of(std::string_view(words[1]));
    if (!index) return Applied::BadArgument;
    function = *index;
    next = 2;
  }
  if (words.size() == next + 1 && words[next] == "off") {
    trigger_at(place, function).disarm();
    lose_effect(fault, function);
    return Applied::Done;
  }
  const auto setting = read_setting(directive, words, next);
  if (!setting) return Applied::BadArgument;
  trigger_at(place, function).arm(*setting);
  take_effect(fault, function);
  return Applied::Done;
}

}  // namespace

Applied apply(std::string_view line) {
  const auto words = words_of(line);
  if (words.empty()) return Applied::Done;
  if (words[0] == "clear" || words[0] == "release") {
    if (words.size() != 1) return Applied::BadArgument;
    if (words[0] == "release") {
      release_hanging();
    } else {
      for (std::size_t place = 0; place < std::size(kTable); ++place) {
        if (!kTable[place].arguments.starts_with("function")) lose_effect(static_cast<Fault>(place), 0);
      }
      for (std::size_t function = 0; function < kFunctions; ++function) lose_effect(Fault::Missing, function);
      clear();
    }
    return Applied::Done;
  }
  const auto place = find_directive(words[0]);
  return place ? apply_to(*place, words) : Applied::UnknownDirective;
}

std::optional<unsigned long> fired(std::string_view name) {
  if (const auto place = find_directive(name)) return fired_of(*place);
  std::optional<unsigned long> sum;
  for (std::size_t place = 0; place < std::size(kTable); ++place) {
    const auto numbers = words_of(kTable[place].numbers);
    if (std::find(numbers.begin(), numbers.end(), name) != numbers.end()) sum = sum.value_or(0) + fired_of(place);
  }
  return sum;
}

}  // namespace faulty
