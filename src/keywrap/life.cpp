#include "keywrap/life.hpp"

#include <algorithm>
#include <condition_variable>
#include <thread>
#include <utility>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "pkcs11/lock_until.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {

namespace {

/// How long the anchor may take to say that it is well.
constexpr std::chrono::seconds kAnswerTime{1};

}  // namespace

/// Shared with the thread, which nobody waits for: it may hang in the driver.
struct Life::KeepAlive {
  std::mutex mutex;
  std::condition_variable ending;
  bool ends = false;
};

Life::Life(std::shared_ptr<Pkcs11Module> module, std::uint64_t driver_life, Pkcs11Session anchor, Login login,
           std::shared_ptr<SessionPool> pool)
    : module_(std::move(module)),
      driver_life_(driver_life),
      login_(login),
      token_(anchor.token()),
      anchor_(std::move(anchor)),
      pool_(std::move(pool)) {}

Life::~Life() { stop_keep_alive(); }

void Life::stop_keep_alive() noexcept {
  if (!kept_alive_) return;
  const std::scoped_lock lock{kept_alive_->mutex};
  kept_alive_->ends = true;
  kept_alive_->ending.notify_all();
}

bool Life::current() const noexcept { return pkcs11::SessionAccess::driver(*module_).life() == driver_life_; }

void Life::retire() {
  stop_keep_alive();
  in_use_.reset();
  pool_->retire();
  const std::unique_lock lock{anchor_mutex_, std::try_to_lock};
  if (lock) anchor_.close();  // otherwise somebody is asking it, and closes it with the object
}

bool Life::well() {
  const auto lock =
      pkcs11::lock_until(anchor_mutex_, std::min(Deadline::current(), std::chrono::steady_clock::now() + kAnswerTime));
  if (!lock || !current() || !anchor_.usable()) return false;
  if (login_ == Login::NotNeeded) return pkcs11::SessionAccess::answers(anchor_);
  try {
    return pkcs11::SessionAccess::logged_in(anchor_);
  } catch (const Error&) {
    return false;
  }
}

void Life::keep_alive() {
  const std::unique_lock lock{anchor_mutex_, std::try_to_lock};
  if (!lock) return;  // it is being used
  try {
    pkcs11::SessionAccess::keep_alive(anchor_);
  } catch (...) {
    // The anchor is spent: the next one that uses the token sees it, and recovers.
  }
}

void Life::begin(const void* owner, std::chrono::milliseconds interval) {
  const std::weak_ptr<Life> self = weak_from_this();
  in_use_ = pkcs11::SessionAccess::driver(*module_).in_use(owner, [self] {
    const auto life = self.lock();
    return life && life->well();
  });
  if (interval.count() == 0) return;
  kept_alive_ = std::make_shared<KeepAlive>();
  std::thread{[self, interval, control = kept_alive_] {
    std::unique_lock lock{control->mutex};
    while (!control->ending.wait_for(lock, interval, [&] { return control->ends; })) {
      lock.unlock();
      if (const auto life = self.lock()) life->keep_alive();
      lock.lock();
    }
  }}.detach();
}

}  // namespace hsmseal::keywrap
