#include "output.hpp"

#include "system.hpp"
#include "voice.hpp"

namespace tool {

void Output::document(const Json& value) const {
  // A driver's text may be anything; it must not keep the rest from being read.
  if (json()) put(value.dump(2, ' ', false, Json::error_handler_t::replace));
}

void Output::put(const std::string& line) { write_output(hsmseal::bytes_of(line + "\n")); }

void note(const std::string& text) { fmt::print(stderr, "hsmseal: {}\n", for_operators(text)); }

}  // namespace tool
