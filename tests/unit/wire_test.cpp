#include "envelope/wire.hpp"

#include <algorithm>
#include <set>
#include <string>

#include <hsmseal/error.hpp>

#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::hex;
using test::unhex;
using wire::Envelope;

namespace {

/// The fields of one envelope, each filled with a byte of its own.
struct Parts {
  Bytes wrapped, commitment, nonce, payload;

  Parts(Suite suite, std::size_t iv_size, std::size_t secret_size)
      : wrapped(suite == Suite::Token ? iv_size : iv_size + 48, std::byte{0x11}),
        commitment(suite == Suite::Token ? 0 : 32, std::byte{0x22}),
        nonce(suite == Suite::Token ? 0 : 12, std::byte{0x33}),
        payload(secret_size + 16, std::byte{0x44}) {}

  [[nodiscard]] Bytes written(Suite suite) const {
    Envelope envelope;
    envelope.suite = suite;
    envelope.padded = true;
    std::ranges::copy(unhex("a1b2c3d4"), envelope.ring_prefix.begin());
    envelope.version = 0x01020304;
    envelope.wrapped = wrapped;
    envelope.commitment = commitment;
    envelope.nonce = nonce;
    envelope.payload = payload;
    return wire::write(envelope);
  }
};

Bytes sample(Suite suite, std::size_t iv_size = 12, std::size_t secret_size = 32) {
  return Parts(suite, iv_size, secret_size).written(suite);
}

bool is_format_error(ByteView sealed) {
  try {
    (void)wire::read(sealed);
    return false;
  } catch (const FormatError&) {
    return true;
  }
}

Bytes with_byte(Bytes sealed, std::size_t at, int value) {
  sealed.at(at) = static_cast<std::byte>(value);
  return sealed;
}

/// The values of one header byte that are read.
std::set<int> accepted_values(const Bytes& sealed, std::size_t at) {
  std::set<int> accepted;
  for (int value = 0; value < 256; ++value) {
    if (!is_format_error(with_byte(sealed, at, value))) accepted.insert(value);
  }
  return accepted;
}

/// An envelope of a set of AES-CBC and HMAC, with a secret of 2 bytes.
Bytes cbc_sample() { return with_byte(with_byte(sample(Suite::DataKey, 32, 2), 5, 2), 17, 80); }

/// The shortest envelope of a suite: an empty secret.
std::size_t shortest(Suite suite, std::size_t iv_size) { return (suite == Suite::Token ? 34U : 126U) + iv_size; }

}  // namespace

TEST_CASE("an envelope under a data key is written field by field") {
  CHECK(hex(sample(Suite::DataKey, 12, 2)) ==
        "48534531"
        "01"
        "01"
        "01"
        "00"
        "a1b2c3d4"
        "01020304"
        "003c" +
            hex(Bytes(60, std::byte{0x11})) + hex(Bytes(32, std::byte{0x22})) + hex(Bytes(12, std::byte{0x33})) +
            hex(Bytes(18, std::byte{0x44})));
}

TEST_CASE("an envelope of the token is written field by field") {
  CHECK(hex(sample(Suite::Token, 16, 2)) ==
        "48534531"
        "02"
        "01"
        "01"
        "00"
        "a1b2c3d4"
        "01020304"
        "0010" +
            hex(Bytes(16, std::byte{0x11})) + hex(Bytes(18, std::byte{0x44})));
}

TEST_CASE("what was written is read again") {
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    for (const std::size_t iv_size : {12U, 16U}) {
      for (const std::size_t secret_size : {0U, 1U, 32U, 1000U}) {
        const Parts parts(suite, iv_size, secret_size);
        const Bytes sealed = parts.written(suite);
        CHECK(sealed.size() == shortest(suite, iv_size) + secret_size);
        const Envelope read = wire::read(sealed);
        CHECK(read.suite == suite);
        CHECK(read.algorithm == WrapAlgorithm::Aes256Gcm);
        CHECK(read.padded);
        CHECK(hex(read.ring_prefix) == "a1b2c3d4");
        CHECK(read.version == 0x01020304);
        CHECK(hex(read.wrapped) == hex(parts.wrapped));
        CHECK(hex(read.commitment) == hex(parts.commitment));
        CHECK(hex(read.nonce) == hex(parts.nonce));
        CHECK(hex(read.payload) == hex(parts.payload));
        CHECK(wire::write(read) == sealed);
      }
    }
  }
}

TEST_CASE("a header is told without a token") {
  const EnvelopeHeader header = inspect(sample(Suite::Token, 12, 64));
  CHECK(header.format == 1);
  CHECK(header.suite == Suite::Token);
  CHECK(header.algorithm == WrapAlgorithm::Aes256Gcm);
  CHECK(header.padded);
  CHECK(hex(header.ring_prefix) == "a1b2c3d4");
  CHECK(header.version == 0x01020304);
  CHECK(header.secret_bytes == 64);
  CHECK(inspect(sample(Suite::DataKey, 16, 7)).secret_bytes == 7);
  CHECK_FALSE(inspect(with_byte(sample(Suite::DataKey), 6, 0)).padded);
}

TEST_CASE("an envelope cut short is a FormatError") {
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    for (const std::size_t iv_size : {12U, 16U}) {
      const Bytes empty_secret = sample(suite, iv_size, 0);
      REQUIRE(empty_secret.size() == shortest(suite, iv_size));
      REQUIRE_FALSE(is_format_error(empty_secret));
      std::size_t refused = 0;
      for (std::size_t size = 0; size < empty_secret.size(); ++size) {
        refused += is_format_error(ByteView{empty_secret}.first(size)) ? 1U : 0U;
      }
      CHECK(refused == shortest(suite, iv_size));
    }
  }
}

TEST_CASE("an envelope cut within its ciphertext is one of a shorter secret") {
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    const Bytes whole = sample(suite, 12, 32);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      CHECK(is_format_error(ByteView{whole}.first(size)) == (size < shortest(suite, 12)));
    }
  }
}

TEST_CASE("an envelope starts with HSE1") {
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    CHECK(accepted_values(sample(suite), 0) == std::set<int>{'H'});
    CHECK(accepted_values(sample(suite), 1) == std::set<int>{'S'});
    CHECK(accepted_values(sample(suite), 2) == std::set<int>{'E'});
    CHECK(accepted_values(sample(suite), 3) == std::set<int>{'1'});
  }
}

TEST_CASE("the suite says how long the wrapped bytes are, so no other suite fits") {
  CHECK(accepted_values(sample(Suite::DataKey), 4) == std::set<int>{1});
  CHECK(accepted_values(sample(Suite::Token), 4) == std::set<int>{2});
}

TEST_CASE("algorithm, flags and the reserved byte have the values of version 1 alone") {
  CHECK(accepted_values(cbc_sample(), 5) == std::set<int>{2});
  CHECK(accepted_values(sample(Suite::DataKey, 16), 5) == std::set<int>{1});
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    CHECK(accepted_values(sample(suite), 5) == std::set<int>{1});
    CHECK(accepted_values(sample(suite), 6) == std::set<int>{0, 1});
    CHECK(accepted_values(sample(suite), 7) == std::set<int>{0});
  }
}

TEST_CASE("every ring and every version but 0 can be read") {
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    const Bytes sealed = sample(suite);
    for (std::size_t at = 8; at < 16; ++at) CHECK(accepted_values(sealed, at).size() == 256);
    Bytes zero = sealed;
    std::fill(zero.begin() + 12, zero.begin() + 16, std::byte{0});
    CHECK(is_format_error(zero));
    for (std::size_t at = 12; at < 16; ++at) CHECK(accepted_values(zero, at).size() == 255);
    CHECK(wire::read(with_byte(zero, 12, 0xff)).version == 0xff000000);
  }
}

TEST_CASE("of all sizes of the wrapped bytes, two are read in each suite") {
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    Bytes sealed = sample(suite, 12, 70'000);  // longer than any size that two bytes can tell
    std::set<int> accepted;
    for (int size = 0; size < 65536; ++size) {
      sealed[16] = static_cast<std::byte>(size >> 8);
      sealed[17] = static_cast<std::byte>(size & 0xff);
      if (!is_format_error(sealed)) accepted.insert(size);
    }
    CHECK(accepted == (suite == Suite::Token ? std::set<int>{12, 16} : std::set<int>{60, 64}));
  }
}

TEST_CASE("an envelope of a set of CBC and HMAC has 80 wrapped bytes") {
  const Bytes sealed = cbc_sample();
  const Envelope read = wire::read(sealed);
  CHECK(read.algorithm == WrapAlgorithm::Aes256CbcHmac);
  CHECK(inspect(sealed).algorithm == WrapAlgorithm::Aes256CbcHmac);
  CHECK(inspect(sealed).secret_bytes == 2);
  CHECK(hex(read.wrapped) == hex(Bytes(80, std::byte{0x11})));
  CHECK(wire::write(read) == sealed);
  CHECK(is_format_error(with_byte(sealed, 4, 2)));
  std::set<int> accepted;
  for (int size = 0; size < 256; ++size) {
    if (!is_format_error(with_byte(sealed, 17, size))) accepted.insert(size);
  }
  CHECK(accepted == std::set<int>{80});
}

TEST_CASE("an envelope longer than the longest is a FormatError") {
  Bytes sealed = sample(Suite::DataKey);
  sealed.resize(kMaxEnvelopeBytes + 1);
  CHECK(is_format_error(sealed));
  sealed.resize(kMaxEnvelopeBytes);
  CHECK_FALSE(is_format_error(sealed));
  CHECK(inspect(sealed).secret_bytes == kMaxEnvelopeBytes - 138);
}

TEST_CASE("what is no envelope at all is a FormatError") {
  for (const char* const text :
       {"", "H", "HSE1", "password", "HSE2 and more than enough bytes to read a header from"}) {
    CHECK_THROWS_AS(inspect(bytes_of(text)), FormatError);
  }
  CHECK_THROWS_AS(inspect(Bytes(1000)), FormatError);
  CHECK_THROWS_AS(inspect(Bytes(1000, std::byte{0xff})), FormatError);
}

TEST_CASE("a column's value is told from an envelope by its beginning") {
  CHECK(is_sealed(sample(Suite::DataKey)));
  CHECK(is_sealed(sample(Suite::Token)));
  CHECK(is_sealed(bytes_of("HSE1")));
  for (const char* const plain : {"", "H", "HSE", "HSE2", "hse1", "hse1.SFNFMQ", "password"}) {
    CHECK_FALSE(is_sealed(bytes_of(plain)));
  }
}
