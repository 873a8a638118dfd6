#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal::test {

/// A SoftHSM of this test program's own, in a private directory that goes with the program, so that test programs run
/// side by side. Its tokens are made before the driver is loaded: "one", "two", "pins" (for wrong PINs), and two that
/// are both labelled "twin".
class SoftHsm {
 public:
  /// Makes it at the first call, and points SOFTHSM2_CONF to it. Fails the test if SoftHSM is not installed.
  static SoftHsm& instance();

  SoftHsm(const SoftHsm&) = delete;
  SoftHsm& operator=(const SoftHsm&) = delete;
  ~SoftHsm();

  /// A token with its PIN from a file.
  [[nodiscard]] TokenBinding binding(const std::string& label) const;
  /// A host on which all tokens but the twins are bound under their labels.
  [[nodiscard]] Host host() const;
  [[nodiscard]] std::shared_ptr<Pkcs11Module> module() const;
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  [[nodiscard]] static std::filesystem::path library();
  [[nodiscard]] std::string pin(const std::string& label) const;
  /// A new file in the private directory, mode 600.
  std::filesystem::path write_file(const std::string& name, const std::string& content) const;

  /// Makes an AES key with pkcs11-tool, as an operator would. `options` such as "--sensitive --usage-decrypt".
  void make_key_with_pkcs11_tool(const std::string& token, const std::string& label, const std::string& id_hex,
                                 const std::string& options) const;
  /// Destroys a secret key with pkcs11-tool.
  void destroy_key_with_pkcs11_tool(const std::string& token, const std::string& id_hex) const;

 private:
  SoftHsm();
  void init_token(const std::string& label);

  std::filesystem::path directory_;
  std::map<std::string, std::string> pins_;
};

/// Runs a command line and fails the test if it fails.
void run(const std::string& command_line);

/// A private directory, in memory where there is some, removed with all it holds at the end.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace hsmseal::test
