#include <cstddef>
#include <cstdio>
#include <stdexcept>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/faultyhsm.hpp"

using namespace hsmseal;
using test::FaultyHsm;

namespace {

constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kTagBytes = 16;

/// How many changed envelopes were refused with each error.
struct Refusals {
  std::size_t format = 0, wrong_ring = 0, unknown_version = 0, open = 0;
  bool operator==(const Refusals&) const = default;
  [[nodiscard]] std::size_t total() const { return format + wrong_ring + unknown_version + open; }
};

/// Any other error, and no error at all, ends the test.
void open_refused(const EnvelopeEncryptor& vault, ByteView sealed, Refusals& refusals) {
  try {
    static_cast<void>(vault.open(sealed, kNoContext));
  } catch (const FormatError&) {
    ++refusals.format;
    return;
  } catch (const WrongRingError&) {
    ++refusals.wrong_ring;
    return;
  } catch (const UnknownVersionError&) {
    ++refusals.unknown_version;
    return;
  } catch (const OpenError&) {
    ++refusals.open;
    return;
  }
  throw std::logic_error("a changed envelope was opened");
}

Refusals open_every_prefix(const EnvelopeEncryptor& vault, const Bytes& sealed) {
  Refusals refusals;
  for (std::size_t size = 0; size < sealed.size(); ++size) open_refused(vault, ByteView{sealed}.first(size), refusals);
  return refusals;
}

Refusals open_every_flip(const EnvelopeEncryptor& vault, const Bytes& sealed) {
  Refusals refusals;
  Bytes changed = sealed;
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    const std::byte mask{static_cast<unsigned char>(1U << bit % 8)};
    changed[bit / 8] ^= mask;
    open_refused(vault, changed, refusals);
    changed[bit / 8] ^= mask;
  }
  return refusals;
}

/// What src/FORMAT.md section 2 says about an envelope of set 1 in a ring of one set, without padding.
Refusals expected_of_prefixes(std::size_t fields) {
  // Shorter than its fields and an empty payload: cut short. Longer: another payload.
  return {.format = fields + kTagBytes, .open = kSecretBytes};
}

Refusals expected_of_flips(Suite suite, std::size_t fields) {
  constexpr std::size_t kMagic = 32, kSuite = 8, kAlgorithm = 8, kUnknownFlags = 7, kReserved = 8, kW = 16;
  constexpr std::size_t kVersionZero = 1;  // the one bit that makes set 1 set 0
  constexpr std::size_t kPaddedFlag = 1;   // is authenticated
  constexpr std::size_t kHeader = 18;
  // The one bit that makes suite 1 suite 3, whose data key would be wrapped as another's.
  const std::size_t like_a_stream = suite == Suite::DataKey ? 1 : 0;
  return {.format = kMagic + kSuite - like_a_stream + kAlgorithm + kUnknownFlags + kReserved + kW + kVersionZero,
          .wrong_ring = 32,
          .unknown_version = 32 - kVersionZero,
          .open = kPaddedFlag + like_a_stream + 8 * (fields - kHeader + kSecretBytes + kTagBytes)};
}

/// @param fields  the size of all that stands before the payload.
void refuses_every_change(Suite suite, const char* name, std::size_t fields) {
  const FaultyHsm hsm;
  const auto ring =
      KeyRing::create(memory_ring_store(), pkcs11_provider(hsm.host()), {.token = "one"}, RingPin::in_process());
  const EnvelopeEncryptor vault{ring, {.suite = suite}};
  const Bytes secret(kSecretBytes, std::byte{0x5a});
  const Bytes sealed = vault.seal(secret, kNoContext);
  REQUIRE(sealed.size() == fields + kSecretBytes + kTagBytes);
  CHECK(vault.open(sealed, kNoContext).text() == SecretBytes{secret}.text());
  const unsigned long decrypts_before = hsm.calls("C_Decrypt");

  const Refusals prefixes = open_every_prefix(vault, sealed);
  const Refusals flips = open_every_flip(vault, sealed);
  REQUIRE(prefixes.total() == sealed.size());
  REQUIRE(flips.total() == sealed.size() * 8);
  REQUIRE(prefixes == expected_of_prefixes(fields));
  REQUIRE(flips == expected_of_flips(suite, fields));
  CHECK(hsm.calls("C_Decrypt") - decrypts_before >= prefixes.open + flips.open);
  std::printf(
      "suite %s, %zu bytes: %zu prefixes (%zu FormatError, %zu OpenError), %zu bits flipped (%zu FormatError, %zu "
      "WrongRingError, %zu UnknownVersionError, %zu OpenError), 0 accepted\n",
      name, sealed.size(), prefixes.total(), prefixes.format, prefixes.open, flips.total(), flips.format,
      flips.wrong_ring, flips.unknown_version, flips.open);

  // Nothing of it hurt the connection.
  CHECK(vault.open(sealed, kNoContext).text() == SecretBytes{secret}.text());
  CHECK(vault.open(vault.seal(secret, kNoContext), kNoContext).text() == SecretBytes{secret}.text());
  CHECK(hsm.open_sessions() <= 1 + SessionLimits{}.max_sessions);
  CHECK(hsm.calls("C_Login") == 1);
  CHECK(hsm.calls("C_Initialize") == 1);
  CHECK(hsm.calls("C_Logout") + hsm.calls("C_Finalize") == 0);
}

}  // namespace

TEST_CASE("every prefix and every flipped bit of an envelope under a data key is refused") {
  refuses_every_change(Suite::DataKey, "1 (data key)", 18 + 60 + 32 + 12);
}

TEST_CASE("every prefix and every flipped bit of an envelope sealed in the token is refused") {
  refuses_every_change(Suite::Token, "2 (in the token)", 18 + 12);
}
