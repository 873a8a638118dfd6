#pragma once

#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <typeinfo>

#include <hsmseal/error.hpp>

#include "support/catch.hpp"

namespace hsmseal::test {

/// Calls, and returns the error thrown; the test fails unless it is an `Expected` itself, not one derived from it.
template <typename Expected, typename Call>
Expected error_of(const Call& call) {
  std::optional<Expected> thrown;
  try {
    static_cast<void>(call());
    FAIL("nothing was thrown");
  } catch (const std::exception& error) {
    INFO("thrown: " << typeid(error).name() << ": " << error.what());
    REQUIRE(typeid(error) == typeid(Expected));
    thrown.emplace(dynamic_cast<const Expected&>(error));
  }
  return *thrown;
}

/// The message of the error thrown.
template <typename Expected, typename Call>
std::string message_of(const Call& call) {
  return error_of<Expected>(call).what();
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace hsmseal::test

/// Checks that a message has a part, and shows both if it has not.
#define CHECK_NAMES(message, part)                                 \
  do {                                                             \
    const std::string checked_message = (message);                 \
    const std::string checked_part = (part);                       \
    CAPTURE(checked_message, checked_part);                        \
    CHECK(hsmseal::test::contains(checked_message, checked_part)); \
  } while (false)
