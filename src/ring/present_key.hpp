#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::ring {

/// The key that a ring has now, for what must not keep the ring itself alive: its observers, which the ring keeps.
///
/// Thread safety: all members may run concurrently.
class PresentKey {
 public:
  struct Key {
    RingId ring;
    std::uint64_t number = 0;                ///< how many keys the ring had before
    std::shared_ptr<const SecretBytes> key;  ///< null: the ring was opened for salvage
  };

  void set(Key key) {
    const std::scoped_lock lock{mutex_};
    key_ = std::move(key);
  }
  [[nodiscard]] Key get() const {
    const std::scoped_lock lock{mutex_};
    return key_;
  }

 private:
  mutable std::mutex mutex_;
  Key key_;
};

}  // namespace hsmseal::ring
