#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "platform/platform.hpp"

namespace hsmseal::sql {

/// A T that belongs to the process that made it: a forked child leaves its parent's alone, and makes one of its own.
///
/// The child has a copy of the parent's T, which is lost on purpose: to destroy it could end the parent's session with a
/// server, wait for a thread that is not in the child, or for a mutex that was locked when the process was forked.
///
/// Thread safety: get() may run concurrently.
template <typename T>
class OfProcess {
 public:
  OfProcess() = default;
  OfProcess(const OfProcess&) = delete;
  OfProcess& operator=(const OfProcess&) = delete;
  ~OfProcess() {
    std::unique_ptr<Owned> last{owned_.load()};
    if (last && last->forks != platform::forks()) leave(last.release());
  }

  /// @param make  makes it if there is none; takes the parent's as a const pointer, which may be null.
  template <typename Make>
  [[nodiscard]] T& get(const Make& make) {
    const std::uint64_t forks = platform::forks();
    Owned* found = owned_.load();
    if (found != nullptr && found->forks == forks) return found->value;
    const T* const parents = found != nullptr ? &found->value : nullptr;
    std::unique_ptr<Owned> made{new Owned{forks, nullptr, make(parents)}};
    if (!owned_.compare_exchange_strong(found, made.get())) return found->value;  // another thread was first
    if (found != nullptr) leave(found);
    return made.release()->value;
  }

 private:
  struct Owned {
    std::uint64_t forks;
    Owned* next;
    T value;
  };

  /// Keeps what is left where checkers of leaks find it.
  static void leave(Owned* parents) noexcept {
    parents->next = left.load();
    while (!left.compare_exchange_weak(parents->next, parents)) {
    }
  }

  inline static std::atomic<Owned*> left = nullptr;
  std::atomic<Owned*> owned_ = nullptr;
};

}  // namespace hsmseal::sql
