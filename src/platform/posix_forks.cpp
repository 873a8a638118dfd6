#include <atomic>

#include <pthread.h>

#include "platform/platform.hpp"

namespace hsmseal::platform {
namespace {

constinit std::atomic<std::uint64_t> count{0};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Runs when the library is loaded, so that no fork is missed. The handler does nothing else: other threads of the parent
/// may have held any lock, malloc's among them.
[[maybe_unused]] const int registered =
    ::pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

std::uint64_t forks() noexcept { return count.load(std::memory_order_relaxed); }

}  // namespace hsmseal::platform
