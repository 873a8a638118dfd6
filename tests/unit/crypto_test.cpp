#include "crypto/crypto.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "helpers.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::hex;
using test::unhex;

namespace {

constexpr std::string_view kUrlAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct GcmVector {
  const char* source;
  const char* key;
  const char* nonce;
  const char* aad;
  const char* text;
  const char* sealed;
  const char* tag;
};

/// The algorithm's specification (McGrew and Viega, appendix B) and NIST's CAVP file gcmEncryptExtIV256.rsp.
constexpr GcmVector kGcmVectors[] = {
    {"specification, case 13", "0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {"specification, case 14", "0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "", "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18",
     "d0d1c8a799996bf0265b98b5d48ab919"},
    {"specification, case 15", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"},
    {"specification, case 16", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
    {"CAVP, no text, no associated data", "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
     "516c33929df5a3284ff463d7", "", "", "", "bdc1ac884d332457a1d2664f168c76f0"},
    {"CAVP, associated data alone", "78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223",
     "d79cf22d504cc793c3fb6c8a", "b96baa8c1c75a671bfb2d08d06be5f36", "", "", "3e5d486aa2e30b22e040b85723a06e76"},
};

struct Sealed {
  Bytes text;
  std::array<std::byte, crypto::kTagBytes> tag{};
};

Sealed seal(ByteView key, ByteView nonce, ByteView aad, ByteView text) {
  Sealed sealed{test::copy_of(text)};
  crypto::aes256_gcm_encrypt(key, nonce, aad, sealed.text, sealed.tag);
  return sealed;
}

/// Bytes that differ from each other, to tell places apart.
Bytes counting(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
  return bytes;
}

const Bytes kKey = counting(32);
const Bytes kNonce = counting(12);

}  // namespace

TEST_CASE("SHA-256 is that of FIPS 180-4") {
  CHECK(hex(crypto::sha256({})) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex(crypto::sha256(bytes_of("abc"))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex(crypto::sha256(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("HMAC-SHA-256 is that of RFC 4231") {
  const auto mac = [](std::string_view key, ByteView data) { return hex(crypto::hmac_sha256(unhex(key), data)); };
  CHECK(mac("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", bytes_of("Hi There")) ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(mac("4a656665", bytes_of("what do ya want for nothing?")) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(mac("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Bytes(50, std::byte{0xdd})) ==
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  CHECK(mac("0102030405060708090a0b0c0d0e0f10111213141516171819", Bytes(50, std::byte{0xcd})) ==
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
  std::string long_key;
  for (int i = 0; i < 131; ++i) long_key += "aa";
  CHECK(mac(long_key, bytes_of("Test Using Larger Than Block-Size Key - Hash Key First")) ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(mac(long_key, bytes_of("This is a test using a larger than block-size key and a larger than block-size data. "
                               "The key needs to be hashed before being used by the HMAC algorithm.")) ==
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST_CASE("HKDF-Expand is that of RFC 5869") {
  const auto expand = [](std::string_view prk, std::string_view info, std::size_t size) {
    return hex(crypto::hkdf_expand_sha256(unhex(prk), unhex(info), size).view());
  };
  CHECK(expand("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", "f0f1f2f3f4f5f6f7f8f9", 42) ==
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  CHECK(expand("06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
               "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
               "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
               82) ==
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
  CHECK(expand("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", "", 42) ==
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST_CASE("HKDF-Expand reaches to 255 blocks, and a longer output begins like a shorter one") {
  const auto all = crypto::hkdf_expand_sha256(kKey, bytes_of("info"), 255 * 32);
  REQUIRE(all.size() == 255 * 32);
  for (const std::size_t size : {std::size_t{1}, std::size_t{32}, std::size_t{33}, std::size_t{64}}) {
    CHECK(hex(crypto::hkdf_expand_sha256(kKey, bytes_of("info"), size).view()) == hex(all.view().first(size)));
  }
  CHECK(hex(all.view().first(32)) != hex(crypto::hkdf_expand_sha256(kKey, bytes_of("other"), 32).view()));
}

TEST_CASE("AES-256-GCM is that of NIST SP 800-38D") {
  for (const GcmVector& vector : kGcmVectors) {
    INFO(vector.source);
    const Bytes key = unhex(vector.key), nonce = unhex(vector.nonce), aad = unhex(vector.aad);
    Sealed sealed = seal(key, nonce, aad, unhex(vector.text));
    CHECK(hex(sealed.text) == vector.sealed);
    CHECK(hex(sealed.tag) == vector.tag);
    CHECK(crypto::aes256_gcm_decrypt(key, nonce, aad, sealed.text, sealed.tag));
    CHECK(hex(sealed.text) == vector.text);
  }
}

TEST_CASE("AES-256-GCM gives back texts of all lengths") {
  std::set<std::string> tags;
  const auto round_trip = [&](std::size_t size) {
    const Bytes text = counting(size);
    const Bytes aad = counting(size % 40);
    Sealed sealed = seal(kKey, kNonce, aad, text);
    CHECK(sealed.text.size() == size);
    if (size > 4) CHECK(sealed.text != text);
    tags.insert(hex(sealed.tag));
    CHECK(crypto::aes256_gcm_decrypt(kKey, kNonce, aad, sealed.text, sealed.tag));
    CHECK(sealed.text == text);
  };
  for (std::size_t size = 0; size <= 100; ++size) round_trip(size);
  for (const std::size_t size : {4095U, 4096U, 4097U, 65536U, 1'000'003U}) round_trip(size);
  CHECK(tags.size() == 106);
}

TEST_CASE("one object of AES-256-GCM does what a new one for each message does, also after a refusal") {
  crypto::Aes256Gcm gcm{kKey};
  for (std::size_t round = 0; round < 40; ++round) {
    const std::size_t size = round * 37 % 200;
    const Bytes nonce = counting(12 + round);
    const ByteView nonce_view = ByteView{nonce}.last(12);
    const Bytes aad = counting(round % 3 * 10);
    const Sealed expected = seal(kKey, nonce_view, aad, counting(size));
    Sealed sealed{counting(size)};
    gcm.encrypt(nonce_view, aad, sealed.text, sealed.tag);
    CHECK(sealed.text == expected.text);
    CHECK(sealed.tag == expected.tag);
    if (round % 4 == 0) {
      Bytes refused = sealed.text;
      CHECK_FALSE(gcm.decrypt(kNonce, test::with_flipped_bit(aad.empty() ? kKey : aad, 0), refused, sealed.tag));
      CHECK(refused == Bytes(size));
    }
    CHECK(gcm.decrypt(nonce_view, aad, sealed.text, sealed.tag));
    CHECK(sealed.text == counting(size));
  }
}

TEST_CASE("a text whose tag does not match is refused and wiped") {
  const Bytes aad = counting(20);
  for (const std::size_t size : {0U, 1U, 15U, 16U, 33U, 5000U}) {
    const Sealed sealed = seal(kKey, kNonce, aad, counting(size));
    const auto is_refused = [&](ByteView nonce, ByteView data, ByteView text, ByteView tag_bytes) {
      std::array<std::byte, crypto::kTagBytes> tag{};
      std::ranges::copy(tag_bytes, tag.begin());
      Bytes opened = test::copy_of(text);
      const bool accepted = crypto::aes256_gcm_decrypt(kKey, nonce, data, opened, tag);
      return !accepted && opened == Bytes(text.size());
    };
    std::size_t flips = 0;
    for (std::size_t bit = 0; bit < crypto::kTagBytes * 8; ++bit, ++flips) {
      CHECK(is_refused(kNonce, aad, sealed.text, test::with_flipped_bit(sealed.tag, bit)));
    }
    for (std::size_t bit = 0; bit < std::min<std::size_t>(size, 40) * 8; ++bit, ++flips) {
      CHECK(is_refused(kNonce, aad, test::with_flipped_bit(sealed.text, bit), sealed.tag));
    }
    CHECK(flips == (16 + std::min<std::size_t>(size, 40)) * 8);
    CHECK(is_refused(kNonce, test::with_flipped_bit(aad, 0), sealed.text, sealed.tag));
    CHECK(is_refused(kNonce, {}, sealed.text, sealed.tag));
    CHECK(is_refused(test::with_flipped_bit(kNonce, 95), aad, sealed.text, sealed.tag));
  }
}

TEST_CASE("AES-256-CBC is that of NIST SP 800-38A") {
  // F.2.5
  const Bytes key = unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
  const Bytes iv = unhex("000102030405060708090a0b0c0d0e0f");
  const std::string plain =
      "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
      "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
  Bytes text = unhex(plain);
  crypto::aes256_cbc_encrypt(key, iv, text);
  CHECK(hex(text) ==
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
        "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b");
  crypto::aes256_cbc_decrypt(key, iv, text);
  CHECK(hex(text) == plain);
}

TEST_CASE("random bytes do not repeat") {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    seen.insert(hex(crypto::random_array<16>()));
    seen.insert(hex(crypto::random_secret(16).view()));
  }
  CHECK(seen.size() == 200);
  CHECK(crypto::random_secret(0).empty());
  CHECK(crypto::random_secret(33).size() == 33);
}

TEST_CASE("bytes are equal if all of them are") {
  CHECK(crypto::equal({}, {}));
  CHECK(crypto::equal(kKey, counting(32)));
  CHECK_FALSE(crypto::equal(kKey, counting(31)));
  CHECK_FALSE(crypto::equal(kKey, {}));
  for (std::size_t bit = 0; bit < 256; ++bit) CHECK_FALSE(crypto::equal(kKey, test::with_flipped_bit(kKey, bit)));
}

TEST_CASE("hexadecimal is read in lower case alone") {
  REQUIRE(crypto::from_hex("00ff1a"));
  CHECK(*crypto::from_hex("00ff1a") == Bytes{std::byte{0}, std::byte{0xff}, std::byte{0x1a}});
  REQUIRE(crypto::from_hex(""));
  CHECK(crypto::from_hex("")->empty());
  for (const std::string_view wrong : {"0", "abc", "AB", "aB", "0g", " 00", "00 ", "0 0", "00\n", "0x00", "+1", "-1"}) {
    CAPTURE(std::string(wrong));
    CHECK_FALSE(crypto::from_hex(wrong));
  }
  CHECK_FALSE(crypto::from_hex(std::string_view("00\0\0", 4)));
  std::size_t accepted = 0;
  for (int character = 0; character < 256; ++character) {
    accepted += crypto::from_hex(std::string{'0', static_cast<char>(character)}) ? 1U : 0U;
  }
  CHECK(accepted == 16);
  for (int byte = 0; byte < 256; ++byte) {
    const Bytes bytes{static_cast<std::byte>(byte)};
    CHECK(crypto::from_hex(core::to_hex(bytes)) == bytes);
  }
}

TEST_CASE("base64url is that of RFC 4648 without padding") {
  const std::pair<const char*, const char*> vectors[] = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [text, encoded] : vectors) {
    CHECK(crypto::to_base64url(bytes_of(text)) == encoded);
    REQUIRE(crypto::from_base64url(encoded));
    CHECK(hex(*crypto::from_base64url(encoded)) == hex(bytes_of(text)));
  }
  CHECK(crypto::to_base64url(unhex("fbefbe")) == "----");
  CHECK(crypto::to_base64url(unhex("ffffff")) == "____");
}

TEST_CASE("base64url gives back bytes of all lengths") {
  for (std::size_t size = 0; size <= 300; ++size) {
    const Bytes bytes = counting(size);
    const std::string text = crypto::to_base64url(bytes);
    CHECK(text.find_first_not_of(kUrlAlphabet) == std::string::npos);
    CHECK(text.size() == (size * 4 + 2) / 3);
    CHECK(crypto::from_base64url(text) == bytes);
  }
}

TEST_CASE("base64url with any other character is refused, wherever it stands") {
  for (const std::string& good : {std::string("Zm9vYmFy"), std::string("Zm9vYmE"), std::string("Zm9vYg")}) {
    std::size_t refused = 0;
    for (std::size_t at = 0; at <= good.size(); ++at) {
      for (int character = 0; character < 256; ++character) {
        if (kUrlAlphabet.find(static_cast<char>(character)) != std::string_view::npos) continue;
        std::string inserted = good, replaced = good;
        inserted.insert(at, 1, static_cast<char>(character));
        refused += crypto::from_base64url(inserted) ? 0U : 1U;
        if (at == good.size()) continue;
        replaced[at] = static_cast<char>(character);
        refused += crypto::from_base64url(replaced) ? 0U : 1U;
      }
    }
    CHECK(refused == (256 - 64) * (2 * good.size() + 1));
  }
}

TEST_CASE("base64url with padding, the standard alphabet or white space is refused") {
  for (const std::string_view wrong : {"Zg==", "Zg=", "Zm8=", "=", "==", "====", "Zm9v====", "++++", "////", " Zm9v",
                                       "Zm9v ", "Zm9v\n", "Zm\r\n9v", "Zm9v\t", "Z.g"}) {
    CAPTURE(std::string(wrong));
    CHECK_FALSE(crypto::from_base64url(wrong));
  }
}

TEST_CASE("base64url of 4k + 1 characters is refused") {
  for (std::size_t size = 1; size <= 101; size += 4) CHECK_FALSE(crypto::from_base64url(std::string(size, 'A')));
}

TEST_CASE("base64url whose last character has bits left over is refused") {
  std::size_t two = 0, three = 0;
  for (const char first : kUrlAlphabet) {
    for (const char second : kUrlAlphabet) two += crypto::from_base64url(std::string{first, second}) ? 1U : 0U;
  }
  CHECK(two == 256);  // of 4096: one text for each byte
  for (const char second : kUrlAlphabet) {
    for (const char third : kUrlAlphabet) three += crypto::from_base64url(std::string{'_', second, third}) ? 1U : 0U;
  }
  CHECK(three == 1024);  // of 4096: ten bits that count, two that must be zero
}
