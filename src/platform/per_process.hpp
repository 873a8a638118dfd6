#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "platform/platform.hpp"

namespace hsmseal::platform {

/// An object of which a forked child gets one of its own.
///
/// What the child inherits is left alone, not even destroyed: its locks may be held by threads that the child does not
/// have, and its sessions and connections are the parent's.
///
/// Thread safety: all members may run concurrently.
template <typename Value>
class PerProcess {
 public:
  explicit PerProcess(std::unique_ptr<Value> value) : current_(new Held{forks(), std::move(value)}) {}
  PerProcess(const PerProcess&) = delete;
  PerProcess& operator=(const PerProcess&) = delete;
  ~PerProcess() {
    Held* const held = current_;
    if (held->forks == forks()) delete held;
  }

  /// Whether what is held was made before this process was forked.
  [[nodiscard]] bool inherited() const noexcept { return current_.load()->forks != forks(); }

  /// @param make  what makes a new one, as a unique_ptr, from the inherited one.
  template <typename Make>
  [[nodiscard]] Value& get(const Make& make) {
    Held* held = current_;
    while (held->forks != forks()) {
      auto mine = std::make_unique<Held>(Held{forks(), make(*held->value)});
      if (current_.compare_exchange_strong(held, mine.get())) held = mine.release();
    }
    return *held->value;
  }

 private:
  struct Held {
    std::uint64_t forks;
    std::unique_ptr<Value> value;
  };
  std::atomic<Held*> current_;
};

}  // namespace hsmseal::platform
