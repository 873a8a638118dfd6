#include "platform/platform.hpp"

namespace hsmseal::platform {

std::uint64_t forks() noexcept { return 0; }

}  // namespace hsmseal::platform
