#include <hsmseal/pin_source.hpp>

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/token_binding.hpp>

#include "platform/platform.hpp"

namespace hsmseal {
namespace {

constexpr std::size_t kMaxPinFileBytes = 4096;

void keep_first_line(SecretBytes& content) {
  const std::string_view text = content.text();
  std::size_t end = std::min(text.find('\n'), text.size());
  if (end > 0 && text[end - 1] == '\r') --end;
  content.truncate(end);
}

}  // namespace

PinSource PinSource::file(std::filesystem::path path) {
  std::error_code error;
  path = std::filesystem::absolute(path, error);
  if (error || path.empty()) throw InvalidArgumentError("a PIN file needs the path of a file");
  return {Kind::Pin, [path = std::move(path)](const TokenSelector&) {
            SecretBytes pin = platform::read_private_file(path, kMaxPinFileBytes);
            keep_first_line(pin);
            if (pin.empty()) throw InvalidArgumentError(fmt::format("PIN file '{}' is empty", platform::shown(path)));
            return pin;
          }};
}

PinSource PinSource::environment(std::string name) {
  return {Kind::Pin, [name = std::move(name)](const TokenSelector&) {
            SecretBytes pin = platform::environment_variable(name);
            if (pin.empty()) throw InvalidArgumentError(fmt::format("environment variable '{}' holds no PIN", name));
            return pin;
          }};
}

PinSource PinSource::callback(Callback ask) {
  if (!ask) throw InvalidArgumentError("a PIN callback must be given");
  return {Kind::Pin, [ask = std::move(ask)](const TokenSelector& token) {
            SecretBytes pin = ask(token);
            if (pin.empty()) throw InvalidArgumentError("the PIN callback returned no PIN for " + token.describe());
            return pin;
          }};
}

PinSource PinSource::none() { return {Kind::None, nullptr}; }

PinSource PinSource::protected_path() { return {Kind::ProtectedPath, nullptr}; }

SecretBytes PinSource::read(const TokenSelector& token) const {
  if (!read_) throw InvalidArgumentError("this PIN source has no PIN to read");
  return read_(token);
}

}  // namespace hsmseal
