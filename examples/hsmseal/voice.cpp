#include "voice.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace tool {

std::string for_operators(std::string message) {
  using Pair = std::pair<std::string_view, std::string_view>;
  static constexpr std::array<Pair, 12> kCommands = {{
      {"open it with RingPin::trust_first_use(), which makes the file", "run hsmseal ring verify --trust-first-use"},
      {"RingPin::trust_first_use()", "hsmseal ring verify --trust-first-use"},
      {"RingPin::accept_rollback()", "hsmseal ring verify --accept-rollback"},
      {"open that with KeyRing::open(), or give the new ring a pin of its own",
       "use that, or name another ring_pin in the host file"},
      {"KeyRing::restore()", "hsmseal ring restore"},
      {"KeyRing::import_from()", "hsmseal ring import"},
      {"KeyRing::open()", "the ring that is there"},
      {"use reseal() with its context", "use hsmseal reseal with its context"},
      {"LowPinCount::TryOnce", "\"low_pin_count\": \"try-once\" in the host file"},
      {"see hsmseal/sql_ring_store.hpp", "correct \"store\" in the host file"},
      {"add it with Host::token()", "name it in the host file"},
      {"accept it by name in AdoptionPolicy if that is meant", "if that is meant, accept each with --accept"},
  }};
  for (const auto& [function, command] : kCommands) {
    for (auto at = message.find(function); at != std::string::npos; at = message.find(function, at + command.size())) {
      message.replace(at, function.size(), command);
    }
  }
  return message;
}

}  // namespace tool
