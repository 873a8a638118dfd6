#include "core/vendor_paths.hpp"

#include <algorithm>
#include <iterator>

namespace hsmseal::core {
namespace {

using Path = std::string_view;

// A path is here only if a source names it in full. That is why an alias may be missing on a platform that its vendor
// supports, and why names without a folder, which are searched for along the loader's path, are not used.

#if defined(_WIN32)

constexpr Path kAzureCloudHsm[] = {
    R"(C:\Program Files\Microsoft Azure Cloud HSM Client SDK\libs\pkcs11\azcloudhsm_pkcs11.dll)"};
constexpr Path kCloudHsm[] = {R"(C:\Program Files\Amazon\CloudHSM\lib\cloudhsm_pkcs11.dll)"};
constexpr Path kLuna[] = {R"(C:\Program Files\SafeNet\LunaClient\cryptoki.dll)"};
constexpr Path kNshield[] = {R"(C:\Program Files\nCipher\nfast\toolkits\pkcs11\cknfast.dll)"};
constexpr Path kPrimus[] = {R"(C:\Program Files\Securosys\Primus P11\primusP11.dll)"};
#if defined(_WIN64)
constexpr Path kSoftHsm2[] = {R"(C:\SoftHSM2\lib\softhsm2-x64.dll)"};
#else
constexpr Path kSoftHsm2[] = {R"(C:\SoftHSM2\lib\softhsm2.dll)"};
#endif
constexpr Path kUtimaco[] = {
    R"(C:\Program Files\Utimaco\CryptoServer\Lib\cs_pkcs11_R3.dll)",
    R"(C:\Program Files\Utimaco\SafeGuard CryptoServer\Lib\cs2_pkcs11.dll)",
};
constexpr Path kYubiHsm2[] = {R"(C:\Program Files\Yubico\YubiHSM Shell\bin\pkcs11\yubihsm_pkcs11.dll)"};

constexpr VendorPaths kPaths[] = {
    {"azurecloudhsm", kAzureCloudHsm, "Azure Cloud HSM PKCS#11 Integration Guide, as quoted by Pkcs11Wrapper"},
    {"cloudhsm", kCloudHsm, "AWS CloudHSM PKCS#11 examples, src/common/common.c"},
    {"luna", kLuna, "ThalesGroup/luna-samples, Node-PKCS11_Samples/README.md"},
    {"luna-fips", kLuna, "ThalesGroup/luna-samples, Node-PKCS11_Samples/README.md"},
    {"nshield", kNshield, "published samples that agree (python-pkcs11, Pkcs11Interop); Entrust names the file only"},
    {"primus", kPrimus, "Securosys documentation, integration guides for PKCS#11"},
    {"softhsm2", kSoftHsm2, "disig/SoftHSM2-for-Windows, WiX/SoftHSM2/Product.wxs"},
    {"utimaco", kUtimaco, "published samples that agree, for R3; EJBCA, src/java/defaultvalues.properties"},
    {"yubihsm2", kYubiHsm2, "Yubico, Configuring YubiHSM 2 for Java code signing"},
};

#elif defined(__APPLE__)

constexpr Path kSoftHsm2[] = {"/opt/homebrew/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"};
constexpr Path kYubiHsm2[] = {"/usr/local/lib/pkcs11/yubihsm_pkcs11.dylib"};

constexpr VendorPaths kPaths[] = {
    {"softhsm2", kSoftHsm2, "Homebrew formula softhsm; published set-ups that agree on both of its prefixes"},
    {"yubihsm2", kYubiHsm2, "Yubico/yubihsm-shell, resources/release/macos/shell/make_installer.sh"},
};

#else

constexpr Path kAzureCloudHsm[] = {"/opt/azurecloudhsm/lib64/libazcloudhsm_pkcs11.so"};
constexpr Path kCloudHsm[] = {"/opt/cloudhsm/lib/libcloudhsm_pkcs11.so"};
constexpr Path kDinamo[] = {"/usr/lib64/libtacndp11.so", "/usr/lib/libtacndp11.so"};
constexpr Path kFuturex[] = {"/opt/fxpkcs11/x64/OpenSSL-3.x/libfxpkcs11.so"};
constexpr Path kKryoptic[] = {"/usr/lib64/pkcs11/libkryoptic_pkcs11.so"};
constexpr Path kLuna[] = {
    "/usr/safenet/lunaclient/lib/libCryptoki2_64.so",
    "/usr/lunasa/lib/libCryptoki2_64.so",
    "/usr/lunapci/lib/libCryptoki2_64.so",
    "/usr/lib/libCryptoki2_64.so",
};
constexpr Path kNshield[] = {"/opt/nfast/toolkits/pkcs11/libcknfast.so"};
constexpr Path kNss[] = {
    "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
    "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
};
constexpr Path kOpenCryptoki[] = {
    "/usr/lib/x86_64-linux-gnu/opencryptoki/libopencryptoki.so.0",
    "/usr/lib/s390x-linux-gnu/opencryptoki/libopencryptoki.so.0",
    "/usr/lib/aarch64-linux-gnu/opencryptoki/libopencryptoki.so.0",
    "/usr/lib64/opencryptoki/libopencryptoki.so",
};
constexpr Path kPrimus[] = {"/usr/local/primus/lib/libprimusP11.so", "/opt/primus/lib/libprimusP11.so"};
constexpr Path kProteccio[] = {"/usr/lib64/libnethsm64.so"};
constexpr Path kProtectServer[] = {
    "/opt/safenet/protecttoolkit7/ptk/lib/libcryptoki.so",
    "/opt/safenet/protecttoolkit5/ptk/lib/libcryptoki.so",
};
constexpr Path kSoftHsm2[] = {
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/s390x-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
};
constexpr Path kTpm2[] = {
    "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib64/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib/pkcs11/libtpm2_pkcs11.so",
};
constexpr Path kTrident[] = {"/usr/lib/x86_64-linux-gnu/libmpcm-pkcs11.so", "/usr/lib64/libmpcm-pkcs11.so"};
constexpr Path kUtimaco[] = {
    "/opt/utimaco/lib/libcs_pkcs11_R3.so",
    "/opt/utimaco/p11/libcs_pkcs11_R2.so",
    "/etc/utimaco/libcs_pkcs11_R2.so",
};
constexpr Path kYubiHsm2[] = {
    "/usr/lib/x86_64-linux-gnu/pkcs11/yubihsm_pkcs11.so",
    "/usr/lib64/pkcs11/yubihsm_pkcs11.so",
};

constexpr VendorPaths kPaths[] = {
    {"azurecloudhsm", kAzureCloudHsm, "Microsoft, Azure Cloud HSM documentation"},
    {"cloudhsm", kCloudHsm, "AWS CloudHSM PKCS#11 examples, src/common/common.c"},
    {"dinamo", kDinamo, "hablutzel1/docker-ejbca-hsm-driver-free-dinamo, Dockerfile; published pkcs11-tool scripts"},
    {"futurex", kFuturex, "EJBCA, src/java/defaultvalues.properties"},
    {"kryoptic", kKryoptic, "latchset/kryoptic, packaging/kryoptic.spec"},
    {"luna", kLuna, "EJBCA, src/java/defaultvalues.properties; Cloudflare documentation, Keyless SSL"},
    {"luna-fips", kLuna, "EJBCA, src/java/defaultvalues.properties; Cloudflare documentation, Keyless SSL"},
    {"nshield", kNshield, "EJBCA, src/java/defaultvalues.properties"},
    {"nss", kNss, "Debian 12 package libnss3"},
    {"opencryptoki", kOpenCryptoki, "Debian 12 package libopencryptoki0; opencryptoki, rpm/opencryptoki.spec"},
    {"primus", kPrimus, "EJBCA, src/java/defaultvalues.properties; Securosys documentation"},
    {"proteccio", kProteccio, "EJBCA, src/java/defaultvalues.properties"},
    {"protectserver", kProtectServer, "EJBCA, src/java/defaultvalues.properties"},
    {"softhsm2", kSoftHsm2, "Debian 12 package libsofthsm2; EJBCA, src/java/defaultvalues.properties"},
    {"tpm2", kTpm2, "Debian 12 package libtpm2-pkcs11-1; Arch Linux package tpm2-pkcs11; published set-ups on Fedora"},
    {"trident", kTrident, "EJBCA, src/java/defaultvalues.properties"},
    {"utimaco", kUtimaco, "EJBCA, src/java/defaultvalues.properties"},
    {"yubihsm2", kYubiHsm2, "EJBCA, src/java/defaultvalues.properties; Dogtag PKI wiki, YubiHSM"},
};

#endif

}  // namespace

const VendorPaths* vendor_paths(std::string_view alias) noexcept {
  const auto* const found = std::find_if(std::begin(kPaths), std::end(kPaths),
                                         [&](const VendorPaths& paths) { return paths.alias == alias; });
  return found == std::end(kPaths) ? nullptr : found;
}

std::span<const VendorPaths> all_vendor_paths() noexcept { return kPaths; }

}  // namespace hsmseal::core
