// Streams under keys in SoftHSM.
#include <hsmseal/stream.hpp>

#include <algorithm>
#include <sstream>
#include <string>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;

namespace {

/// 3 segments and a bit more.
const std::string kText = [] {
  std::string text;
  while (text.size() < 200'000) text += "line " + std::to_string(text.size()) + "\n";
  return text;
}();

KeyRing new_ring(const SetSpec& spec) {
  return KeyRing::create(memory_ring_store(), pkcs11_provider(test::SoftHsm::instance().host()), spec,
                         RingPin::in_process());
}

std::string sealed_by(const EnvelopeEncryptor& vault, ContextView context) {
  std::istringstream in{kText};
  std::ostringstream out;
  CHECK(seal_stream(vault, in, out, context, {.threads = 2}) == kText.size());
  return out.str();
}

std::string opened_by(const EnvelopeEncryptor& vault, const std::string& sealed, ContextView context) {
  std::istringstream in{sealed};
  std::ostringstream out;
  const std::uint64_t size = open_stream(vault, in, out, context, {.threads = 2});
  CHECK(size == out.str().size());
  return out.str();
}

/// Moves the stream to the active set as its owner would, who has only its first bytes in memory.
std::string rewrapped(const EnvelopeEncryptor& vault, const std::string& sealed) {
  const StreamRewrap rewrap = rewrap_stream_start(vault, bytes_of(sealed).first(kStreamStartBytes));
  return std::string{reinterpret_cast<const char*>(rewrap.start.data()), rewrap.start.size()} +
         sealed.substr(rewrap.replaced);
}

}  // namespace

TEST_CASE("a stream goes from one token to another, and from AES-GCM to AES-CBC and HMAC and back") {
  KeyRing ring = new_ring({.token = "one"});
  const EnvelopeEncryptor vault{ring};
  const Context record = Context{}.add("record", "42");
  std::string sealed = sealed_by(vault, record);
  CHECK(opened_by(vault, sealed, record) == kText);
  const std::string payload = sealed.substr(78);
  for (const SetSpec& spec :
       {SetSpec{.token = "two"}, {.token = "two", .algorithm = WrapAlgorithm::Aes256CbcHmac}, {.token = "one"}}) {
    const Version version = ring.add(spec);
    CHECK(vault.needs_rewrap(bytes_of(sealed)));
    sealed = rewrapped(vault, sealed);
    CHECK(inspect(bytes_of(sealed)).version == version);
    CHECK(sealed.ends_with(payload));
    CHECK(opened_by(vault, sealed, record) == kText);
  }
}

TEST_CASE("a token refuses a stream whose wrapped key was altered, and nothing comes out") {
  const KeyRing ring = new_ring({.token = "one"});
  const EnvelopeEncryptor vault{ring};
  std::string sealed = sealed_by(vault, kNoContext);
  sealed[40] = static_cast<char>(sealed[40] ^ 1);
  std::istringstream in{sealed};
  std::ostringstream out;
  CHECK(test::message_of<OpenError>([&] { return open_stream(vault, in, out, kNoContext); }) == OpenError().what());
  CHECK(out.str().empty());
  CHECK(test::message_of<OpenError>([&] {
          return rewrap_stream_start(vault, bytes_of(sealed).first(kStreamStartBytes));
        }) == OpenError().what());
}

TEST_CASE("a part of a stream is read under a key in a token") {
  const KeyRing ring = new_ring({.token = "two", .algorithm = WrapAlgorithm::Aes256CbcHmac});
  const EnvelopeEncryptor vault{ring};
  const std::string sealed = sealed_by(vault, kNoContext);
  StreamReader reader{vault, kNoContext, sealed.size(), [&](std::uint64_t offset, std::span<std::byte> out) {
                        std::ranges::copy(bytes_of(sealed).subspan(offset, out.size()), out.begin());
                      }};
  std::string part(70'000, ' ');
  CHECK(reader.read(100'000, std::as_writable_bytes(std::span{part})) == part.size());
  CHECK(part == kText.substr(100'000, part.size()));
  CHECK(reader.size() == kText.size());
}
