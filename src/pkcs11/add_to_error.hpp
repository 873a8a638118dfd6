#pragma once

#include <string>

#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::pkcs11 {

/// Throws the error that is being handled once more, of the same class, with something added to its message. Errors that
/// are not about tokens and keys are thrown as they are.
[[noreturn]] void throw_again_with(const std::string& addition);

/// What to add when a new key that is not used could not be destroyed again.
[[nodiscard]] std::string left_behind(const std::string& label, ByteView id, const std::string& why);

}  // namespace hsmseal::pkcs11
