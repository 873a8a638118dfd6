#include <string>

#include <nlohmann/json.hpp>

#include "keywrap/utf8.hpp"
#include "support/catch.hpp"

using hsmseal::keywrap::is_utf8;

namespace {

bool json_takes(const std::string& text) {
  try {
    return !nlohmann::json(text).dump().empty();
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

}  // namespace

TEST_CASE("what counts as UTF-8 is what the record's JSON takes") {
  // Every first two bytes, alone and with what may follow.
  std::size_t taken = 0, refused = 0;
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      for (const char* rest : {"", "\x80", "\xbf\x80", "\x80\xc0", "z"}) {
        const std::string text = std::string{static_cast<char>(first), static_cast<char>(second)} + rest;
        const bool expected = json_takes(text);
        if (is_utf8(text) != expected) FAIL_CHECK(first << " " << second << " and " << std::string(rest).size());
        ++(expected ? taken : refused);
      }
    }
  }
  CHECK(taken > 10'000);
  CHECK(refused > 10'000);
  CHECK(is_utf8(""));
  CHECK(is_utf8("Schlüssel \xf0\x9f\x94\x91"));
}
