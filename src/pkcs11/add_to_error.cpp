#include "pkcs11/add_to_error.hpp"

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"

namespace hsmseal::pkcs11 {
namespace {

TokenFailure failure_of(const TokenError& error) {
  return {error.function(), error.rv(), error.rv_name(), error.retryable()};
}

}  // namespace

void throw_again_with(const std::string& addition) {
  try {
    throw;
  } catch (const WrongKeyError& error) {
    throw WrongKeyError(error.what() + addition);
  } catch (const KeyNotFoundError& error) {
    throw KeyNotFoundError(error.what() + addition);
  } catch (const TokenUnavailableError& error) {
    throw TokenUnavailableError(failure_of(error), error.what() + addition);
  } catch (const TokenLoginError& error) {
    throw TokenLoginError(failure_of(error), error.what() + addition);
  } catch (const TokenError& error) {
    throw TokenError(failure_of(error), error.what() + addition);
  }
}

std::string left_behind(const std::string& label, ByteView id, const std::string& why) {
  return fmt::format("; the new key '{}' (CKA_ID {}) stays in the token, unused: {}; destroy it with its vendor's tool",
                     label, core::to_hex(id), why);
}

}  // namespace hsmseal::pkcs11
