#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/pkcs11_session.hpp>
#include <hsmseal/token_binding.hpp>

#include "keywrap/session_pool.hpp"
#include "pkcs11/driver.hpp"

namespace hsmseal::keywrap {

/// A connection to a token from its login to its loss: what was found in one life is not used in another.
///
/// Thread safety: all members may run concurrently.
class Life : public std::enable_shared_from_this<Life> {
 public:
  enum class Login { Made, NotNeeded };

  /// @param driver_life  of the driver when the anchor was opened.
  /// @param anchor       the session that keeps the login of the process, which ends with its last session.
  Life(std::shared_ptr<Pkcs11Module> module, std::uint64_t driver_life, Pkcs11Session anchor, Login login,
       std::shared_ptr<SessionPool> pool);
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;
  ~Life();

  [[nodiscard]] const TokenInfo& token() const noexcept { return token_; }
  [[nodiscard]] const std::shared_ptr<Pkcs11Module>& module() const noexcept { return module_; }
  [[nodiscard]] SessionPool& pool() const noexcept { return *pool_; }
  [[nodiscard]] const std::shared_ptr<SessionPool>& shared_pool() const noexcept { return pool_; }

  /// False once the driver was restarted.
  [[nodiscard]] bool current() const noexcept;
  /// Whether the anchor answers and is logged in.
  [[nodiscard]] bool well();

  /// Ends it: what is not in use is closed now, the rest when it comes back. A login that nobody else holds ends too.
  void retire();

  /// Tells the driver that a token of it works, and starts to keep the connection alive if `interval` is not 0.
  void begin(const void* owner, std::chrono::milliseconds interval);

 private:
  struct KeepAlive;
  void keep_alive();
  void stop_keep_alive() noexcept;

  const std::shared_ptr<Pkcs11Module> module_;
  const std::uint64_t driver_life_;
  const Login login_;
  const TokenInfo token_;
  std::mutex anchor_mutex_;
  Pkcs11Session anchor_;
  const std::shared_ptr<SessionPool> pool_;
  std::shared_ptr<void> in_use_;
  std::shared_ptr<KeepAlive> kept_alive_;
};

}  // namespace hsmseal::keywrap
