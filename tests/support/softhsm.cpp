#include "support/softhsm.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>
#include <stdexcept>

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace hsmseal::test {
namespace {

bool serves(const std::filesystem::path& folder, DirectoryUse use) {
  if (use == DirectoryUse::Disk) return false;
  struct statvfs status {};
  if (::access(folder.c_str(), W_OK) != 0 || ::statvfs(folder.c_str(), &status) != 0) return false;
  return use == DirectoryUse::Data || (status.f_flag & ST_NOEXEC) == 0;
}

std::filesystem::path make_private_directory(DirectoryUse use) {
  const std::filesystem::path memory = "/dev/shm";
  const auto parent = serves(memory, use) ? memory : std::filesystem::temp_directory_path();
  std::string name = (parent / "hsmseal-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no private directory for tests: " + name);
  return name;
}

std::string random_digits() {
  std::random_device random;
  return fmt::format("{:08}", random() % 100'000'000);
}

}  // namespace

void run(const std::string& command_line) {
  if (std::system(command_line.c_str()) != 0) throw std::runtime_error("this failed: " + command_line);
}

ScratchDirectory::ScratchDirectory(DirectoryUse use) : path_(make_private_directory(use)) {}

ScratchDirectory::~ScratchDirectory() {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

SoftHsm& SoftHsm::instance() {
  static SoftHsm softhsm{{"one", "two", "pins", "twin", "twin"}};
  static const bool loaded = [] {
    // At once, since another test may point the variable elsewhere for a driver of its own.
    ::setenv("SOFTHSM2_CONF", softhsm.conf().c_str(), 1);
    return softhsm.module() != nullptr;
  }();
  if (!loaded) throw std::runtime_error("SoftHSM is not loaded");
  return softhsm;
}

SoftHsm::SoftHsm(const std::vector<std::string>& labels, DirectoryUse where) : directory_(where), labels_(labels) {
  std::filesystem::create_directory(directory() / "tokens");
  conf_ = write_file("softhsm2.conf", fmt::format("directories.tokendir = {}\nobjectstore.backend = file\n"
                                                  "log.level = ERROR\nslots.removable = false\n",
                                                  (directory() / "tokens").string()));
  for (const std::string& label : labels) {
    const std::string pin = pins_.try_emplace(label, random_digits()).first->second;
    run_tool(
        fmt::format("softhsm2-util --init-token --free --label {} --so-pin {} --pin {}", label, random_digits(), pin));
    write_file(label + ".pin", pin + "\n");
  }
}

void SoftHsm::run_tool(const std::string& command_line) const {
  run(fmt::format("SOFTHSM2_CONF={} {} > /dev/null 2>&1", conf_.string(), command_line));
}

std::filesystem::path SoftHsm::write_file(const std::string& name, const std::string& content) const {
  const auto path = directory() / name;
  std::ofstream(path) << content;
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  return path;
}

std::filesystem::path SoftHsm::library() { return Host{}.driver_for({.driver = "softhsm2", .select = {}}).library; }

TokenBinding SoftHsm::binding(const std::string& label) const {
  return {.driver = "softhsm2", .select = {.label = label}, .pin = PinSource::file(directory() / (label + ".pin"))};
}

Host SoftHsm::host() const {
  Host host;
  for (const std::string& label : labels_) {
    if (std::ranges::count(labels_, label) == 1) host.token(label, binding(label));
  }
  return host;
}

std::shared_ptr<Pkcs11Module> SoftHsm::module() const { return Pkcs11Module::load({.library = library()}); }

std::string SoftHsm::pin(const std::string& label) const { return pins_.at(label); }

void SoftHsm::make_key_with_pkcs11_tool(const std::string& token, const std::string& label, const std::string& id_hex,
                                        const std::string& options, const std::string& key_type) const {
  run_tool(
      fmt::format("pkcs11-tool --module {} --token-label {} --login --pin {} --keygen --key-type {} --label {} --id "
                  "{} {}",
                  library().string(), token, pin(token), key_type, label, id_hex, options));
}

void SoftHsm::destroy_key_with_pkcs11_tool(const std::string& token, const std::string& id_hex) const {
  run_tool(
      fmt::format("pkcs11-tool --module {} --token-label {} --login --pin {} --delete-object --type secrkey --id {}",
                  library().string(), token, pin(token), id_hex));
}

void SoftHsm::import_aes_key(const std::string& token, const std::string& label, const std::string& id_hex,
                             ByteView key) const {
  const std::string content(reinterpret_cast<const char*>(key.data()), key.size());
  const auto file = write_file(label + ".key", content);
  run_tool(fmt::format("softhsm2-util --import {} --aes --token {} --pin {} --label {} --id {}", file.string(), token,
                       pin(token), label, id_hex));
}

}  // namespace hsmseal::test
