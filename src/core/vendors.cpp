#include <hsmseal/vendors.hpp>

#include <algorithm>

#include "core/vendor_paths.hpp"

namespace hsmseal {
namespace {

using enum IvRule;
using enum GcmParameters;

// A fact is here only if its source names it; what no source names is probed. "run here" is said of what hsmseal's tests
// show with the versions under `ran`, and of nothing else. Where to find the sources: "owner/repository issue n" is on
// GitHub, and a file after a repository's name is in that repository.

constexpr std::string_view kRunHere = "run here";

constexpr GcmForm kCallers{Caller, 12, 0x1087, WithIvBits};

// A form in which the token makes the IV stands only where the vendor says that its token takes no other. A token that
// takes any would encrypt under the zeros, or the nothing, that it is given.

std::vector<Vendor> cloud_services() {
  return {
      {.alias = "azurecloudhsm",
       .name = "Azure Cloud HSM",
       .login = {{LoginStyle::UserPassword, "Microsoft, Azure Cloud HSM: Authentication"}}},
      {.alias = "cloudhsm",
       .name = "AWS CloudHSM, Client SDK 5",
       .login = {{LoginStyle::UserPassword, "AWS CloudHSM user guide, Authenticate to the PKCS #11 library"}},
       // Not CKM_CLOUDHSM_AES_GCM: it wants no buffer, and decrypts what it made as one piece, with the IV in front.
       .gcm_forms = {{{TokenWrites, 12, 0x1087, WithIvBits},
                      "AWS CloudHSM user guide, Supported mechanisms for the PKCS #11 library (SDK 5), note 1; "
                      "aws-samples/aws-cloudhsm-pkcs11-examples, src/encrypt/aes_gcm.c"}},
       .max_plaintext = {{16224,
                          "AWS CloudHSM user guide, Supported mechanisms for the PKCS #11 library (SDK 5), "
                          "Maximum data size"}},
       .note = "the HSM makes every IV and writes it into a buffer of zeros"},
      {.alias = "kmsp11",
       .name = "Google Cloud KMS, libkmsp11",
       .login = {{LoginStyle::None, "GoogleCloudPlatform/kms-integrations, kmsp11/docs/user_guide.md, C_Login"}},
       .start_up = {{"the path of its configuration file, which only its owner may write",
                     "GoogleCloudPlatform/kms-integrations, kmsp11/docs/user_guide.md, Configuration"}},
       .environment = {{"KMS_PKCS11_CONFIG: the path of its configuration file; GRPC_ENABLE_FORK_SUPPORT: 1 for "
                        "programs that fork",
                        "GoogleCloudPlatform/kms-integrations, kmsp11/docs/user_guide.md and apache_ssl_setup.md"}},
       .gcm_forms = {{{TokenWrites, 12, 0x8001e101, WithIvBits},
                      "GoogleCloudPlatform/kms-integrations, kmsp11/kmsp11.h (CKM_CLOUDKMS_AES_GCM) and "
                      "kmsp11/operation/aes_gcm.cc"}},
       .max_plaintext = {{65536, "GoogleCloudPlatform/kms-integrations, kmsp11/operation/aes_gcm.cc"}},
       .note = "has no usual place; makes keys only from templates of its own, so make the key in Cloud KMS "
               "(AES-256-GCM, raw encryption) and adopt it"},
  };
}

std::vector<Vendor> network_hsms() {
  return {
      {.alias = "dinamo",
       .name = "Dinamo HSM",
       .login = {{LoginStyle::UserPasswordAddress,
                  "Dinamo Networks, PKCS#11: Configuration, DFENCE_PKCS11_SPECIAL_PWD"}},
       .environment = {{"DFENCE_PKCS11_IP, DFENCE_PKCS11_USER: the HSM and the user; DFENCE_PKCS11_SPECIAL_PWD: 1 for "
                        "a PIN of the form user:password@ip, otherwise it is the password alone; "
                        "DFENCE_PKCS11_AUTO_RECONNECT: 1 to connect anew by itself",
                        "Dinamo Networks, PKCS#11: Configuration"}},
       .note = "its variables are read when the driver starts; up to 16 HSMs are balanced behind one slot"},
      {.alias = "futurex", .name = "Futurex"},
      {.alias = "luna",
       .name = "Thales Luna",
       .environment = {{"ChrystokiConfigurationPath: the folder of Chrystoki.conf, instead of /etc",
                        "ThalesGroup/pycryptoki, pycryptoki/defaults.py"}},
       .gcm_forms = {{kCallers, "Thales Luna documentation, CKM_AES_GCM: HSM not in FIPS mode"},
                     {{Caller, 12, 0x1087, WithoutIvBits},
                      "Pkcs11Interop/Pkcs11Interop issue 126; miekg/pkcs11 issue 83"}},
       .restart = {{DriverRestart::WhenOwner, "Luna SDK reference 6.2.2, HA: all members lost"}},
       .note = "not in FIPS mode; in FIPS mode use luna-fips"},
      {.alias = "luna-fips",
       .name = "Thales Luna in FIPS mode",
       .environment = {{"ChrystokiConfigurationPath: the folder of Chrystoki.conf, instead of /etc",
                        "ThalesGroup/pycryptoki, pycryptoki/defaults.py"}},
       .gcm_forms = {{{TokenAppends, 16, 0x1087, WithIvBits},
                      "Thales Luna documentation, CKM_AES_GCM: HSM in FIPS mode; openstack/barbican, "
                      "barbican/plugin/crypto/pkcs11.py"},
                     {{TokenAppends, 12, 0x1087, WithIvBits},
                      "Thales Luna documentation, CKM_AES_GCM: firmware 7.9.3 and newer, table of IvLen and IvBits"}},
       .restart = {{DriverRestart::WhenOwner, "Luna SDK reference 6.2.2, HA: all members lost"}},
       .note = "the HSM makes every IV (policy 12: non-FIPS algorithms are not allowed)"},
      {.alias = "nshield",
       .name = "Entrust nShield",
       .environment = {{"CKNFAST_ASSUME_SINGLE_PROCESS: 0 lets keys of other processes be seen; CKNFAST_LOADSHARING: "
                        "1 to use several modules; NFAST_HOME; also in the file cknfastrc",
                        "Entrust nShield Security World 13.6.3, PKCS #11: environment variables"}},
       .has_gcm = {{true, "Entrust nShield Security World 13.6.3, PKCS #11: mechanisms"}},
       .note = "without CKNFAST_ASSUME_SINGLE_PROCESS=0 a host sees only the keys that were there when it started"},
      {.alias = "primus",
       .name = "Securosys Primus HSM",
       .environment = {{"SECUROSYS_PKCS11_CONF: the path of primus.cfg; SECUROSYS_SECRETS_CONF: that of .secrets.cfg",
                        "Securosys, PKCS#11 provider: Configuration"}}},
      {.alias = "proteccio", .name = "Bull Trustway Proteccio"},
      {.alias = "protectserver",
       .name = "Thales ProtectServer",
       .gcm_forms = {{kCallers, "Thales ProtectToolkit documentation, CKM_AES_GCM (7.1.0 and newer)"}},
       .note =
           "in FIPS mode it takes no caller's IV: give SetSpec::gcm with TokenWrites, on ProtectToolkit 7.1 or newer"},
      {.alias = "trident", .name = "I4P Trident HSM"},
      {.alias = "utimaco",
       .name = "Utimaco CryptoServer, u.trust",
       .environment = {{"CS_PKCS11_R3_CFG, CS_PKCS11_R2_CFG: the path of cs_pkcs11_R3.cfg or cs_pkcs11_R2.cfg, instead "
                        "of the one in /etc/utimaco",
                        "published set-ups that agree; Keyfactor, EJBCA documentation, Utimaco CryptoServer"}},
       .note = "its AppTimeout ends idle sessions after 30 minutes, unless its configuration says more"},
  };
}

std::vector<Vendor> devices() {
  return {
      {.alias = "tpm2",
       .name = "TPM 2.0, tpm2-pkcs11",
       .environment = {{"TPM2_PKCS11_STORE: the folder of its database",
                        "tpm2-software/tpm2-pkcs11, docs/INITIALIZING.md"}},
       .has_gcm = {{false, "tpm2-software/tpm2-pkcs11 issue 640"}}},
      {.alias = "yubihsm2",
       .name = "YubiHSM 2",
       .login = {{LoginStyle::KeyIdPassword, "Yubico, PKCS#11 with YubiHSM 2: Logging In"}},
       .start_up = {{"its options, such as connector=http://127.0.0.1:12345",
                     "Yubico, PKCS#11 with YubiHSM 2: Configuration"}},
       .environment = {{"YUBIHSM_PKCS11_CONF: the path of its configuration file",
                        "Yubico, PKCS#11 with YubiHSM 2: Configuration"}},
       .has_gcm = {{false, "CertAutoPilot documentation, PKCS#11 vendors; Yubico, PKCS#11 with YubiHSM 2"}},
       .max_sessions = {{16, "Yubico, YubiHSM 2 concepts: Session; Yubico/yubihsm-shell issue 379"}},
       .restart = {{DriverRestart::WhenOwner, "Yubico/yubihsm-shell issue 541"}},
       .note = "the device ends sessions that are idle for 30 s: set SessionLimits::keep_alive below that"},
  };
}

std::vector<Vendor> software_tokens() {
  return {
      {.alias = "kryoptic",
       .name = "Kryoptic",
       .environment = {{"KRYOPTIC_CONF: the path of its configuration file",
                        "latchset/pkcs11-provider, tests/kryoptic-init.sh"}},
       .gcm_forms = {{kCallers, "mingulov/pkcs11-check, docs/mechanism-output-parameters.md"}}},
      {.alias = "nss",
       .name = "NSS softokn",
       .start_up = {{"its parameters, such as configdir='sql:/etc/pki/nssdb' certPrefix='' keyPrefix='' "
                     "secmod='secmod.db' flags=",
                     "Mozilla, NSS reference: FC_Initialize, and PKCS #11 Module Specs"}},
       .gcm_forms = {{kCallers, "mingulov/pkcs11-check, docs/mechanism-output-parameters.md"}},
       .note = "needs its start-up string; of its two tokens, select the certificate database, which has a login"},
      {.alias = "opencryptoki",
       .name = "openCryptoki",
       .evidence = Evidence::Run,
       .ran = "soft token of 3.8.1 and 3.23.0",
       .login = {{LoginStyle::Pin, kRunHere}},
       .gcm_forms = {{kCallers, "run here, soft token of 3.23.0"}},
       .restart = {{DriverRestart::Never,
                    "run here, 3.23.0: its event thread crashes after C_Finalize while threads run"}},
       .note = "callers must be in the group pkcs11; the soft token of 3.8 (Debian 12) has no AES-GCM"},
      {.alias = "softhsm2",
       .name = "SoftHSM 2",
       .evidence = Evidence::Run,
       .ran = "2.6.1",
       .login = {{LoginStyle::Pin, kRunHere}},
       .environment = {{"SOFTHSM2_CONF: the path of its configuration file", kRunHere}},
       .gcm_forms = {{kCallers, kRunHere}},
       .restart = {{DriverRestart::WhenOwner, kRunHere}},
       .note = "for tests: its keys are files"},
  };
}

std::vector<Vendor> table() {
  std::vector<Vendor> all;
  for (auto&& part : {cloud_services(), network_hsms(), devices(), software_tokens()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  for (Vendor& vendor : all) {
    if (const core::VendorPaths* const paths = core::vendor_paths(vendor.alias)) {
      vendor.library_paths.assign(paths->library_paths.begin(), paths->library_paths.end());
      vendor.library_source = paths->source;
    }
  }
  std::ranges::sort(all, {}, &Vendor::alias);
  return all;
}

}  // namespace

const std::vector<Vendor>& vendors() {
  static const auto* const all = new std::vector<Vendor>{table()};  // not destroyed: exit handlers may ask, too
  return *all;
}

const Vendor* find_vendor(std::string_view alias) {
  const auto found = std::ranges::find(vendors(), alias, &Vendor::alias);
  return found == vendors().end() ? nullptr : &*found;
}

}  // namespace hsmseal
