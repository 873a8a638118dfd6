#pragma once

#include <cstddef>

namespace bench {

/// Encrypts so many buffers of 64 KiB with Botan's AES-256-GCM and nothing else, in place, each with a nonce of its own.
/// Each thread has one cipher and one buffer.
/// @returns how many seconds it took.
[[nodiscard]] double seconds_of_botan(std::size_t buffers, std::size_t threads);

}  // namespace bench
