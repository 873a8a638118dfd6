#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

namespace hsmseal::pkcs11 {

/// Which key handles of one driver hsmseal has destroyed in this process, and when: drivers may give the number of a
/// destroyed key to the next one that is made, and a wrapper that remembers it must not use that one.
///
/// Thread safety: all members may run concurrently.
class Destructions {
 public:
  /// How many there were. Noted before a key is looked for.
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

  /// Whether a key with this handle was destroyed after there had been `count`. Handles are not told apart by token.
  [[nodiscard]] bool happened_to(std::uint64_t handle, std::uint64_t after_count) const {
    if (count_ == after_count) return false;
    const std::scoped_lock lock{mutex_};
    const auto found = last_.find(handle);
    return found != last_.end() && found->second > after_count;
  }

  void add(std::uint64_t handle) {
    const std::scoped_lock lock{mutex_};
    last_[handle] = count_ + 1;
    ++count_;  // last: who reads the new count finds the handle
  }

 private:
  std::atomic<std::uint64_t> count_ = 0;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> last_;
};

}  // namespace hsmseal::pkcs11
