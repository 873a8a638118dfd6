#include "pkcs11/driver.hpp"

#include <atomic>
#include <cstdlib>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "pkcs11/reactions.hpp"
#include "pkcs11/return_values.hpp"
#include "platform/platform.hpp"

namespace hsmseal::pkcs11 {
namespace {

struct Loaded {
  std::shared_ptr<Driver> driver;
  DriverOptions options;
};

/// Every driver of the process, by what file it is. Never destroyed: drivers are not unloaded.
struct Registry {
  std::mutex mutex;
  std::map<platform::FileIdentity, Loaded> loaded;
};

Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

bool same_start(const DriverOptions& a, const DriverOptions& b) {
  return std::tie(a.start_up, a.environment, a.concurrency) == std::tie(b.start_up, b.environment, b.concurrency);
}

/// The functions without which nothing can be sealed; the others are missed when they are called.
void check_complete(const CK_FUNCTION_LIST& list) {
  const auto present = [](auto... functions) { return ((functions != nullptr) && ...); };
  if (present(list.C_GetSlotList, list.C_GetTokenInfo, list.C_OpenSession, list.C_CloseSession, list.C_GetSessionInfo,
              list.C_Login, list.C_FindObjectsInit, list.C_FindObjects, list.C_FindObjectsFinal,
              list.C_GetAttributeValue, list.C_EncryptInit, list.C_Encrypt, list.C_DecryptInit, list.C_Decrypt)) {
    return;
  }
  throw InvalidArgumentError("the driver's function list lacks functions that every PKCS#11 driver must have");
}

std::atomic<bool> ending = false;

[[noreturn]] void throw_start_failure(std::string_view function, CK_RV rv, const std::filesystem::path& library) {
  throw TokenError(failure(function, rv), fmt::format("{} by driver '{}'; check the driver's own configuration",
                                                      failure_text(function, rv, ""), platform::shown(library)));
}

CK_FUNCTION_LIST_PTR function_list(const std::filesystem::path& path) {
  void* const library = platform::open_library(path);
  const auto get_list = reinterpret_cast<CK_C_GetFunctionList>(platform::library_symbol(library, "C_GetFunctionList"));
  if (get_list == nullptr) {
    throw InvalidArgumentError(
        fmt::format("'{}' is not a PKCS#11 library: it has no C_GetFunctionList; give the vendor's PKCS#11 library",
                    platform::shown(path)));
  }
  CK_FUNCTION_LIST_PTR functions = nullptr;
  if (const CK_RV rv = get_list(&functions); rv != CKR_OK) throw_start_failure("C_GetFunctionList", rv, path);
  if (functions == nullptr || functions->version.major != 2) {
    throw InvalidArgumentError(fmt::format("'{}' offers no PKCS#11 2.x function list", platform::shown(path)));
  }
  check_complete(*functions);
  return functions;
}

}  // namespace

TokenFailure failure(std::string_view function, CK_RV rv) {
  return {std::string{function}, rv, rv_name(rv), retryable(function, rv)};
}

std::string failure_text(std::string_view function, CK_RV rv, std::string_view token) {
  const std::string name = rv_name(rv);
  auto text = fmt::format("{} failed: {}", function, name);
  if (!name.starts_with("0x")) text += fmt::format(" (0x{:x})", rv);
  if (!token.empty()) text += fmt::format(" on token '{}'", token);
  return text;
}

void throw_failure(std::string_view function, CK_RV rv, std::string_view token) {
  throw TokenError(failure(function, rv), failure_text(function, rv, token));
}

Driver::Driver(CK_FUNCTION_LIST_PTR functions, DriverOptions options)
    : functions_(functions), options_(std::move(options)), shared_(SharedState::of(functions)) {}

void Driver::stop_at_exit() noexcept {
  // Handlers run in the reverse order: this one before those of the library and of its C_Initialize.
  std::atexit([] { ending = true; });
}

bool Driver::process_ends() noexcept { return ending; }

void Driver::initialise() {
  start_arguments_.flags = CKF_OS_LOCKING_OK;
  // Most drivers insist on NULL; a few read their configuration's path here (2.40 section 5.4 reserves it).
  start_arguments_.pReserved = options_.start_up.empty() ? nullptr : options_.start_up.data();
  CK_RV rv = call(&CK_FUNCTION_LIST::C_Initialize, static_cast<void*>(&start_arguments_));
  if (rv == CKR_CANT_LOCK) {
    options_.concurrency = Concurrency::Serialized;
    start_arguments_.flags = 0;
    void* const without_locks = options_.start_up.empty() ? nullptr : &start_arguments_;
    rv = call(&CK_FUNCTION_LIST::C_Initialize, without_locks);
  } else if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) {
    // Somebody else's arguments are in force, and nobody knows whether they allow threads.
    options_.concurrency = Concurrency::Serialized;
    rv = CKR_OK;
  }
  if (rv != CKR_OK) throw_start_failure("C_Initialize", rv, options_.library);
}

std::shared_ptr<Driver> Driver::load(const DriverOptions& options) {
  const platform::TrustedLibrary library = platform::trusted_library(options.library);
  Registry& drivers = registry();
  const std::scoped_lock lock{drivers.mutex};  // two threads must not initialise one driver
  if (const auto found = drivers.loaded.find(library.identity); found != drivers.loaded.end()) {
    if (!same_start(found->second.options, options)) {
      throw InvalidArgumentError(
          fmt::format("driver '{}' is loaded already with another start-up string, environment or concurrency",
                      platform::shown(library.path)));
    }
    return found->second.driver;
  }
  for (const auto& [name, value] : options.environment) platform::set_environment_variable(name, value);
  auto driver = std::make_shared<Driver>(function_list(library.path), options);
  driver->initialise();
  stop_at_exit();
  drivers.loaded.emplace(library.identity, Loaded{driver, options});
  return driver;
}

std::shared_ptr<Driver> Driver::borrow(void* function_list, Concurrency concurrency) {
  const auto functions = static_cast<CK_FUNCTION_LIST_PTR>(function_list);
  if (functions == nullptr || functions->version.major != 2) {
    throw InvalidArgumentError("a borrowed function list must be a CK_FUNCTION_LIST of PKCS#11 2.x");
  }
  check_complete(*functions);
  DriverOptions options;
  options.concurrency = concurrency;
  stop_at_exit();
  return std::make_shared<Driver>(functions, std::move(options));
}

SharedState& SharedState::of(const CK_FUNCTION_LIST* functions) {
  static auto* const mutex = new std::mutex;
  static auto* const states = new std::map<const CK_FUNCTION_LIST*, SharedState>;
  const std::scoped_lock lock{*mutex};
  return (*states)[functions];
}

LoginGuard& SharedState::login_guard(const std::string& label, const std::string& serial) {
  const std::scoped_lock lock{guards_mutex_};
  auto& guard = guards_[{label, serial}];
  if (!guard) guard = std::make_unique<LoginGuard>();
  return *guard;
}

}  // namespace hsmseal::pkcs11
