#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include <hsmseal/pkcs11_session.hpp>

#include "pkcs11/driver.hpp"

namespace hsmseal::pkcs11 {

/// Whether key handles that are found from now on still stand for the same keys. Drivers number objects anew when they
/// are restarted and at each login, and give the numbers of destroyed ones to others.
///
/// Taken before the search, asked before each call with the handle (SessionAccess::KeyUse), and again afterwards: what
/// another key may have answered is thrown away.
///
/// Thread safety: const members may run concurrently.
class HandleWatch {
 public:
  HandleWatch(std::shared_ptr<Driver> driver, const LoginGuard& guard)
      : driver_(std::move(driver)),
        guard_(guard),
        life_(driver_->life()),
        logins_(guard.logins),
        destructions_(driver_->shared().destructions.count()) {}

  [[nodiscard]] bool still_names(KeyHandle key) const {
    return driver_->life() == life_ && guard_.logins == logins_ && logins_ % 2 == 0 &&
           !driver_->shared().destructions.happened_to(key.value, destructions_);
  }

 private:
  std::shared_ptr<Driver> driver_;
  const LoginGuard& guard_;  ///< lives as long as the process
  std::uint64_t life_, logins_, destructions_;
};

}  // namespace hsmseal::pkcs11
