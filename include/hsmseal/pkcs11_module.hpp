#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <hsmseal/export.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal {

namespace pkcs11 {
class Driver;
struct SessionAccess;
}  // namespace pkcs11

/// CK_INFO in C++ types.
struct ModuleInfo {
  std::string manufacturer;         ///< manufacturerID without its padding
  std::string description;          ///< libraryDescription without its padding
  std::uint8_t cryptoki_major = 0;  ///< of the version of PKCS#11 that the driver follows
  std::uint8_t cryptoki_minor = 0;  ///< of the same: 40 for PKCS#11 2.40
  std::uint8_t library_major = 0;   ///< of the driver's own version
  std::uint8_t library_minor = 0;   ///< of the same
};

/// CK_TOKEN_INFO in C++ types, padding removed.
struct TokenInfo {
  std::uint64_t slot = 0;          ///< CK_SLOT_ID: for messages; drivers renumber slots
  std::string label;               ///< chosen when the token was initialized; not always unique
  std::string serial;              ///< serialNumber
  std::string model;               ///< chosen by the vendor
  std::string manufacturer;        ///< manufacturerID
  std::uint64_t flags = 0;         ///< CKF_* of PKCS#11 2.40 section 3.2
  std::uint64_t max_sessions = 0;  ///< ulMaxSessionCount as reported: 0 and numbers near 2^64 mean no known limit
};

/// CK_MECHANISM_INFO in C++ types. What a driver lists may still be refused: only real operations tell.
struct MechanismInfo {
  std::uint64_t type = 0;          ///< CK_MECHANISM_TYPE
  std::string name;                ///< "CKM_AES_GCM" for those hsmseal knows, otherwise a hexadecimal number
  std::uint64_t min_key_size = 0;  ///< bytes or bits, depending on the mechanism
  std::uint64_t max_key_size = 0;  ///< in the same unit
  std::uint64_t flags = 0;         ///< CKF_* of CK_MECHANISM_INFO; some drivers leave it unset
};

/// A PKCS#11 driver loaded into this process.
///
/// A driver is process-wide state: modules of the same file (by device and inode, whatever its name) share one driver,
/// C_Initialize is called once with CKF_OS_LOCKING_OK, and the driver is never unloaded, nor finalised at the end, because
/// vendors' exit handlers crash and because other code of the process may be using it. A provider (pkcs11_provider()) may
/// restart a driver that hsmseal started, as DriverRestart says: sessions that are open then answer
/// CKR_SESSION_HANDLE_INVALID afterwards.
///
/// Thread safety: all members may run concurrently.
class HSMSEAL_API Pkcs11Module {
 public:
  /// Loads a driver and initialises it; a driver that is already loaded is shared.
  ///
  /// If other code of the process has initialised the driver before (CKR_CRYPTOKI_ALREADY_INITIALIZED), it is used as
  /// it is, one call at a time, since nobody knows how its locking was set up.
  ///
  /// @throws InvalidArgumentError  the path is relative, missing, not a regular file, writable by group or others (or a
  ///         folder above it is), not a PKCS#11 library; or the driver is loaded already with other options.
  /// @throws TokenError            C_GetFunctionList or C_Initialize failed.
  /// Blocking: as long as C_Initialize; vendors' drivers open network connections there.
  [[nodiscard]] static std::shared_ptr<Pkcs11Module> load(const DriverOptions& options);

  /// Uses a driver that the application loaded and initialised itself and finalises after the last use here.
  ///
  /// @param function_list  a CK_FUNCTION_LIST*, version 2.x; retained for the life of the object.
  /// @throws InvalidArgumentError  null, or a function that hsmseal needs is missing.
  [[nodiscard]] static std::shared_ptr<Pkcs11Module> borrow(void* function_list,
                                                            Concurrency concurrency = Concurrency::Serialized);

  Pkcs11Module(const Pkcs11Module&) = delete;
  Pkcs11Module& operator=(const Pkcs11Module&) = delete;
  ~Pkcs11Module();

  /// What the driver says of itself.
  /// @throws TokenError  C_GetInfo failed.
  [[nodiscard]] ModuleInfo info() const;

  /// Every token present and initialised, in the driver's order.
  /// @throws TokenError  C_GetSlotList or C_GetTokenInfo failed.
  [[nodiscard]] std::vector<TokenInfo> tokens() const;

  /// Every token present that nobody has initialised yet, in the driver's order: without a label, of no use before that.
  /// @throws TokenError  C_GetSlotList or C_GetTokenInfo failed.
  [[nodiscard]] std::vector<TokenInfo> blank_tokens() const;

  /// The one token that a selector means.
  ///
  /// @throws InvalidArgumentError    more than one token matches, or the selector is empty.
  /// @throws TokenUnavailableError   none matches; the message lists those there are.
  [[nodiscard]] TokenInfo token(const TokenSelector& selector) const;

  /// What the token says it can do.
  /// @throws as token(), and TokenError.
  [[nodiscard]] std::vector<MechanismInfo> mechanisms(const TokenSelector& selector) const;

 private:
  friend class Pkcs11Session;
  friend struct pkcs11::SessionAccess;
  explicit Pkcs11Module(std::shared_ptr<pkcs11::Driver> driver);

  std::shared_ptr<pkcs11::Driver> driver_;
};

}  // namespace hsmseal
