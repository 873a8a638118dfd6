// A process that starts a SoftHSM, logs in and looks for keys, at the moment it is told to:
//
//   token_start PIN_FILE make      makes a key in the token 'start'
//   token_start PIN_FILE find      says a byte when it is ready, waits for the end of its input, then finds that key
//
// SOFTHSM2_CONF tells where the token is.

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>

#include <unistd.h>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

namespace {

using namespace hsmseal;

constexpr const char* kToken = "start";

void wait_for_all() {
  char byte = '.';
  if (::write(STDOUT_FILENO, &byte, 1) != 1) throw std::runtime_error("nobody wants to know that this is ready");
  while (::read(STDIN_FILENO, &byte, 1) > 0) continue;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view action = count == 3 ? arguments[2] : "";
  if (action != "make" && action != "find") return 2;
  try {
    Host host;
    host.token(kToken, {.driver = "softhsm2", .select = {.label = kToken}, .pin = PinSource::file(arguments[1])});
    if (action == "make") {
      static_cast<void>(pkcs11_provider(host)->provision({.token = kToken}, {}, 1));
      return 0;
    }
    wait_for_all();
    const auto keys = pkcs11_provider(host)->find_keys({}, kToken);
    if (keys.size() == 1) return 0;
    fmt::print(stderr, "{} keys instead of one\n", keys.size());
  } catch (const TokenError& error) {
    fmt::print(stderr, "{} {}: {}\n", error.function(), error.rv_name(), error.what());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
  }
  return 1;
}
