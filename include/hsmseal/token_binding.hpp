#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/export.hpp>
#include <hsmseal/pin_source.hpp>

namespace hsmseal {

/// Which token is meant. Every field that is not empty must equal the token's, and exactly one token must match.
///
/// Slot numbers are left out on purpose: drivers renumber slots.
struct HSMSEAL_API TokenSelector {
  std::string label = {};         ///< CK_TOKEN_INFO.label without its padding
  std::string serial = {};        ///< CK_TOKEN_INFO.serialNumber without its padding
  std::string model = {};         ///< CK_TOKEN_INFO.model without its padding
  std::string manufacturer = {};  ///< CK_TOKEN_INFO.manufacturerID without its padding

  /// Reads an RFC 7512 URI such as `pkcs11:token=prod;serial=0123`.
  ///
  /// @throws InvalidArgumentError  not a PKCS#11 URI; an attribute other than token, serial, model and manufacturer
  ///         (a PIN has no place in it); an attribute twice; no attribute at all.
  [[nodiscard]] static TokenSelector from_uri(std::string_view pkcs11_uri);

  /// The selector as text for messages, such as `label 'prod', serial '0123'`.
  [[nodiscard]] std::string describe() const;
};

/// Whether several sessions of one driver may work at the same time.
enum class Concurrency {
  Parallel,    ///< one thread per session at a time, sessions side by side: what PKCS#11 section 6.7.5 promises
  Serialized,  ///< one call at a time in the whole driver: for drivers that break that promise
};

/// Whether a driver may be ended and started again (C_Finalize, C_Initialize) when nothing milder brings a token back.
enum class DriverRestart {
  WhenOwner,  ///< if hsmseal's C_Initialize started it, no call is inside it, and at most every 30 s. All sessions of the
              ///< process with this driver end, also those of other code
  Never,      ///< other code of the process uses the driver too
};

/// How to load one PKCS#11 driver.
///
/// The environment is the whole process's and setenv() is not safe beside other threads' getenv(): a program that uses
/// `environment` loads the driver (Pkcs11Module::load) before it starts threads.
struct DriverOptions {
  std::filesystem::path library = {};  ///< absolute; not writable by group or others, nor any folder above it
  std::string start_up = {};           ///< goes to CK_C_INITIALIZE_ARGS.pReserved; empty passes NULL
  std::map<std::string, std::string> environment = {};  ///< set in this process before C_Initialize
  Concurrency concurrency = Concurrency::Parallel;      ///< whether its calls may overlap
  /// The last resort of a recovery. Absent: as the alias's vendor is known to need it (Vendor::restart), and WhenOwner
  /// where nothing is known.
  std::optional<DriverRestart> restart = {};
};

/// How much of a token one process may take.
struct SessionLimits {
  std::size_t max_sessions = 8;  ///< 1 to 4096 sessions that work, besides the one that keeps the login
  std::chrono::milliseconds session_wait{
      std::chrono::seconds{10}};  ///< 1 ms to 24 h: how long a call waits for a free session
  /// How long a session may be idle before it is looked at (C_GetSessionInfo) when it is used again: firewalls and HSMs
  /// drop connections that say nothing. 1 ms to 24 h.
  std::chrono::milliseconds idle_check{std::chrono::seconds{30}};
  /// How often the session that keeps the login is used when nothing else is (C_GetSessionInfo, and 8 bytes of
  /// C_GenerateRandom, as some drivers answer the former by themselves). 0: never; otherwise 10 ms to 24 h. Takes a thread
  /// for each token.
  std::chrono::milliseconds keep_alive{0};
};

/// What becomes of a caller whose call does not come back from the driver. Nobody can call it back.
enum class HangPolicy {
  Direct,  ///< calls run in the caller's thread: the fastest, but a driver that hangs holds the caller
  Isolated,  ///< calls run in threads of hsmseal's own. The caller leaves at its Deadline; the stuck thread and its session
             ///< are written off, and replaced by at most SessionLimits::max_sessions others
};

/// What to do when the token says that few PIN tries are left (CKF_USER_PIN_COUNT_LOW or CKF_USER_PIN_FINAL_TRY).
enum class LowPinCount {
  Refuse,   ///< TokenLoginError without calling C_Login
  TryOnce,  ///< the operator is sure of the PIN: one C_Login; a success resets the token's count
};

/// How this host reaches one token. Host-local: it is never written to the ring.
struct TokenBinding {
  std::string driver = {};            ///< a driver's alias (see Host::driver), or the absolute path of its library
  TokenSelector select = {};          ///< which of the driver's tokens; must not be empty
  PinSource pin = PinSource::none();  ///< asked at each login
  SessionLimits limits = {};          ///< for this process alone
  LowPinCount low_pin_count = LowPinCount::Refuse;  ///< what to do before a wrong PIN would lock the token
  HangPolicy hang_policy = HangPolicy::Isolated;    ///< where calls to this token run
};

/// The names that a ring uses, bound to what they mean on this host.
///
/// A shared database must not be able to load code into hosts or send PINs anywhere; so it holds names, and this
/// object, filled by the application or its configuration file, says what they stand for here.
///
/// Thread safety: none while it is filled; a copy is given away.
class HSMSEAL_API Host {
 public:
  /// Names a driver, or replaces what a vendor's alias stands for. With an empty library path the vendor's default
  /// paths are kept and only the other options change; with one, what else is known of the vendor (vendors()) is kept.
  ///
  /// Aliases known from the start: see driver_aliases().
  /// @throws InvalidArgumentError  the alias is empty or a path, or no library is given and none is known.
  Host& driver(std::string alias, DriverOptions options);

  /// Names a token. SessionLimits::max_sessions is kept below what its driver's vendor has, if that is known
  /// (Vendor::max_sessions).
  /// @throws InvalidArgumentError  the alias is empty or taken, the selector is empty, or a limit is out of range.
  Host& token(std::string alias, TokenBinding binding);

  /// What a token's alias stands for here.
  /// @throws InvalidArgumentError  no token of this name is bound on this host.
  [[nodiscard]] const TokenBinding& binding(std::string_view token_alias) const;

  /// The names of all tokens bound on this host, sorted.
  [[nodiscard]] std::vector<std::string> token_aliases() const;

  /// What to load for a binding's `driver`: of a vendor's default paths the first that exists.
  /// @throws InvalidArgumentError  the alias is unknown, or no file exists at any of its paths.
  [[nodiscard]] DriverOptions driver_for(const TokenBinding& binding) const;

 private:
  std::map<std::string, DriverOptions, std::less<>> drivers_;
  std::map<std::string, TokenBinding, std::less<>> tokens_;
};

/// The vendors' aliases that have default library paths on this platform, such as "softhsm2" and "luna"; sorted. See also
/// vendors().
[[nodiscard]] HSMSEAL_API std::vector<std::string> driver_aliases();

}  // namespace hsmseal
