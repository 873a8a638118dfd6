#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <hsmseal/error.hpp>
#include <hsmseal/token_binding.hpp>

#include "pkcs11/cryptoki.hpp"
#include "pkcs11/destructions.hpp"
#include "pkcs11/login_guard.hpp"

namespace hsmseal::pkcs11 {

/// What a failed call is thrown with.
[[nodiscard]] TokenFailure failure(std::string_view function, CK_RV rv);

/// "C_Encrypt failed: CKR_DEVICE_ERROR (0x30) on token 'prod'"; without the token's name if it is empty.
[[nodiscard]] std::string failure_text(std::string_view function, CK_RV rv, std::string_view token);

/// Throws TokenError.
[[noreturn]] void throw_failure(std::string_view function, CK_RV rv, std::string_view token);

/// What all who use one driver in this process share, whoever loaded or lent it: tokens count wrong PINs and drivers
/// share locks across them all.
///
/// Thread safety: all members may run concurrently.
class SharedState {
 public:
  /// The state of the driver with this function list; never forgotten.
  [[nodiscard]] static SharedState& of(const CK_FUNCTION_LIST* functions);

  /// The guard of one token's login; the token is named by what identifies it, since drivers renumber slots.
  [[nodiscard]] LoginGuard& login_guard(const std::string& label, const std::string& serial);

  std::mutex one_at_a_time;  ///< for drivers that must not be called by two threads
  /// For what adds, finds and removes keys: SoftHSM 2.6.1 fails to make a key, now and then, while another thread
  /// searches. Nothing that seals or opens takes it once its key is found.
  std::mutex object_store;
  std::mutex one_destruction_at_a_time;  ///< locked before object_store
  Destructions destructions;

 private:
  std::mutex guards_mutex_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<LoginGuard>> guards_;
};

/// A driver's function list, and how it may be called.
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

  /// Calls one function of the list, unless the process is ending: the driver's own static objects may be gone then,
  /// while a ring in a static object of the application is still to close its sessions. Arguments must not refer to
  /// memory that the caller may free before the return.
  template <typename Function, typename... Arguments>
  CK_RV call(Function CK_FUNCTION_LIST::*function, Arguments... arguments) {
    if (process_ends()) return CKR_CRYPTOKI_NOT_INITIALIZED;
    const Function target = functions_->*function;
    if (target == nullptr) return CKR_FUNCTION_NOT_SUPPORTED;
    if (options_.concurrency == Concurrency::Parallel) return target(arguments...);
    const std::scoped_lock lock{shared_.one_at_a_time};
    return target(arguments...);
  }

  [[nodiscard]] SharedState& shared() noexcept { return shared_; }

 private:
  void initialise();
  [[nodiscard]] static bool process_ends() noexcept;
  static void stop_at_exit() noexcept;

  CK_FUNCTION_LIST_PTR functions_;
  DriverOptions options_;  ///< kept: drivers retain pointers into their start-up arguments
  CK_C_INITIALIZE_ARGS start_arguments_{};
  SharedState& shared_;
};

}  // namespace hsmseal::pkcs11
