#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "pkcs11/cryptoki.hpp"

namespace hsmseal::pkcs11 {

/// Which session handles of one driver are held by whom. A number that the driver gives out again belongs to a session
/// that died without anybody being told: who holds it must neither use nor close it any more.
///
/// Thread safety: all members may run concurrently.
class OpenSessions {
 public:
  /// Set once the handle belongs to a later session.
  using Lost = std::shared_ptr<std::atomic<bool>>;

  [[nodiscard]] Lost opened(CK_SESSION_HANDLE handle) {
    auto lost = std::make_shared<std::atomic<bool>>(false);
    const std::scoped_lock lock{mutex_};
    auto& holder = holders_[handle];
    if (holder) *holder = true;
    holder = lost;
    return lost;
  }

  void closed(CK_SESSION_HANDLE handle, const Lost& lost) noexcept {
    const std::scoped_lock lock{mutex_};
    const auto found = holders_.find(handle);
    if (found != holders_.end() && found->second == lost) holders_.erase(found);
  }

  void forget_all() noexcept {
    const std::scoped_lock lock{mutex_};
    holders_.clear();
  }

 private:
  std::mutex mutex_;
  std::map<CK_SESSION_HANDLE, Lost> holders_;
};

}  // namespace hsmseal::pkcs11
