#include "support/softhsm.hpp"

#include <cstdlib>
#include <fstream>
#include <random>
#include <stdexcept>

#include <fmt/format.h>
#include <unistd.h>

namespace hsmseal::test {
namespace {

std::filesystem::path make_private_directory() {
  std::string name = (::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path().string()) +
                     "/hsmseal-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no private directory for tests: " + name);
  return name;
}

std::string random_digits() {
  std::random_device random;
  return fmt::format("{:08}", random() % 100'000'000);
}

void remove_quietly(const std::filesystem::path& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

}  // namespace

void run(const std::string& command_line) {
  if (std::system(command_line.c_str()) != 0) throw std::runtime_error("this failed: " + command_line);
}

ScratchDirectory::ScratchDirectory() : path_(make_private_directory()) {}
ScratchDirectory::~ScratchDirectory() { remove_quietly(path_); }

SoftHsm& SoftHsm::instance() {
  static SoftHsm softhsm;
  return softhsm;
}

SoftHsm::SoftHsm() : directory_(make_private_directory()) {
  std::filesystem::create_directory(directory_ / "tokens");
  const auto conf = write_file("softhsm2.conf", fmt::format("directories.tokendir = {}\nobjectstore.backend = file\n"
                                                            "log.level = ERROR\nslots.removable = false\n",
                                                            (directory_ / "tokens").string()));
  ::setenv("SOFTHSM2_CONF", conf.c_str(), 1);
  for (const char* label : {"one", "two", "pins", "twin", "twin"}) init_token(label);
}

SoftHsm::~SoftHsm() { remove_quietly(directory_); }

void SoftHsm::init_token(const std::string& label) {
  const std::string pin = pins_.try_emplace(label, random_digits()).first->second;
  run(fmt::format("softhsm2-util --init-token --free --label {} --so-pin {} --pin {} > /dev/null", label,
                  random_digits(), pin));
  write_file(label + ".pin", pin + "\n");
}

std::filesystem::path SoftHsm::write_file(const std::string& name, const std::string& content) const {
  const auto path = directory_ / name;
  std::ofstream(path) << content;
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  return path;
}

std::filesystem::path SoftHsm::library() { return Host{}.driver_for({.driver = "softhsm2", .select = {}}).library; }

TokenBinding SoftHsm::binding(const std::string& label) const {
  return {.driver = "softhsm2", .select = {.label = label}, .pin = PinSource::file(directory_ / (label + ".pin"))};
}

Host SoftHsm::host() const {
  Host host;
  for (const char* label : {"one", "two", "pins"}) host.token(label, binding(label));
  return host;
}

std::shared_ptr<Pkcs11Module> SoftHsm::module() const { return Pkcs11Module::load({.library = library()}); }

std::string SoftHsm::pin(const std::string& label) const { return pins_.at(label); }

void SoftHsm::make_key_with_pkcs11_tool(const std::string& token, const std::string& label, const std::string& id_hex,
                                        const std::string& options) const {
  run(fmt::format(
      "pkcs11-tool --module {} --token-label {} --login --pin {} --keygen --key-type AES:32 --label {} --id {} "
      "{} > /dev/null 2>&1",
      library().string(), token, pin(token), label, id_hex, options));
}

void SoftHsm::destroy_key_with_pkcs11_tool(const std::string& token, const std::string& id_hex) const {
  run(
      fmt::format("pkcs11-tool --module {} --token-label {} --login --pin {} --delete-object --type secrkey --id {} "
                  "> /dev/null 2>&1",
                  library().string(), token, pin(token), id_hex));
}

}  // namespace hsmseal::test
