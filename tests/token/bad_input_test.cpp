#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <sys/stat.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/faultyhsm.hpp"
#include "support/softhsm.hpp"

// What people get wrong, each from the outside: the error's type, that its message names the thing, and what to do.

using namespace hsmseal;
using test::FaultyHsm;
using test::message_of;
using test::SoftHsm;

namespace fs = std::filesystem;

namespace {

struct Names {
  std::string thing, cure;
};

void check_names(const std::string& message, const Names& names) {
  CHECK_NAMES(message, names.thing);
  CHECK_NAMES(message, names.cure);
}

KeyRing create(const Host& host, const SetSpec& first) {
  return KeyRing::create(memory_ring_store(), pkcs11_provider(host), first, RingPin::in_process());
}

/// What is said when a ring is made on a host with one token, "hsm", reached in this way.
template <typename Expected>
std::string refusal_of(const TokenBinding& binding) {
  Host host;
  host.token("hsm", binding);
  return message_of<Expected>([&] { return create(host, {.token = "hsm"}); });
}

TokenBinding with_driver(const fs::path& library) {
  TokenBinding binding = SoftHsm::instance().binding("one");
  binding.driver = library.string();
  return binding;
}

TokenBinding selecting(const TokenSelector& selector) {
  TokenBinding binding = SoftHsm::instance().binding("one");
  binding.select = selector;
  return binding;
}

void set_mode(const fs::path& path, mode_t mode) { REQUIRE(::chmod(path.c_str(), mode) == 0); }

/// A shared library that is no driver: the one that has dlerror().
fs::path some_library() {
  Dl_info info{};
  REQUIRE(::dladdr(reinterpret_cast<void*>(&::dlerror), &info) != 0);
  return fs::canonical(info.dli_fname);
}

}  // namespace

TEST_CASE("bad input: a driver that is not named or not there") {
  const auto unknown = refusal_of<InvalidArgumentError>(with_driver("softhms2"));
  check_names(unknown, {"driver 'softhms2' is unknown", "use one of "});
  CHECK_NAMES(unknown, "softhsm2");
  check_names(refusal_of<InvalidArgumentError>(with_driver("./softhsm2.so")),
              {"'./softhsm2.so' is relative", "absolute path"});
  check_names(refusal_of<InvalidArgumentError>(with_driver("/nonexistent/softhsm2.so")),
              {"'/nonexistent/softhsm2.so'", "install the vendor's client or correct the path"});
}

TEST_CASE("bad input: a driver that others could replace") {
  const test::ScratchDirectory scratch{test::DirectoryUse::Libraries};
  const fs::path open_folder = scratch.path() / "open", inner_folder = open_folder / "inner";
  fs::create_directories(inner_folder);
  const fs::path writable = scratch.path() / "writable.so", inner = inner_folder / "driver.so";
  for (const fs::path& file : {writable, inner}) {
    fs::copy_file(SoftHsm::library(), file);
    set_mode(file, 0644);
  }
  for (const mode_t mode : {0664U, 0646U}) {
    set_mode(writable, mode);
    check_names(
        refusal_of<InvalidArgumentError>(with_driver(writable)),
        {"driver '" + writable.string() + "' is writable by its group or others", "chmod go-w '" + writable.string()});
  }
  for (const mode_t mode : {0775U, 0757U}) {
    set_mode(open_folder, mode);
    check_names(refusal_of<InvalidArgumentError>(with_driver(inner)),
                {"lies below '" + open_folder.string() + "'", "chmod go-w '" + open_folder.string()});
  }
}

TEST_CASE("bad input: a file that is no PKCS#11 driver") {
  const test::ScratchDirectory scratch{test::DirectoryUse::Libraries};
  const fs::path text = scratch.path() / "notes.so";
  std::ofstream(text) << "not a library";
  set_mode(text, 0644);
  check_names(refusal_of<InvalidArgumentError>(with_driver(scratch.path())),
              {scratch.path().string(), "not a regular file"});
  check_names(refusal_of<InvalidArgumentError>(with_driver(text)), {text.string(), "cannot be loaded"});
  check_names(refusal_of<InvalidArgumentError>(with_driver(some_library())),
              {some_library().string(), "is not a PKCS#11 library"});
}

TEST_CASE("bad input: a token that is missing, or meant twice") {
  const auto module = SoftHsm::instance().module();
  const auto missing = refusal_of<TokenUnavailableError>(selecting({.label = "gone"}));
  check_names(missing, {"no token with label 'gone'", "check the selector and the HSM's connection"});
  const auto twice = refusal_of<InvalidArgumentError>(selecting({.label = "twin"}));
  check_names(twice, {"2 tokens with label 'twin'", "add the serial to the selector"});
  for (const TokenInfo& token : module->tokens()) {
    CHECK_NAMES(missing, token.serial);
    if (token.label == "twin") CHECK_NAMES(twice, token.serial);
  }
}

TEST_CASE("bad input: a PIN file that is open to others, empty or missing is read before the token is asked") {
  const FaultyHsm hsm;
  const fs::path folder = hsm.tokens().directory();
  const auto refusal_with = [&](const fs::path& pin_file) {
    TokenBinding binding = hsm.binding("one");
    binding.pin = PinSource::file(pin_file);
    Host host = hsm.bare_host();
    host.token("hsm", binding);
    return message_of<InvalidArgumentError>([&] { return create(host, {.token = "hsm"}); });
  };
  const fs::path pin_file = folder / "one.pin";
  for (const mode_t mode : {0640U, 0620U, 0604U, 0602U}) {
    set_mode(pin_file, mode);
    check_names(refusal_with(pin_file), {"'" + pin_file.string() + "' is open to its group or others",
                                         "chmod 600 '" + pin_file.string() + "'"});
  }
  set_mode(pin_file, 0600);
  const fs::path empty = hsm.tokens().write_file("empty.pin", "\n");
  check_names(refusal_with(empty), {"'" + empty.string() + "'", "is empty"});
  check_names(refusal_with(folder / "no.pin"), {"'" + (folder / "no.pin").string() + "'", "No such file"});
  CHECK(hsm.calls("C_Login") == 0);
}

TEST_CASE("bad input: a wrong PIN is sent once and then no more") {
  const FaultyHsm hsm;
  TokenBinding binding = hsm.binding("one");
  binding.pin = PinSource::file(hsm.tokens().write_file("wrong.pin", "a wrong PIN\n"));
  Host host = hsm.bare_host();
  host.token("hsm", binding);
  const auto provider = pkcs11_provider(host);
  const auto refusal = [&] {
    return message_of<TokenLoginError>(
        [&] { return KeyRing::create(memory_ring_store(), provider, {.token = "hsm"}, RingPin::in_process()); });
  };
  check_names(refusal(), {"CKR_PIN_INCORRECT (0xa0) on token 'one'", "not tried again until it changes"});
  check_names(refusal(), {"token 'one'", "not called again until the PIN changes"});
  CHECK(hsm.calls("C_Login") == 1);
}

TEST_CASE("bad input: a secret too long for the token") {
  const auto ring = create(SoftHsm::instance().host(), {.token = "one"});
  const EnvelopeEncryptor in_token{ring, {.suite = Suite::Token}};
  const EnvelopeEncryptor padded{ring, {.suite = Suite::Token, .padding = Padding::to_multiple_of(64)}};
  CHECK(in_token.open(in_token.seal(Bytes(4096), kNoContext), kNoContext).size() == 4096);
  CHECK(padded.open(padded.seal(Bytes(4095), kNoContext), kNoContext).size() == 4095);
  const auto plain_refusal = message_of<InvalidArgumentError>([&] { return in_token.seal(Bytes(4097), kNoContext); });
  const auto padded_refusal = message_of<InvalidArgumentError>([&] { return padded.seal(Bytes(4096), kNoContext); });
  CHECK_NAMES(plain_refusal, "a secret of 4097 bytes");
  CHECK_NAMES(padded_refusal, "a secret of 4160 bytes (with padding)");
  for (const auto& message : {plain_refusal, padded_refusal}) {
    check_names(message, {"over the 4096 bytes that token 'one' seals", "use Suite::DataKey"});
  }
}

TEST_CASE("bad input: an envelope of another ring, of a newer set, or of none") {
  auto ring = create(SoftHsm::instance().host(), {.token = "one"});
  const auto other_ring = create(SoftHsm::instance().host(), {.token = "one"});
  const EnvelopeEncryptor vault{ring};
  const auto foreign = message_of<WrongRingError>(
      [&] { return vault.open(EnvelopeEncryptor{other_ring}.seal(bytes_of("secret"), kNoContext), kNoContext); });
  check_names(foreign,
              {ring.id().to_string(), "a ring whose id starts with " + other_ring.id().to_string().substr(0, 8)});

  Bytes sealed = vault.seal(bytes_of("secret"), kNoContext);
  sealed[15] = std::byte{7};
  check_names(message_of<RingOutOfDateError>([&] { return vault.open(sealed, kNoContext); }),
              {"credential set 7", "try again in a second"});

  check_names(message_of<FormatError>([&] { return vault.open(bytes_of("plain text"), kNoContext); }),
              {"not an envelope", "HSE1"});
  CHECK_NAMES(message_of<FormatError>([&] { return vault.open_text("plain text", kNoContext); }), "not an envelope");
}

TEST_CASE("bad input: another context, or none, opens nothing and says nothing more") {
  const auto ring = create(SoftHsm::instance().host(), {.token = "one"});
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    const EnvelopeEncryptor sealer{ring, {.suite = suite}};
    const Context context = Context{}.add("record", "42");
    const Bytes sealed = sealer.seal(bytes_of("secret"), context);
    CHECK(sealer.open(sealed, context).text() == "secret");
    Bytes changed = sealed;
    changed.back() ^= std::byte{1};
    const auto other = message_of<OpenError>([&] { return sealer.open(sealed, Context{}.add("record", "43")); });
    CHECK(other == message_of<OpenError>([&] { return sealer.open(sealed, kNoContext); }));
    CHECK(other == message_of<OpenError>([&] { return sealer.open(changed, context); }));
  }
}
