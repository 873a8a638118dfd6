#include <hsmseal/credential_set.hpp>

#include "core/hex.hpp"

namespace hsmseal {

std::string RingId::to_string() const { return core::to_hex(bytes); }
std::string KekId::to_string() const { return core::to_hex(bytes); }

}  // namespace hsmseal
