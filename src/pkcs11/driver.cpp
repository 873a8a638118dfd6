#include "pkcs11/driver.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>

#include "pkcs11/lock_until.hpp"
#include "pkcs11/reactions.hpp"
#include "pkcs11/return_values.hpp"
#include "platform/per_process.hpp"
#include "platform/platform.hpp"

namespace hsmseal::pkcs11 {
namespace {

constexpr std::chrono::seconds kBetweenRestarts{30};
constexpr std::chrono::minutes kLongestPause{10};
constexpr std::chrono::seconds kBetweenStarts{1};  // of a driver that is down
constexpr std::chrono::seconds kDrainTime{5};
constexpr unsigned kEarlyRestarts = 5;

struct Loaded {
  std::mutex starting;  ///< held over C_Initialize, so that a driver that hangs there keeps no other from starting
  std::shared_ptr<Driver> driver;
  DriverOptions options;
};

/// Every driver of the process, by what file it is. Never destroyed: drivers are not unloaded.
struct Registry {
  std::mutex mutex;
  std::map<platform::FileIdentity, Loaded> loaded;
};

Registry& registry() {
  static auto* const instance = new platform::PerProcess<Registry>(std::make_unique<Registry>());
  return instance->get([](const Registry&) { return std::make_unique<Registry>(); });
}

void set_environment(const DriverOptions& options) {
  for (const auto& [name, value] : options.environment) platform::set_environment_variable(name, value);
}

DriverRestart restart_of(const DriverOptions& options) { return options.restart.value_or(DriverRestart::WhenOwner); }

bool same_start(const DriverOptions& a, const DriverOptions& b) {
  return std::tie(a.start_up, a.environment, a.concurrency) == std::tie(b.start_up, b.environment, b.concurrency) &&
         restart_of(a) == restart_of(b);
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

void throw_forked(std::string_view token) {
  throw TokenError(
      {"fork", CKR_CRYPTOKI_NOT_INITIALIZED, rv_name(CKR_CRYPTOKI_NOT_INITIALIZED), false},
      fmt::format(
          "this process was forked from one that uses token '{}', whose sessions it must not touch; start with a "
          "KeyProvider of its own, or allow ForkPolicy::StartAnew",
          token));
}

Driver::Driver(CK_FUNCTION_LIST_PTR functions, DriverOptions options)
    : functions_(functions),
      options_(std::move(options)),
      shared_(SharedState::of(functions)),
      forks_(platform::forks()) {}

void Driver::stop_at_exit() noexcept {
  // Handlers run in the reverse order: this one before those of the library and of its C_Initialize.
  std::atexit([] { ending = true; });
}

bool Driver::process_ends() noexcept { return ending; }

CK_RV Driver::start() {
  start_arguments_.flags = CKF_OS_LOCKING_OK;
  // Most drivers insist on NULL; a few read their configuration's path here (2.40 section 5.4 reserves it).
  start_arguments_.pReserved = options_.start_up.empty() ? nullptr : options_.start_up.data();
  const CK_RV rv = functions_->C_Initialize(&start_arguments_);
  if (rv != CKR_CANT_LOCK) return rv;
  options_.concurrency = Concurrency::Serialized;
  start_arguments_.flags = 0;
  return functions_->C_Initialize(options_.start_up.empty() ? nullptr : &start_arguments_);
}

void Driver::initialise() {
  if (functions_->C_Initialize == nullptr) return;
  const CK_RV rv = start();
  if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) {
    // Somebody else's arguments are in force, and nobody knows whether they allow threads.
    options_.concurrency = Concurrency::Serialized;
  } else if (rv != CKR_OK) {
    throw_start_failure("C_Initialize", rv, options_.library);
  }
  owner_ = rv == CKR_OK;
}

std::shared_ptr<void> Driver::in_use(const void* owner, std::function<bool()> is_well) {
  ever_used_ = true;
  auto user = std::make_shared<SharedState::User>(SharedState::User{owner, std::move(is_well)});
  const std::scoped_lock lock{shared_.users_mutex};
  std::erase_if(shared_.users, [](const auto& gone) { return gone.expired(); });
  shared_.users.push_back(user);
  return user;
}

bool Driver::others_work(const void* owner) {
  std::vector<std::shared_ptr<const SharedState::User>> others;
  {
    const std::scoped_lock lock{shared_.users_mutex};
    for (const auto& held : shared_.users) {
      auto user = held.lock();
      if (user && user->owner != owner) others.push_back(std::move(user));
    }
  }
  return std::ranges::any_of(others, [](const auto& user) { return user->is_well(); });
}

/// Doubles while restarts come close upon each other.
std::chrono::steady_clock::duration Driver::pause_after_restart(std::chrono::steady_clock::time_point now) {
  if (!ever_used_ && early_restarts_ < kEarlyRestarts) {
    // Nothing has worked yet that a restart could break: SoftHSM, for one, misses tokens while another process logs in.
    ++early_restarts_;
    return {};
  }
  const std::chrono::steady_clock::duration least = shared_.down ? kBetweenStarts : kBetweenRestarts;
  const bool close = now - last_restart_ < 4 * pause_;
  pause_ = close ? std::clamp<std::chrono::steady_clock::duration>(2 * pause_, least, kLongestPause) : least;
  return shared_.down ? std::min<std::chrono::steady_clock::duration>(pause_, kBetweenRestarts) : pause_;
}

Driver::Restarted Driver::restart(std::uint64_t life, Urgency urgency, const void* owner,
                                  std::chrono::steady_clock::time_point now) {
  const auto patience = std::min(Deadline::current(), std::chrono::steady_clock::now() + kDrainTime);
  const auto alone = lock_until(restarting_, patience);
  if (!alone) return Restarted::Stuck;
  if (shared_.life != life && !shared_.down) return Restarted::Yes;
  if (!owner_ || forked() || process_ends() || restart_of(options_) == DriverRestart::Never)
    return Restarted::NotAllowed;
  if (now < next_restart_) return Restarted::TooSoon;
  if (urgency == Urgency::TokenMissing && others_work(owner)) return Restarted::NotAllowed;
  set_environment(options_);  // again at each start: another driver may have had other values
  if (!shared_.gate.close(patience)) {
    next_restart_ = now + kBetweenRestarts;
    return Restarted::Stuck;
  }
  const bool was_down = shared_.down;
  const bool finalised = !was_down && functions_->C_Finalize != nullptr && functions_->C_Finalize(nullptr) == CKR_OK;
  ++shared_.life;
  shared_.open_sessions.forget_all();
  const CK_RV rv = start();
  shared_.down = rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED;
  if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED && (was_down || finalised)) {
    // Somebody else was faster, and it is theirs from now on.
    owner_ = false;
    options_.concurrency = Concurrency::Serialized;
  }
  next_restart_ = now + pause_after_restart(now);
  last_restart_ = now;
  shared_.gate.open();
  if (shared_.down) throw_start_failure("C_Initialize", rv, options_.library);
  return Restarted::Yes;
}

std::shared_ptr<Driver> Driver::load(const DriverOptions& options) {
  const platform::TrustedLibrary library = platform::trusted_library(options.library);
  Loaded& loaded = [&]() -> Loaded& {
    Registry& drivers = registry();
    const std::scoped_lock lock{drivers.mutex};
    return drivers.loaded[library.identity];
  }();
  const std::scoped_lock lock{loaded.starting};  // two threads must not initialise one driver
  if (loaded.driver) {
    if (!same_start(loaded.options, options)) {
      throw InvalidArgumentError(
          fmt::format("driver '{}' is loaded already with another start-up string, environment, concurrency or restart",
                      platform::shown(library.path)));
    }
    return loaded.driver;
  }
  set_environment(options);  // read by some as soon as they are loaded
  auto driver = std::make_shared<Driver>(function_list(library.path), options);
  driver->initialise();
  stop_at_exit();
  loaded.options = options;
  loaded.driver = driver;
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
  options.restart = DriverRestart::Never;
  stop_at_exit();
  return std::make_shared<Driver>(functions, std::move(options));
}

SharedState& SharedState::of(const CK_FUNCTION_LIST* functions) {
  struct States {
    std::mutex mutex;
    std::map<const CK_FUNCTION_LIST*, SharedState> of;
  };
  static auto* const states = new platform::PerProcess<States>(std::make_unique<States>());
  States& mine = states->get([](States& inherited) {
    auto fresh = std::make_unique<States>();
    const std::unique_lock lock{inherited.mutex, std::try_to_lock};
    if (!lock) return fresh;
    for (auto& [list, state] : inherited.of) fresh->of[list].inherit(state);
    return fresh;
  });
  const std::scoped_lock lock{mine.mutex};
  return mine.of[functions];
}

void SharedState::inherit(SharedState& from) {
  const std::unique_lock lock{from.guards_mutex_, std::try_to_lock};
  if (!lock) return;
  for (auto& [token, guard] : from.guards_) {
    auto& mine = guards_[token] = std::make_unique<LoginGuard>();
    const std::unique_lock its_lock{guard->mutex, std::try_to_lock};
    if (its_lock) mine->inherit(*guard);
  }
}

LoginGuard& SharedState::login_guard(const std::string& label, const std::string& serial) {
  const std::scoped_lock lock{guards_mutex_};
  auto& guard = guards_[{label, serial}];
  if (!guard) guard = std::make_unique<LoginGuard>();
  return *guard;
}

}  // namespace hsmseal::pkcs11
