#pragma once

#include <memory>
#include <string>

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal::test {

/// When what a test says in namespaces of its own is passed on.
enum class OutputOf {
  Failures,  ///< if it fails
  Always,    ///< in any case: it has something to show
};

/// Whether its token was initialised.
enum class Initialized { Yes, No };

/// An openCryptoki with a soft token and a daemon of its own, as Debian 12 (3.8) or Debian 13 (3.23) has it.
///
/// The daemon has fixed paths and names, so it lives in namespaces of its own (mount, IPC and process numbers), where
/// nothing is left of it at the end. A test that uses it begins with
///
///     if (OpenCryptoki::ran_in_namespaces()) return;
///
/// All of this needs root.
class OpenCryptoki {
 public:
  static constexpr const char* kLabel = "ocktok";

  /// Runs the test that is running now again, in namespaces of its own, and fails if that fails.
  ///
  /// Without root, namespaces or openCryptoki it says so and runs nothing; it fails then if HSMSEAL_REQUIRE_ALL is 1.
  /// @returns whether there is nothing left to do: false in the namespaces.
  [[nodiscard]] static bool ran_in_namespaces(OutputOf shown = OutputOf::Failures);

  /// Starts the daemon and initialises the token, or leaves it blank; in the namespaces alone.
  explicit OpenCryptoki(Initialized token = Initialized::Yes);
  OpenCryptoki(const OpenCryptoki&) = delete;
  OpenCryptoki& operator=(const OpenCryptoki&) = delete;
  ~OpenCryptoki() = default;  // the daemon ends with the namespaces

  void start_daemon() const;
  /// Ends it with SIGKILL, with its socket and its shared memory left behind.
  void kill_daemon() const;

  [[nodiscard]] std::shared_ptr<Pkcs11Module> module() const;
  [[nodiscard]] TokenBinding binding() const;
  [[nodiscard]] const std::string& pin() const { return pin_; }
  /// "3.8" or "3.23".
  [[nodiscard]] std::string version() const;
  /// Destroys a secret key with pkcs11-tool, as others would.
  void destroy_key_with_pkcs11_tool(const std::string& id_hex) const;
  /// A PIN that the token counts as wrong.
  [[nodiscard]] std::string wrong_pin() const;

 private:
  std::string pin_;
};

}  // namespace hsmseal::test
