#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

#include <hsmseal/pkcs11_session.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "support/softhsm.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using test::error_of;
using test::FaultyHsm;
using test::message_of;
using test::SoftHsm;

namespace {

CK_FUNCTION_LIST* function_list_of(void* get_function_list) {
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(get_function_list)(&list) == CKR_OK);
  return list;
}

/// How the message ends when a driver does not start.
std::string of_driver(const DriverOptions& options) {
  return " by driver '" + options.library.string() + "'; check the driver's own configuration";
}

/// The list of the driver that SoftHsm::instance() has loaded.
CK_FUNCTION_LIST* softhsm_list() {
  const auto module = SoftHsm::instance().module();
  void* const library = ::dlopen(SoftHsm::library().c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  REQUIRE(library != nullptr);
  return function_list_of(::dlsym(library, "C_GetFunctionList"));
}

std::vector<TokenInfo> twins() {
  std::vector<TokenInfo> found = SoftHsm::instance().module()->tokens();
  std::erase_if(found, [](const TokenInfo& token) { return token.label != "twin"; });
  return found;
}

// How many threads are in watched_get_info(), the most there were, and how many are waited for there.
std::atomic<int> inside, most_inside, awaited;

CK_RV watched_get_info(CK_INFO* info) {
  const int now = ++inside;
  int most = most_inside;
  while (most < now && !most_inside.compare_exchange_weak(most, now)) continue;
  while (most_inside < awaited) std::this_thread::yield();
  *info = {};
  --inside;
  return CKR_OK;
}

}  // namespace

TEST_CASE("a module tells who made its driver") {
  const ModuleInfo info = SoftHsm::instance().module()->info();
  CHECK(info.manufacturer == "SoftHSM");
  CHECK(info.description == "Implementation of PKCS11");
  CHECK(info.cryptoki_major == 2);
  CHECK(info.cryptoki_minor >= 20);
}

TEST_CASE("a module lists every initialised token, without padding") {
  std::multiset<std::string> labels;
  std::set<std::string> serials;
  for (const TokenInfo& token : SoftHsm::instance().module()->tokens()) {
    labels.insert(token.label);
    serials.insert(token.serial);
    CHECK(token.serial.size() == 16);
    CHECK(token.model == "SoftHSM v2");
    CHECK(token.manufacturer == "SoftHSM project");
    CHECK((token.flags & CKF_LOGIN_REQUIRED) != 0);
  }
  CHECK(labels == std::multiset<std::string>{"one", "pins", "twin", "twin", "two"});
  CHECK(serials.size() == 5);
}

TEST_CASE("a token is found by its label, its serial or both") {
  const auto module = SoftHsm::instance().module();
  const TokenInfo one = module->token({.label = "one"});
  CHECK(one.label == "one");
  CHECK(module->token({.label = {}, .serial = one.serial}).label == "one");
  CHECK(module->token({.label = "one", .serial = one.serial}).slot == one.slot);
  CHECK(module->token(TokenSelector::from_uri("pkcs11:token=one;serial=" + one.serial)).slot == one.slot);
  for (const TokenInfo& twin : twins())
    CHECK(module->token({.label = "twin", .serial = twin.serial}).slot == twin.slot);
}

TEST_CASE("every field of a selector must agree") {
  const auto module = SoftHsm::instance().module();
  const std::string serial = module->token({.label = "one"}).serial;
  CHECK_THROWS_AS(module->token({.label = "two", .serial = serial}), TokenUnavailableError);
  CHECK_THROWS_AS(module->token({.label = "one", .serial = {}, .model = "another"}), TokenUnavailableError);
  CHECK_THROWS_AS(module->token({.label = "one", .serial = {}, .model = {}, .manufacturer = "another"}),
                  TokenUnavailableError);
  CHECK(module->token({.label = "one", .serial = serial, .model = "SoftHSM v2", .manufacturer = "SoftHSM project"})
            .label == "one");
}

TEST_CASE("a token that is not there is unavailable, and the message lists those that are") {
  const auto module = SoftHsm::instance().module();
  const auto error = error_of<TokenUnavailableError>([&] { return module->token({.label = "gone"}); });
  CHECK(error.code() == ErrorCode::TokenUnavailable);
  CHECK(error.rv_name() == "CKR_TOKEN_NOT_PRESENT");
  CHECK(error.retryable());
  CHECK_NAMES(error.what(), "no token with label 'gone'");
  for (const TokenInfo& token : module->tokens()) {
    CHECK_NAMES(error.what(), "'" + token.label + "' (serial " + token.serial + ")");
  }
}

TEST_CASE("two tokens with one label are refused with their serials") {
  const auto module = SoftHsm::instance().module();
  const auto message = message_of<InvalidArgumentError>([&] { return module->token({.label = "twin"}); });
  REQUIRE(twins().size() == 2);
  for (const TokenInfo& twin : twins()) CHECK_NAMES(message, twin.serial);
  CHECK_NAMES(message, "label 'twin'");
  CHECK_NAMES(message, "add the serial");
}

TEST_CASE("an empty selector means no token") {
  const auto module = SoftHsm::instance().module();
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return module->token({}); }), "give its label or serial");
}

TEST_CASE("a module tells the mechanisms of a token by name") {
  const auto mechanisms = SoftHsm::instance().module()->mechanisms({.label = "one"});
  const auto find = [&](const std::string& name) {
    return std::ranges::find(mechanisms, name, &MechanismInfo::name) != mechanisms.end();
  };
  CHECK(find("CKM_AES_GCM"));
  CHECK(find("CKM_AES_CMAC"));
  CHECK(find("CKM_SHA256_HMAC"));
  const auto generation = std::ranges::find(mechanisms, std::string{"CKM_AES_KEY_GEN"}, &MechanismInfo::name);
  REQUIRE(generation != mechanisms.end());
  CHECK(generation->type == CKM_AES_KEY_GEN);
  CHECK(generation->min_key_size == 16);
  CHECK(generation->max_key_size == 32);
  for (const auto& mechanism : mechanisms) CHECK_FALSE(mechanism.name.empty());
}

TEST_CASE("a driver is loaded and started once, whatever its file is called") {
  const FaultyHsm hsm;
  DriverOptions other_name = hsm.driver();
  other_name.library = hsm.tokens().directory() / "link.so";
  std::filesystem::create_symlink(hsm.driver().library, other_name.library);
  const auto first = hsm.module();
  const auto second = hsm.module();
  const auto third = Pkcs11Module::load(other_name);
  CHECK(second->tokens().size() == 1);
  CHECK(third->token({.label = "one"}).serial == first->token({.label = "one"}).serial);
  CHECK(hsm.calls("C_Initialize") == 1);
  CHECK(hsm.calls("C_GetFunctionList") == 1);
}

TEST_CASE("threads that load one driver start it once") {
  const FaultyHsm hsm;
  std::atomic<int> tokens = 0;
  test::in_threads(8, [&](std::size_t) { tokens += static_cast<int>(hsm.module()->tokens().size()); });
  CHECK(tokens == 8);
  CHECK(hsm.calls("C_Initialize") == 1);
}

TEST_CASE("a driver that is loaded is not loaded again with other options") {
  const FaultyHsm hsm;
  const auto module = hsm.module();
  DriverOptions start_up = hsm.driver(), environment = hsm.driver(), concurrency = hsm.driver();
  start_up.start_up = "another";
  environment.environment["HSMSEAL_ANOTHER"] = "1";
  concurrency.concurrency = Concurrency::Serialized;
  for (const DriverOptions& options : {start_up, environment, concurrency}) {
    const auto message = message_of<InvalidArgumentError>([&] { return Pkcs11Module::load(options); });
    CHECK_NAMES(message, hsm.driver().library.string());
    CHECK_NAMES(message, "loaded already");
  }
  CHECK(std::getenv("HSMSEAL_ANOTHER") == nullptr);
  CHECK(hsm.calls("C_Initialize") == 1);
}

TEST_CASE("the environment of a driver is set before it starts") {
  // Without its two variables this driver would have nowhere to forward, and SoftHSM other tokens.
  const FaultyHsm hsm{{"elsewhere"}};
  const auto tokens = hsm.module()->tokens();
  REQUIRE(tokens.size() == 1);
  CHECK(tokens.front().label == "elsewhere");
  CHECK(std::string{std::getenv("FAULTYHSM_REAL_MODULE")} == hsm.driver().environment.at("FAULTYHSM_REAL_MODULE"));
}

TEST_CASE("the start-up string reaches C_Initialize, and none passes NULL") {
  // SoftHSM keeps to the standard: it refuses any pReserved but NULL.
  const FaultyHsm hsm;
  DriverOptions options = hsm.driver();
  options.start_up = "a string";
  const auto error = error_of<TokenError>([&] { return Pkcs11Module::load(options); });
  CHECK(error.function() == "C_Initialize");
  CHECK(error.rv_name() == "CKR_ARGUMENTS_BAD");
  CHECK_FALSE(error.retryable());
  CHECK(std::string{error.what()} == "C_Initialize failed: CKR_ARGUMENTS_BAD (0x7)" + of_driver(options));
  CHECK(hsm.module()->tokens().size() == 1);
  CHECK(hsm.calls("C_Initialize") == 2);
}

TEST_CASE("a driver that did not start is started at the next load") {
  const FaultyHsm hsm;
  hsm.fail_next("C_Initialize", CKR_FUNCTION_FAILED);
  const auto error = error_of<TokenError>([&] { return hsm.module(); });
  CHECK(error.function() == "C_Initialize");
  CHECK(error.rv() == CKR_FUNCTION_FAILED);
  CHECK(error.retryable());
  CHECK(hsm.module()->tokens().size() == 1);
}

TEST_CASE("a driver without the file it needs fails in C_GetFunctionList") {
  const FaultyHsm hsm;
  DriverOptions options = hsm.driver();
  options.environment["FAULTYHSM_REAL_MODULE"] = "/nonexistent";
  const auto error = error_of<TokenError>([&] { return Pkcs11Module::load(options); });
  CHECK(std::string{error.what()} == "C_GetFunctionList failed: CKR_GENERAL_ERROR (0x5)" + of_driver(options));
  CHECK(hsm.calls("C_Initialize") == 0);
  CHECK(hsm.module()->tokens().size() == 1);
}

TEST_CASE("a driver that cannot lock is started without locking") {
  const FaultyHsm hsm;
  hsm.fail_next("C_Initialize", CKR_CANT_LOCK);
  CHECK(hsm.module()->tokens().size() == 1);
  CHECK(hsm.calls("C_Initialize") == 2);
}

TEST_CASE("a driver that other code has started is used as it is") {
  const FaultyHsm hsm;
  for (const auto& [name, value] : hsm.driver().environment) ::setenv(name.c_str(), value.c_str(), 1);
  REQUIRE(function_list_of(hsm.symbol("C_GetFunctionList"))->C_Initialize(nullptr) == CKR_OK);
  hsm.reset();
  CHECK(hsm.module()->tokens().size() == 1);
  CHECK(hsm.calls("C_Initialize") == 1);
  CHECK(hsm.calls("C_Finalize") == 0);
}

TEST_CASE("a failed call is named with its return value, and its number if a vendor made it up") {
  const FaultyHsm hsm;
  const auto module = hsm.module();
  hsm.fail_next("C_GetInfo", CKR_DEVICE_ERROR);
  CHECK(message_of<TokenError>([&] { return module->info(); }) == "C_GetInfo failed: CKR_DEVICE_ERROR (0x30)");
  hsm.fail_next("C_GetSlotList", 0x80000384, 2);  // asked for its length first, and that answer is not used
  const auto error = error_of<TokenError>([&] { return module->tokens(); });
  CHECK(error.function() == "C_GetSlotList");
  CHECK(error.rv() == 0x80000384);
  CHECK(error.rv_name() == "0x80000384");
  CHECK_NAMES(error.what(), "C_GetSlotList failed: 0x80000384");
}

TEST_CASE("a slot whose token is gone does not hide the others, a broken one does") {
  const FaultyHsm hsm{{"one", "two"}};
  const auto module = hsm.module();
  hsm.fail_next("C_GetTokenInfo", CKR_TOKEN_NOT_PRESENT);
  CHECK(module->tokens().size() == 1);
  hsm.fail_next("C_GetTokenInfo", CKR_DEVICE_ERROR);
  CHECK(error_of<TokenError>([&] { return module->tokens(); }).function() == "C_GetTokenInfo");
  CHECK(module->tokens().size() == 2);
}

TEST_CASE("a slot list that grew between two calls is asked for again") {
  const FaultyHsm hsm;
  const auto module = hsm.module();
  hsm.fail_next("C_GetSlotList", CKR_BUFFER_TOO_SMALL, 3);
  CHECK(module->tokens().size() == 1);
}

TEST_CASE("a borrowed driver is used without being started") {
  const FaultyHsm hsm;
  const auto owner = hsm.module();
  const auto borrowed = Pkcs11Module::borrow(function_list_of(hsm.symbol("C_GetFunctionList")));
  hsm.reset();
  CHECK(borrowed->token({.label = "one"}).serial == owner->token({.label = "one"}).serial);
  Pkcs11Session session{borrowed, {.label = "one"}};
  session.login(hsm.binding("one").pin);
  const KeyHandle key = session.generate_aes_key({.id = Bytes(16), .label = "k", .lifetime = KeyLifetime::Session});
  CHECK(session.encrypt(key, {.iv = bytes_of("twelve bytes"), .aad = {}}, bytes_of("text")).size() == 20);
  CHECK(hsm.calls("C_Initialize") == 0);
  CHECK(hsm.calls("C_Finalize") == 0);
}

TEST_CASE("a borrowed list that lacks a function hsmseal needs is refused") {
  CHECK_THROWS_AS(Pkcs11Module::borrow(nullptr), InvalidArgumentError);
  CK_FUNCTION_LIST other_version = *softhsm_list();
  other_version.version = {3, 0};
  CHECK_THROWS_AS(Pkcs11Module::borrow(&other_version), InvalidArgumentError);
  const auto refused_without = [](auto member) {
    CK_FUNCTION_LIST list = *softhsm_list();
    list.*member = nullptr;
    try {
      static_cast<void>(Pkcs11Module::borrow(&list));
    } catch (const InvalidArgumentError&) {
      return true;
    }
    return false;
  };
  CHECK(refused_without(&CK_FUNCTION_LIST::C_GetSlotList));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_GetTokenInfo));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_OpenSession));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_CloseSession));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_FindObjectsInit));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_FindObjects));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_FindObjectsFinal));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_EncryptInit));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_Encrypt));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_DecryptInit));
  CHECK(refused_without(&CK_FUNCTION_LIST::C_Decrypt));
  // What has no part in sealing may be missing.
  CHECK_FALSE(refused_without(&CK_FUNCTION_LIST::C_WaitForSlotEvent));
}

TEST_CASE("a serialised driver has one thread in it at a time, a parallel one several") {
  CK_FUNCTION_LIST list = *softhsm_list();
  list.C_GetInfo = &watched_get_info;
  const auto most_in = [](const Pkcs11Module& module, int wait_for) {
    inside = most_inside = 0;
    awaited = wait_for;
    test::in_threads(8, [&](std::size_t) {
      for (int i = 0; i < 200; ++i) static_cast<void>(module.info());
    });
    return most_inside.load();
  };
  CHECK(most_in(*Pkcs11Module::borrow(&list), 1) == 1);
  CHECK(most_in(*Pkcs11Module::borrow(&list, Concurrency::Serialized), 1) == 1);
  CHECK(most_in(*Pkcs11Module::borrow(&list, Concurrency::Parallel), 2) >= 2);
}

TEST_CASE("a token that nobody initialised is shown apart from the others") {
  const FaultyHsm hsm;
  const auto module = hsm.module();
  const auto ready = module->tokens(), blank = module->blank_tokens();
  REQUIRE(ready.size() == 1);
  CHECK((ready.front().flags & CKF_TOKEN_INITIALIZED) != 0);
  REQUIRE(blank.size() == 1);  // SoftHSM always has one more
  CHECK((blank.front().flags & CKF_TOKEN_INITIALIZED) == 0);
  CHECK(blank.front().label.empty());
  CHECK(blank.front().slot != ready.front().slot);
}
