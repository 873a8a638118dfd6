#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/error.hpp>
#include <hsmseal/token_binding.hpp>

#include "pkcs11/call_gate.hpp"
#include "pkcs11/call_turns.hpp"
#include "pkcs11/cryptoki.hpp"
#include "pkcs11/destructions.hpp"
#include "pkcs11/login_guard.hpp"
#include "pkcs11/open_sessions.hpp"
#include "platform/platform.hpp"

namespace hsmseal::pkcs11 {

/// What a failed call is thrown with.
[[nodiscard]] TokenFailure failure(std::string_view function, CK_RV rv);

/// "C_Encrypt failed: CKR_DEVICE_ERROR (0x30) on token 'prod'"; without the token's name if it is empty.
[[nodiscard]] std::string failure_text(std::string_view function, CK_RV rv, std::string_view token);

/// Throws TokenError.
[[noreturn]] void throw_failure(std::string_view function, CK_RV rv, std::string_view token);

/// Throws TokenError: a forked child must not use what it inherited.
[[noreturn]] void throw_forked(std::string_view token);

/// What all who use one driver in this process share, whoever loaded or lent it: tokens count wrong PINs and drivers
/// share locks across them all.
///
/// Thread safety: all members may run concurrently.
class SharedState {
 public:
  /// The state of the driver with this function list; never forgotten. A forked child has its own, which knows the PINs
  /// that were refused before.
  [[nodiscard]] static SharedState& of(const CK_FUNCTION_LIST* functions);

  /// The guard of one token's login; the token is named by what identifies it, since drivers renumber slots.
  [[nodiscard]] LoginGuard& login_guard(const std::string& label, const std::string& serial);

  std::mutex one_at_a_time;  ///< for drivers that must not be called by two threads
  /// For what adds, finds and removes keys: SoftHSM 2.6.1 fails to make a key, now and then, while another thread
  /// searches. Nothing that seals or opens takes it once its key is found.
  CallTurns object_store;
  std::mutex one_destruction_at_a_time;  ///< locked before object_store
  Destructions destructions;
  OpenSessions open_sessions;

  CallGate gate;
  std::atomic<std::uint64_t> life = 1;  ///< raised by each restart
  std::atomic<bool> down = false;       ///< C_Initialize failed

  struct User {
    const void* owner;
    std::function<bool()> is_well;
  };
  std::mutex users_mutex;
  std::vector<std::weak_ptr<const User>> users;  ///< guarded by users_mutex

  SharedState() = default;
  SharedState(const SharedState&) = delete;
  SharedState& operator=(const SharedState&) = delete;
  ~SharedState() = default;

  /// Takes over what is known of PINs, unless another thread was just changing it.
  void inherit(SharedState& from);

 private:
  std::mutex guards_mutex_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<LoginGuard>> guards_;
};

/// A driver's function list, and how it may be called.
///
/// A restart (C_Finalize, C_Initialize) begins a new life of the driver: sessions and object handles of an earlier one
/// are void, and their numbers may name others (PKCS#11 2.40 section 5.4). Calls say which life they belong to.
///
/// Thread safety: all members may run concurrently.
class Driver {
 public:
  /// @throws as Pkcs11Module::load().
  [[nodiscard]] static std::shared_ptr<Driver> load(const DriverOptions& options);
  /// @throws as Pkcs11Module::borrow().
  [[nodiscard]] static std::shared_ptr<Driver> borrow(void* function_list, Concurrency concurrency);

  Driver(CK_FUNCTION_LIST_PTR functions, DriverOptions options);
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  ~Driver() = default;  // no C_Finalize: other code of the process may be using the driver

  /// Calls one function of the list, unless the process is ending (the driver's own static objects may be gone then,
  /// while a ring in a static object of the application is still to close its sessions), was forked, or restarts the
  /// driver. Arguments must not refer to memory that the caller may free before the return.
  template <typename Function, typename... Arguments>
  CK_RV call(Function CK_FUNCTION_LIST::*function, Arguments... arguments) {
    return call_in_life(shared_.life, function, arguments...);
  }

  /// call() for what belongs to one life of the driver.
  /// @returns CKR_SESSION_HANDLE_INVALID without a call if that life is over.
  template <typename Function, typename... Arguments>
  CK_RV call_in_life(std::uint64_t life, Function CK_FUNCTION_LIST::*function, Arguments... arguments) {
    if (process_ends() || forked()) return CKR_CRYPTOKI_NOT_INITIALIZED;
    const CallGate::Visit visit{shared_.gate};
    if (!visit.inside()) return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (shared_.life != life) return CKR_SESSION_HANDLE_INVALID;
    if (shared_.down) return CKR_CRYPTOKI_NOT_INITIALIZED;
    const Function target = functions_->*function;
    if (target == nullptr) return CKR_FUNCTION_NOT_SUPPORTED;
    if (options_.concurrency == Concurrency::Parallel) return target(arguments...);
    const std::scoped_lock lock{shared_.one_at_a_time};
    return target(arguments...);
  }

  /// Raised by each restart.
  [[nodiscard]] std::uint64_t life() const noexcept { return shared_.life; }

  /// Whether this process is a child of the one that started the driver. Nothing is called then.
  [[nodiscard]] bool forked() const noexcept { return forks_ != platform::forks(); }

  /// Says that sessions of the driver work for a token, as long as the returned object lives.
  ///
  /// @param owner    whose restarts this does not hinder.
  /// @param is_well  asked before the restart for another token.
  [[nodiscard]] std::shared_ptr<void> in_use(const void* owner, std::function<bool()> is_well);

  /// How far a restart may go.
  enum class Urgency {
    TokenMissing,  ///< one token is not there: not while others work
    AllLost,       ///< the driver itself is lost
  };
  enum class Restarted {
    Yes,         ///< or somebody else did it since `life`
    TooSoon,     ///< the last one was less than 30 s ago, more after each that did not help
    NotAllowed,  ///< other code started the driver, other tokens work, or DriverRestart::Never
    Stuck,       ///< calls do not return
  };
  /// Ends the driver and starts it again, alone.
  ///
  /// @param life   the life that is to end.
  /// @param owner  as given to in_use().
  /// @param now   by the clock that times restarts.
  /// @throws TokenError  C_Initialize failed; it alone is tried again by the next restart, after a second or more.
  Restarted restart(std::uint64_t life, Urgency urgency, const void* owner, std::chrono::steady_clock::time_point now);

  [[nodiscard]] SharedState& shared() noexcept { return shared_; }

 private:
  void initialise();
  [[nodiscard]] bool others_work(const void* owner);
  [[nodiscard]] CK_RV start();
  [[nodiscard]] std::chrono::steady_clock::duration pause_after_restart(std::chrono::steady_clock::time_point now);
  [[nodiscard]] static bool process_ends() noexcept;
  static void stop_at_exit() noexcept;

  CK_FUNCTION_LIST_PTR functions_;
  DriverOptions options_;  ///< kept: drivers retain pointers into their start-up arguments
  CK_C_INITIALIZE_ARGS start_arguments_{};
  SharedState& shared_;
  const std::uint64_t forks_;
  std::atomic<bool> ever_used_ = false;
  std::mutex restarting_;  ///< guards what follows
  bool owner_ = false;     ///< C_Initialize was hsmseal's
  unsigned early_restarts_ = 0;
  std::chrono::steady_clock::duration pause_{};
  std::chrono::steady_clock::time_point last_restart_{}, next_restart_{};
};

}  // namespace hsmseal::pkcs11
