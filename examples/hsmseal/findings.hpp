#pragma once

#include <exception>
#include <string>
#include <vector>

#include "output.hpp"

namespace tool {

/// A message of the library in two: what is wrong, and what stands behind its last semicolon, which is the cure.
struct Told {
  std::string what, cure;
};
[[nodiscard]] Told split(const std::string& message);

/// What doctor finds: told at once, and kept for JSON.
class Findings {
 public:
  enum class Level { Good, Note, Problem };

  /// @param good_too  whether people are told of what is well.
  explicit Findings(const Output& out, bool good_too = true) : out_(out), good_too_(good_too) {}

  void good(const std::string& subject, const std::string& what) { add(Level::Good, subject, what, ""); }
  void note(const std::string& subject, const std::string& what, const std::string& cure) {
    add(Level::Note, subject, what, cure);
  }
  void problem(const std::string& subject, const std::string& what, const std::string& cure) {
    add(Level::Problem, subject, what, cure);
  }
  /// A problem as an exception tells it, with the cure that it names, or else this one.
  void problem(const std::string& subject, const std::exception& error, const std::string& otherwise);

  [[nodiscard]] std::size_t problems() const { return problems_; }
  [[nodiscard]] const Json& document() const { return document_; }

 private:
  void add(Level level, const std::string& subject, const std::string& what, const std::string& cure);

  const Output& out_;
  bool good_too_;
  std::size_t problems_ = 0;
  Json document_ = Json::array();
};

}  // namespace tool
