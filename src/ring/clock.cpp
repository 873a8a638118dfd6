#include <hsmseal/ring_options.hpp>

#include "platform/platform.hpp"

namespace hsmseal {

std::chrono::steady_clock::time_point time_since_boot() { return platform::time_since_boot(); }

}  // namespace hsmseal
