#include <hsmseal/token_binding.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <hsmseal/error.hpp>
#include <hsmseal/vendors.hpp>

#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::contains;
using test::message_of;

namespace {

namespace fs = std::filesystem;

TokenBinding binding(std::string driver, TokenSelector select = {.label = "prod"}) {
  return {.driver = std::move(driver), .select = std::move(select)};
}

enum class Client { Missing, Installed };

Client client_of(const Vendor& vendor) {
  const bool found = std::ranges::any_of(vendor.library_paths, [](const fs::path& path) { return fs::exists(path); });
  return found ? Client::Installed : Client::Missing;
}

/// A vendor whose client is on this machine, or one whose client is not.
const Vendor* vendor_that_is(Client wanted) {
  const auto found = std::ranges::find_if(
      vendors(), [&](const Vendor& vendor) { return !vendor.library_paths.empty() && client_of(vendor) == wanted; });
  return found == vendors().end() ? nullptr : &*found;
}

std::string refusal(const std::string& uri) {
  CAPTURE(uri);
  return message_of<InvalidArgumentError>([&] { (void)TokenSelector::from_uri(uri); });
}

}  // namespace

TEST_CASE("a host finds the tokens that were bound, and says which are not") {
  Host host;
  host.token("prod-a", binding("luna", {.label = "a"})).token("prod-b", binding("luna", {.label = "b"}));
  CHECK(host.binding("prod-a").select.label == "a");
  CHECK(host.binding("prod-b").select.label == "b");
  CHECK(contains(message_of<InvalidArgumentError>([&] { (void)host.binding("prod-c"); }), "'prod-c'"));
  CHECK_THROWS_AS(host.binding(""), InvalidArgumentError);
  CHECK_THROWS_AS(host.binding("Prod-a"), InvalidArgumentError);
}

TEST_CASE("a binding has the documented defaults") {
  Host host;
  host.token("prod", binding("luna"));
  const TokenBinding& bound = host.binding("prod");
  CHECK(bound.pin.kind() == PinSource::Kind::None);
  CHECK(bound.limits.max_sessions == 8);
  CHECK(bound.limits.session_wait == 10s);
  CHECK(bound.low_pin_count == LowPinCount::Refuse);
}

TEST_CASE("a token's alias is bound once") {
  Host host;
  host.token("prod", binding("luna", {.label = "first"}));
  CHECK(contains(message_of<InvalidArgumentError>([&] { host.token("prod", binding("luna", {.label = "second"})); }),
                 "'prod'"));
  CHECK(host.binding("prod").select.label == "first");
}

TEST_CASE("a token without an alias or a selector, or with limits out of range, is refused") {
  Host host;
  CHECK_THROWS_AS(host.token("", binding("luna")), InvalidArgumentError);
  CHECK(contains(message_of<InvalidArgumentError>([&] { host.token("prod", binding("luna", {})); }), "'prod'"));
  using Limits = SessionLimits;
  for (const Limits limits :
       {Limits{0, 1s}, Limits{4097, 1s}, Limits{SIZE_MAX, 1s}, Limits{8, 0ms}, Limits{8, -1ms}, Limits{8, 24h + 1ms}}) {
    TokenBinding wrong = binding("luna");
    wrong.limits = limits;
    CHECK(contains(message_of<InvalidArgumentError>([&] { host.token("prod", wrong); }), "'prod'"));
  }
  CHECK_THROWS_AS(host.binding("prod"), InvalidArgumentError);
  for (const Limits limits : {Limits{1, 1ms}, Limits{4096, 24h}}) {
    TokenBinding right = binding("luna");
    right.limits = limits;
    host.token("with " + std::to_string(limits.max_sessions), right);
  }
}

TEST_CASE("any one field of a selector is enough") {
  Host host;
  host.token("1", binding("luna", {.label = "x"})).token("2", binding("luna", {.serial = "x"}));
  host.token("3", binding("luna", {.model = "x"})).token("4", binding("luna", {.manufacturer = "x"}));
  CHECK(host.binding("4").select.manufacturer == "x");
}

TEST_CASE("an unknown driver is refused, and those that are known are named") {
  const std::string message = message_of<InvalidArgumentError>([] { (void)Host{}.driver_for(binding("nosuch")); });
  CHECK(contains(message, "'nosuch'"));
  REQUIRE_FALSE(driver_aliases().empty());
  for (const auto& alias : driver_aliases()) CHECK(contains(message, alias));
  CHECK_THROWS_AS(Host{}.driver_for(binding("")), InvalidArgumentError);
}

TEST_CASE("a vendor whose client is not installed is refused, and the message says where it was looked for") {
  const Vendor* const vendor = vendor_that_is(Client::Missing);
  REQUIRE(vendor != nullptr);
  const std::string message =
      message_of<InvalidArgumentError>([&] { (void)Host{}.driver_for(binding(std::string{vendor->alias})); });
  CHECK(contains(message, vendor->alias));
  for (const auto& path : vendor->library_paths) CHECK(contains(message, path.string()));
}

TEST_CASE("a vendor whose client is installed is found at the first of its paths that exists") {
  const Vendor* const vendor = vendor_that_is(Client::Installed);
  REQUIRE(vendor != nullptr);  // SoftHSM is, where tests run
  const DriverOptions options = Host{}.driver_for(binding(std::string{vendor->alias}));
  const auto first = std::ranges::find_if(vendor->library_paths, [](const fs::path& path) { return fs::exists(path); });
  CHECK(options.library == *first);
  CHECK(options.start_up.empty());
  CHECK(options.environment.empty());
  CHECK(options.concurrency == Concurrency::Parallel);
}

TEST_CASE("a driver may be given by its path") {
  CHECK(Host{}.driver_for(binding("/opt/vendor/p11.so")).library == "/opt/vendor/p11.so");
}

TEST_CASE("a driver that was named is used with its options") {
  Host host;
  host.driver("own", {.library = "/opt/own.so",
                      .start_up = "config=/etc/own",
                      .environment = {{"OWN", "1"}},
                      .concurrency = Concurrency::Serialized});
  const DriverOptions options = host.driver_for(binding("own"));
  CHECK(options.library == "/opt/own.so");
  CHECK(options.start_up == "config=/etc/own");
  CHECK(options.environment.at("OWN") == "1");
  CHECK(options.concurrency == Concurrency::Serialized);
}

TEST_CASE("naming a driver again replaces what it stands for") {
  Host host;
  host.driver("luna", {.library = "/opt/one.so"}).driver("luna", {.library = "/opt/two.so"});
  CHECK(host.driver_for(binding("luna")).library == "/opt/two.so");
}

TEST_CASE("options without a library keep the vendor's paths") {
  const Vendor* const vendor = vendor_that_is(Client::Installed);
  REQUIRE(vendor != nullptr);
  const std::string alias{vendor->alias};
  Host host;
  host.driver(alias, {.start_up = "slot=3", .concurrency = Concurrency::Serialized});
  const DriverOptions options = host.driver_for(binding(alias));
  CHECK(options.library == Host{}.driver_for(binding(alias)).library);
  CHECK(options.start_up == "slot=3");
  CHECK(options.concurrency == Concurrency::Serialized);
}

TEST_CASE("a driver without a library and without a vendor is refused") {
  Host host;
  CHECK(contains(message_of<InvalidArgumentError>([&] { host.driver("own", {.start_up = "x"}); }), "'own'"));
  CHECK_THROWS_AS(host.driver("", {.library = "/opt/own.so"}), InvalidArgumentError);
  CHECK_THROWS_AS(host.driver("/opt/own.so", {.library = "/opt/own.so"}), InvalidArgumentError);
}

TEST_CASE("the aliases are those of the vendors that have a place here") {
  std::vector<std::string> wanted;
  for (const Vendor& vendor : vendors()) {
    if (!vendor.library_paths.empty()) wanted.emplace_back(vendor.alias);
  }
  const auto aliases = driver_aliases();
  CHECK(aliases == wanted);
  CHECK(std::ranges::find(aliases, "softhsm2") != aliases.end());
  CHECK(std::ranges::find(aliases, "kmsp11") == aliases.end());
}

TEST_CASE("a vendor without a usual place needs its library's path, and is then known by its alias") {
  Host host;
  CHECK(contains(message_of<InvalidArgumentError>([&] { host.driver("kmsp11", {.start_up = "x"}); }), "'kmsp11'"));
  CHECK(contains(message_of<InvalidArgumentError>([&] { (void)host.driver_for(binding("kmsp11")); }), "'kmsp11'"));
  host.driver("kmsp11", {.library = "/opt/kmsp11/libkmsp11.so"});
  CHECK(host.driver_for(binding("kmsp11")).library == "/opt/kmsp11/libkmsp11.so");
}

TEST_CASE("a driver is restarted as its vendor is known to need it, unless the host says otherwise") {
  const auto restart_of = [](const std::string& alias, DriverOptions options) {
    options.library = "/opt/own.so";
    Host host;
    host.driver(alias, std::move(options));
    return host.driver_for(binding(alias)).restart;
  };
  REQUIRE(find_vendor("opencryptoki")->restart->value == DriverRestart::Never);
  REQUIRE(find_vendor("softhsm2")->restart->value == DriverRestart::WhenOwner);
  CHECK(restart_of("opencryptoki", {}) == DriverRestart::Never);
  CHECK(restart_of("opencryptoki", {.restart = DriverRestart::WhenOwner}) == DriverRestart::WhenOwner);
  CHECK(restart_of("softhsm2", {}) == DriverRestart::WhenOwner);
  CHECK(restart_of("softhsm2", {.restart = DriverRestart::Never}) == DriverRestart::Never);
  CHECK(restart_of("own", {}) == std::nullopt);
  CHECK(Host{}.driver_for(binding("/opt/own.so")).restart == std::nullopt);
}

TEST_CASE("a token is given fewer sessions than its vendor's device has, for one keeps the login") {
  REQUIRE(find_vendor("yubihsm2")->max_sessions->value == 16);
  const auto allowed = [](const std::string& driver, std::size_t wanted) {
    TokenBinding bound = binding(driver);
    bound.limits.max_sessions = wanted;
    Host host;
    host.token("prod", bound);
    return host.binding("prod").limits.max_sessions;
  };
  CHECK(allowed("yubihsm2", 8) == 8);
  CHECK(allowed("yubihsm2", 15) == 15);
  CHECK(allowed("yubihsm2", 16) == 15);
  CHECK(allowed("yubihsm2", 4096) == 15);
  CHECK(allowed("softhsm2", 4096) == 4096);
  CHECK(allowed("/opt/own.so", 4096) == 4096);
}

TEST_CASE("a selector is described by the fields it has") {
  CHECK(TokenSelector{.label = "prod", .serial = "0123"}.describe() == "label 'prod', serial '0123'");
  CHECK(TokenSelector{.model = "m", .manufacturer = "v"}.describe() == "model 'm', manufacturer 'v'");
  CHECK(TokenSelector{.label = "a", .serial = "b", .model = "c", .manufacturer = "d"}.describe() ==
        "label 'a', serial 'b', model 'c', manufacturer 'd'");
  CHECK(TokenSelector{}.describe() == "an empty selector");
}

TEST_CASE("a PKCS#11 URI selects by token, serial, model and manufacturer") {
  const auto all = TokenSelector::from_uri("pkcs11:token=prod;serial=0123;model=Luna%20K7;manufacturer=SafeNet");
  CHECK(all.label == "prod");
  CHECK(all.serial == "0123");
  CHECK(all.model == "Luna K7");
  CHECK(all.manufacturer == "SafeNet");
  CHECK(TokenSelector::from_uri("pkcs11:token=prod").label == "prod");
  CHECK(TokenSelector::from_uri("pkcs11:token=prod").serial.empty());
  CHECK(TokenSelector::from_uri("pkcs11:serial=1;token=t").label == "t");
  CHECK(TokenSelector::from_uri("pkcs11:manufacturer=Entrust").manufacturer == "Entrust");
}

TEST_CASE("a PKCS#11 URI may escape any character") {
  CHECK(TokenSelector::from_uri("pkcs11:token=%70%72%6f%64").label == "prod");
  CHECK(TokenSelector::from_uri("pkcs11:token=a%3Bb%3fc%26d%25e").label == "a;b?c&d%e");
  CHECK(TokenSelector::from_uri("pkcs11:token=pin-value%3d1234").label == "pin-value=1234");
  CHECK(TokenSelector::from_uri("pkcs11:token=f%C3%BCr").label == "f\xc3\xbcr");
}

TEST_CASE("a PKCS#11 URI with a field longer than a token's is refused") {
  CHECK(TokenSelector::from_uri("pkcs11:token=" + std::string(32, 'x')).label == std::string(32, 'x'));
  refusal("pkcs11:token=" + std::string(33, 'x'));
  refusal("pkcs11:serial=" + std::string(17, '1'));
}

TEST_CASE("a PKCS#11 URI that names something twice is refused") {
  CHECK(contains(refusal("pkcs11:token=a;token=b"), "'token'"));
  CHECK(contains(refusal("pkcs11:token=a;serial=1;token=a"), "'token'"));
  CHECK(contains(refusal("pkcs11:serial=1;serial=1"), "'serial'"));
}

TEST_CASE("a PKCS#11 URI with an attribute that does not select a token is refused") {
  for (const std::string attribute : {"object", "id", "type", "slot-id", "slot-description", "library-manufacturer",
                                      "library-description", "library-version", "x-vendor", "Token", "label"}) {
    CHECK(contains(refusal("pkcs11:token=prod;" + attribute + "=1"), "'" + attribute + "'"));
    CHECK(contains(refusal("pkcs11:" + attribute + "=1"), "'" + attribute + "'"));
  }
  CHECK(contains(refusal("pkcs11:token=prod?module-path=/tmp/evil.so"), "'module-path'"));
  CHECK(contains(refusal("pkcs11:token=prod?module-name=evil"), "'module-name'"));
}

TEST_CASE("a PIN has no place in a PKCS#11 URI, and does not get into the message") {
  for (const std::string uri :
       {"pkcs11:token=prod?pin-value=4711", "pkcs11:token=prod;pin-value=4711", "pkcs11:?pin-value=4711",
        "pkcs11:pin-value=4711", "pkcs11:token=prod?module-name=x&pin-value=4711",
        "pkcs11:token=prod?pin-value=4711&pin-value=4711", "pkcs11:token=%zz?pin-value=4711",
        "pkcs11:token=prod?pin-value=%34%37%31%31", "pkcs11:token=prod?pin-source=/etc/4711",
        "pkcs11:token=prod?pin-source=|cat%204711"}) {
    const std::string message = refusal(uri);
    CHECK_FALSE(contains(message, "4711"));
    CHECK_FALSE(contains(message, "%34"));
  }
  // Not even if somebody misspelt the URI.
  for (const std::string uri : {"pkcs11:token=prod?pin-value%3d4711", "pkcs11:token=prod;pin-value:4711",
                                "pkcs11:token=prod?4711", "pkcs11:4711@token=prod"}) {
    CHECK_FALSE(contains(refusal(uri), "4711"));
  }
  CHECK(contains(refusal("pkcs11:token=prod?pin-value=4711"), "PinSource"));
  CHECK(contains(refusal("pkcs11:token=prod?pin-source=x"), "PinSource"));
}

TEST_CASE("a PKCS#11 URI that selects nothing is refused") {
  refusal("pkcs11:");
  refusal("pkcs11:;");
  refusal("pkcs11:?");
  refusal("pkcs11:token=");
  refusal("pkcs11:token=;serial=");
}

TEST_CASE("a PKCS#11 URI with one field empty is refused, as that would select more than was meant") {
  refusal("pkcs11:token=;serial=0123");
  refusal("pkcs11:token=prod;serial=");
  refusal("pkcs11:token=%20;serial=0123");
  refusal("pkcs11:token=%20%20");
}

TEST_CASE("a PKCS#11 URI with a zero byte is refused, as what stands behind it would not be looked at") {
  refusal(std::string("pkcs11:token=prod\0;serial=0123", 30));
  refusal(std::string("pkcs11:token=prod;\0serial=0123", 30));
  refusal(std::string("pkcs11:token=prod;serial=0123\0", 30));
}

TEST_CASE("what is not a PKCS#11 URI is refused") {
  for (const char* const text : {"", "token=prod", "pkcs11", "pkcs12:token=prod", "http://token=prod", ":token=prod",
                                 " pkcs11:token=prod", "prod"}) {
    CHECK(contains(refusal(text), "pkcs11:"));
  }
}

TEST_CASE("a PKCS#11 URI with a broken escape is refused") {
  for (const char* const uri : {"pkcs11:token=%", "pkcs11:token=%4", "pkcs11:token=%zz", "pkcs11:token=%4g",
                                "pkcs11:token=prod%", "pkcs11:token=prod;serial=%-1"}) {
    refusal(uri);
  }
}
