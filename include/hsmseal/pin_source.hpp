#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include <hsmseal/export.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

struct TokenSelector;

/// Where a token's user PIN comes from. Holds a name, never the PIN itself.
///
/// The source is read when hsmseal logs in, not when the object is made, so that a changed PIN is seen.
/// Vendors put more than a PIN into it: Dinamo `user:password@address`, AWS CloudHSM `user:password`.
///
/// Thread safety: const members may run concurrently; a callback must allow that too.
class HSMSEAL_API PinSource {
 public:
  /// Returns the PIN of the token that is meant; what it throws is passed on.
  using Callback = std::function<SecretBytes(const TokenSelector&)>;

  /// The first line of a file of at most 4096 bytes that neither the group nor others may read or write.
  /// The path is made absolute at once: a process that changes its folder later reads the same file.
  ///
  /// @throws InvalidArgumentError  the path is empty.
  [[nodiscard]] static PinSource file(std::filesystem::path path);

  /// The value of an environment variable. Other processes of the same user can read it; a file is safer.
  [[nodiscard]] static PinSource environment(std::string name);

  /// Whatever the application returns: from a prompt, a secret manager, the platform's key store. It must not use the
  /// token that it is asked about, nor any ring on it: those wait for its answer.
  [[nodiscard]] static PinSource callback(Callback ask);

  /// No login: for slots whose keys are usable without one.
  [[nodiscard]] static PinSource none();

  /// The token asks by itself (PIN pad, PED): C_Login is called with no PIN and may block on a person, who
  /// is asked anew by each call that needs the login until it succeeds.
  [[nodiscard]] static PinSource protected_path();

  /// How a login is made.
  enum class Kind {
    None,           ///< not at all, see none()
    Pin,            ///< with what read() returns
    ProtectedPath,  ///< by the token itself, see protected_path()
  };
  /// Whether there is a PIN to read().
  [[nodiscard]] Kind kind() const noexcept { return kind_; }

  /// Fetches the PIN; hsmseal calls this when it logs in.
  ///
  /// @throws InvalidArgumentError  the source is missing, empty, too long, readable by others, or not of Kind::Pin.
  /// Blocking: as long as the callback does.
  [[nodiscard]] SecretBytes read(const TokenSelector& token) const;

 private:
  PinSource(Kind kind, Callback read) : kind_(kind), read_(std::move(read)) {}

  Kind kind_;
  Callback read_;
};

}  // namespace hsmseal
