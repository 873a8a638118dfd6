#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal::test {

/// Runs a command line and fails the test if it fails.
void run(const std::string& command_line);

/// What a private directory is for: some systems forbid to run code from where there is memory for data.
enum class DirectoryUse {
  Data,       ///< in memory where there is some
  Disk,       ///< not in memory, for what takes its time there
  Libraries,  ///< where code may be loaded from
};

/// A private directory, removed with all it holds at the end.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(DirectoryUse use = DirectoryUse::Data);
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Leaves it to somebody else, who removes it. @returns where it is.
  std::filesystem::path leave() { return std::exchange(path_, {}); }

 private:
  std::filesystem::path path_;
};

/// A SoftHSM with tokens of its own, in a private directory that goes with this object, so that test programs run side
/// by side. Each token has a random PIN.
class SoftHsm {
 public:
  /// The one that tests share which leave nothing behind. Its tokens are "one", "two", "pins", and two that are both
  /// labelled "twin". Made at the first call, which also loads its driver and points SOFTHSM2_CONF to it. Fails the
  /// test if SoftHSM is not installed.
  static SoftHsm& instance();

  /// Makes tokens with these labels; no driver is loaded.
  explicit SoftHsm(const std::vector<std::string>& labels, DirectoryUse where = DirectoryUse::Data);
  SoftHsm(const SoftHsm&) = delete;
  SoftHsm& operator=(const SoftHsm&) = delete;

  /// A token with its PIN from a file.
  [[nodiscard]] TokenBinding binding(const std::string& label) const;
  /// A host on which all tokens but twins are bound under their labels.
  [[nodiscard]] Host host() const;
  [[nodiscard]] std::shared_ptr<Pkcs11Module> module() const;
  /// What SOFTHSM2_CONF must be for these tokens.
  [[nodiscard]] const std::filesystem::path& conf() const { return conf_; }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_.path(); }
  [[nodiscard]] static std::filesystem::path library();
  [[nodiscard]] const std::vector<std::string>& labels() const { return labels_; }
  [[nodiscard]] std::string pin(const std::string& label) const;
  /// A new file in the private directory, mode 600.
  std::filesystem::path write_file(const std::string& name, const std::string& content) const;

  /// Makes a secret key with pkcs11-tool, as an operator would. `options` such as "--sensitive --private".
  void make_key_with_pkcs11_tool(const std::string& token, const std::string& label, const std::string& id_hex,
                                 const std::string& options, const std::string& key_type = "AES:32") const;
  /// Destroys a secret key with pkcs11-tool.
  void destroy_key_with_pkcs11_tool(const std::string& token, const std::string& id_hex) const;
  /// Puts a known AES key into a token with softhsm2-util. Zeros and line feeds in it would end it.
  void import_aes_key(const std::string& token, const std::string& label, const std::string& id_hex,
                      ByteView key) const;

 private:
  void run_tool(const std::string& command_line) const;

  ScratchDirectory directory_;
  std::filesystem::path conf_;
  std::vector<std::string> labels_;
  std::map<std::string, std::string> pins_;
};

}  // namespace hsmseal::test
