#include "findings.hpp"

#include "voice.hpp"

namespace tool {
namespace {

std::string_view name_of(Findings::Level level) {
  switch (level) {
    case Findings::Level::Good:
      return "ok";
    case Findings::Level::Note:
      return "note";
    case Findings::Level::Problem:
      break;
  }
  return "problem";
}

}  // namespace

Told split(const std::string& message) {
  const std::string told = for_operators(message);
  const auto at = told.rfind("; ");
  return at == std::string::npos ? Told{told, ""} : Told{told.substr(0, at), told.substr(at + 2)};
}

void Findings::problem(const std::string& subject, const std::exception& error, const std::string& otherwise) {
  const Told told = split(error.what());
  add(Level::Problem, subject, told.what, told.cure.empty() ? otherwise : told.cure);
}

void Findings::add(Level level, const std::string& subject, const std::string& what, const std::string& cure) {
  if (level == Level::Problem) ++problems_;
  if (level != Level::Good || good_too_) {
    out_.line("{:8} {}: {}", name_of(level), subject, what);
    if (!cure.empty()) out_.line("{:8} cure: {}", "", cure);
  }
  Json one = {{"level", name_of(level)}, {"subject", subject}, {"what", what}};
  if (!cure.empty()) one["cure"] = cure;
  document_.push_back(std::move(one));
}

}  // namespace tool
