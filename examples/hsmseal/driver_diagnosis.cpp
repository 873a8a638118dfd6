#include <array>
#include <fstream>
#include <regex>
#include <utility>

#include <hsmseal/error.hpp>
#include <hsmseal/token_error.hpp>

#include "diagnosis.hpp"
#include "system.hpp"
#include "words.hpp"

namespace tool {
namespace {

/// The class and the machine of an ELF file, as its header has them; nothing if it is none.
struct Machine {
  unsigned char bits = 0;
  std::array<char, 2> number{};
  bool operator==(const Machine&) const = default;
};

std::optional<Machine> machine_of(const std::filesystem::path& path) {
  constexpr std::size_t kClass = 4, kMachine = 18;
  std::array<char, 20> header{};
  std::ifstream file{path, std::ios::binary};
  if (!file.read(header.data(), header.size()) || std::string_view{header.data(), 4} !=
                                                      "\x7f"
                                                      "ELF")
    return std::nullopt;
  return Machine{static_cast<unsigned char>(header[kClass]), {header[kMachine], header[kMachine + 1]}};
}

/// What a library's file shows before it is loaded.
bool is_for_this_machine(const std::filesystem::path& library, const std::string& subject, Findings& findings) {
  const auto own = machine_of("/proc/self/exe");
  std::error_code ignored;
  if (!own || !std::filesystem::is_regular_file(library, ignored)) return true;  // the library says what is wrong
  const auto its = machine_of(library);
  if (!its) {
    findings.problem(subject, fmt::format("'{}' is no library at all", library.string()),
                     "give the vendor's PKCS#11 library, a .so file");
    return false;
  }
  if (*its == *own) return true;
  findings.problem(
      subject, fmt::format("'{}' is for another kind of machine than hsmseal", library.string()),
      fmt::format("install the vendor's client for {}-bit programs of this machine", own->bits == 2 ? 64 : 32));
  return false;
}

std::string cure_of_start(const HostToken& token, const std::filesystem::path& library) {
  if (library.string().find("opencryptoki") != std::string::npos) {
    return "start openCryptoki's daemon (systemctl start pkcsslotd) and be in the group pkcs11";
  }
  if (library.string().find("softhsm") != std::string::npos) {
    const std::string conf = environment("SOFTHSM2_CONF");
    return fmt::format("{} must be a readable configuration whose directories.tokendir is a folder of yours",
                       conf.empty() ? "SOFTHSM2_CONF is not set, so /etc/softhsm/softhsm2.conf"
                                    : fmt::format("SOFTHSM2_CONF names '{}', which", conf));
  }
  std::string cure = "check the driver's own configuration";
  if (const hsmseal::Vendor* vendor = hsmseal::find_vendor(token.driver); vendor != nullptr) {
    if (vendor->environment) cure += fmt::format("; it reads {}", vendor->environment->value);
    if (vendor->start_up) cure += fmt::format("; its start_up is {}", vendor->start_up->value);
  }
  return cure;
}

void tell_load_failure(const std::exception& error, const std::filesystem::path& library, const std::string& subject,
                       Findings& findings) {
  static const std::regex kMissing{R"(cannot be loaded: (\S+): cannot open shared object file)"};
  std::smatch match;
  const std::string message = error.what();
  if (std::regex_search(message, match, kMissing)) {
    findings.problem(
        subject, fmt::format("'{}' needs the library {}, which is not found", library.string(), match[1].str()),
        fmt::format("install the package that has it, or name its folder in LD_LIBRARY_PATH; ldd '{}' lists "
                    "all that is missing",
                    library.string()));
    return;
  }
  findings.problem(subject, error, "give the vendor's PKCS#11 library");
}

}  // namespace

std::shared_ptr<hsmseal::Pkcs11Module> diagnose_driver(const HostFile& host, const HostToken& token,
                                                       const Patience& patience, Findings& findings) {
  const std::string subject = fmt::format("{}, driver '{}'", name_of(token), token.driver);
  hsmseal::DriverOptions options;
  try {
    options = host.host().driver_for(token.binding);
  } catch (const hsmseal::InvalidArgumentError& error) {
    findings.problem(subject, error, "install the vendor's client");
    return nullptr;
  }
  if (!is_for_this_machine(options.library, subject, findings)) return nullptr;
  try {
    const auto [module, info] = patience.call("C_Initialize and C_GetInfo", [options] {
      auto loaded = hsmseal::Pkcs11Module::load(options);
      auto shown = loaded->info();
      return std::pair{std::move(loaded), std::move(shown)};
    });
    findings.good(subject, fmt::format("'{}': {} {}.{}, of {}, Cryptoki {}.{}", options.library.string(),
                                       info.description, info.library_major, info.library_minor, info.manufacturer,
                                       info.cryptoki_major, info.cryptoki_minor));
    return module;
  } catch (const hsmseal::TokenError& error) {
    findings.problem(subject, split(error.what()).what, cure_of_start(token, options.library));
  } catch (const hsmseal::InvalidArgumentError& error) {
    tell_load_failure(error, options.library, subject, findings);
  }
  return nullptr;
}

}  // namespace tool
