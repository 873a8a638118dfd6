#include <hsmseal/pkcs11_module.hpp>

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <hsmseal/error.hpp>

#include "pkcs11/driver.hpp"
#include "pkcs11/return_values.hpp"

namespace hsmseal {
namespace {

using pkcs11::Driver;

constexpr std::size_t kLongestList = 65'536;

/// Fills a list with a buffer that grows until the list fits: it may grow between two calls.
template <typename Item, typename Fill>
std::vector<Item> filled_list(std::string_view function, const std::string& token, const Fill& fill) {
  std::vector<Item> items(64);
  for (;;) {
    auto count = static_cast<CK_ULONG>(items.size());
    const CK_RV rv = fill(items.data(), &count);
    const bool too_small = rv == CKR_BUFFER_TOO_SMALL && items.size() < kLongestList;
    if (rv != CKR_OK && !too_small) pkcs11::throw_failure(function, rv, token);
    items.resize(too_small ? items.size() * 2 : std::min<std::size_t>(count, items.size()));
    if (!too_small) return items;
  }
}

std::vector<CK_SLOT_ID> slots_with_token(Driver& driver) {
  constexpr CK_BBOOL kWithToken = CK_TRUE;
  // Drivers look for slots that came or went only when they are asked for the length (PKCS#11 2.40 section 5.5). The
  // length itself is not used, so a failure here is the next call's to tell.
  CK_ULONG ignored = 0;
  driver.call(&CK_FUNCTION_LIST::C_GetSlotList, kWithToken, static_cast<CK_SLOT_ID*>(nullptr), &ignored);
  return filled_list<CK_SLOT_ID>("C_GetSlotList", "", [&](CK_SLOT_ID* items, CK_ULONG* count) {
    return driver.call(&CK_FUNCTION_LIST::C_GetSlotList, kWithToken, items, count);
  });
}

/// Those that are initialised, or those that are not.
std::vector<TokenInfo> tokens_of(Driver& driver, CK_FLAGS initialized) {
  std::vector<TokenInfo> tokens;
  for (const CK_SLOT_ID slot : slots_with_token(driver)) {
    CK_TOKEN_INFO info{};
    const CK_RV rv = driver.call(&CK_FUNCTION_LIST::C_GetTokenInfo, slot, &info);
    // One slot's trouble must not hide the other tokens; the token meant is then missing, and is said to be.
    if (rv == CKR_TOKEN_NOT_PRESENT || rv == CKR_TOKEN_NOT_RECOGNIZED || rv == CKR_DEVICE_REMOVED) continue;
    if (rv != CKR_OK) pkcs11::throw_failure("C_GetTokenInfo", rv, "");
    if ((info.flags & CKF_TOKEN_INITIALIZED) != initialized) continue;
    tokens.push_back({slot, pkcs11::unpadded(info.label), pkcs11::unpadded(info.serialNumber),
                      pkcs11::unpadded(info.model), pkcs11::unpadded(info.manufacturerID), info.flags,
                      info.ulMaxSessionCount});
  }
  return tokens;
}

bool matches(const TokenSelector& selector, const TokenInfo& token) {
  const auto agrees = [](const std::string& wanted, const std::string& found) {
    return wanted.empty() || wanted == found;
  };
  return agrees(selector.label, token.label) && agrees(selector.serial, token.serial) &&
         agrees(selector.model, token.model) && agrees(selector.manufacturer, token.manufacturer);
}

std::string name_all(const std::vector<TokenInfo>& tokens) {
  std::vector<std::string> names;
  names.reserve(tokens.size());
  for (const auto& token : tokens) names.push_back(fmt::format("'{}' (serial {})", token.label, token.serial));
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Pkcs11Module::Pkcs11Module(std::shared_ptr<Driver> driver) : driver_(std::move(driver)) {}
Pkcs11Module::~Pkcs11Module() = default;

std::shared_ptr<Pkcs11Module> Pkcs11Module::load(const DriverOptions& options) {
  return std::shared_ptr<Pkcs11Module>(new Pkcs11Module(Driver::load(options)));
}

std::shared_ptr<Pkcs11Module> Pkcs11Module::borrow(void* function_list, Concurrency concurrency) {
  return std::shared_ptr<Pkcs11Module>(new Pkcs11Module(Driver::borrow(function_list, concurrency)));
}

ModuleInfo Pkcs11Module::info() const {
  CK_INFO info{};
  if (const CK_RV rv = driver_->call(&CK_FUNCTION_LIST::C_GetInfo, &info); rv != CKR_OK) {
    pkcs11::throw_failure("C_GetInfo", rv, "");
  }
  return {pkcs11::unpadded(info.manufacturerID),
          pkcs11::unpadded(info.libraryDescription),
          info.cryptokiVersion.major,
          info.cryptokiVersion.minor,
          info.libraryVersion.major,
          info.libraryVersion.minor};
}

std::vector<TokenInfo> Pkcs11Module::tokens() const { return tokens_of(*driver_, CKF_TOKEN_INITIALIZED); }

std::vector<TokenInfo> Pkcs11Module::blank_tokens() const { return tokens_of(*driver_, 0); }

TokenInfo Pkcs11Module::token(const TokenSelector& selector) const {
  if (selector.label.empty() && selector.serial.empty() && selector.model.empty() && selector.manufacturer.empty()) {
    throw InvalidArgumentError("a token's selector must not be empty; give its label or serial");
  }
  const std::vector<TokenInfo> present = tokens();
  std::vector<TokenInfo> meant;
  std::copy_if(present.begin(), present.end(), std::back_inserter(meant),
               [&](const TokenInfo& token) { return matches(selector, token); });
  if (meant.size() == 1) return meant.front();
  if (meant.empty()) {
    throw TokenUnavailableError(
        pkcs11::failure("C_GetSlotList", CKR_TOKEN_NOT_PRESENT),
        fmt::format("no token with {}; present: {}; check the selector and the HSM's connection", selector.describe(),
                    name_all(present)));
  }
  throw InvalidArgumentError(fmt::format("{} tokens with {}: {}; add the serial to the selector", meant.size(),
                                         selector.describe(), name_all(meant)));
}

std::vector<MechanismInfo> Pkcs11Module::mechanisms(const TokenSelector& selector) const {
  const TokenInfo where = token(selector);
  const auto slot = static_cast<CK_SLOT_ID>(where.slot);
  const auto types =
      filled_list<CK_MECHANISM_TYPE>("C_GetMechanismList", where.label, [&](CK_MECHANISM_TYPE* items, CK_ULONG* count) {
        return driver_->call(&CK_FUNCTION_LIST::C_GetMechanismList, slot, items, count);
      });
  std::vector<MechanismInfo> mechanisms;
  for (const CK_MECHANISM_TYPE type : types) {
    CK_MECHANISM_INFO info{};  // zeroed: SoftHSM 2.6.1 only sets bits in what it finds
    if (const CK_RV rv = driver_->call(&CK_FUNCTION_LIST::C_GetMechanismInfo, slot, type, &info); rv != CKR_OK) {
      pkcs11::throw_failure("C_GetMechanismInfo", rv, where.label);
    }
    mechanisms.push_back({type, pkcs11::mechanism_name(type), info.ulMinKeySize, info.ulMaxKeySize, info.flags});
  }
  return mechanisms;
}

}  // namespace hsmseal
