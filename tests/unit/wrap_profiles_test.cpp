// Sets that wrap in different ways, in one ring: each seals and opens in its own, and envelopes move between them.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "core/wrap_rules.hpp"
#include "ring/body.hpp"
#include "software_ring.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_parts.hpp"

using namespace hsmseal;
using test::message_of;
using test::SoftwareRing;

namespace {

constexpr auto kCbc = WrapAlgorithm::Aes256CbcHmac;

/// One profile of each kind, and how much longer than a secret its envelopes are.
struct Kind {
  const char* name;
  SetSpec spec;
  std::size_t around_data_key;
};

std::vector<Kind> kinds() {
  const auto gcm = [](IvRule rule, std::uint32_t iv_bytes, std::uint64_t mechanism = 0x1087) {
    return SetSpec{.token = "t", .gcm = GcmForm{rule, iv_bytes, mechanism, GcmParameters::WithoutIvBits}};
  };
  return {
      {"GCM", {.token = "t"}, 138},
      {"CBC and HMAC", {.token = "t", .algorithm = kCbc}, 158},
      {"GCM, IV of 12 written by the token", gcm(IvRule::TokenWrites, 12), 138},
      {"GCM, IV of 16 written by the token", gcm(IvRule::TokenWrites, 16), 142},
      {"GCM, IV of 16 appended by the token", gcm(IvRule::TokenAppends, 16), 142},
      {"GCM, IV of 12 prepended by the token", gcm(IvRule::TokenPrepends, 12, 0x80001087), 138},
      {"CBC and HMAC again", {.token = "t", .algorithm = kCbc}, 158},
  };
}

const std::string kSecret = "hunter2";

/// A provider that answers for another one and changes what it says.
class LyingProvider final : public KeyProvider {
 public:
  using Lie = std::function<void(KeyDescription&)>;
  LyingProvider(std::shared_ptr<KeyProvider> inner, Lie lie) : inner_(std::move(inner)), lie_(std::move(lie)) {}

  KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
    KeyDescription key = inner_->provision(spec, ring, version);
    truth_[version] = key;
    lie_(key);
    return key;
  }
  std::shared_ptr<KeyWrapper> connect(const KeyDescription&, Version version) override {
    return inner_->connect(truth_.at(version), version);
  }
  std::vector<FoundKey> find_keys(const RingId&, const std::string&) override { return {}; }
  void destroy(const KeyDescription&) override {}

 private:
  std::shared_ptr<KeyProvider> inner_;
  Lie lie_;
  std::map<Version, KeyDescription> truth_;
};

}  // namespace

TEST_CASE("an envelope of any algorithm and IV moves to any other, with its payload as it was") {
  const std::vector<Kind> all = kinds();
  std::size_t moves = 0;
  for (const Kind& from : all) {
    SoftwareRing ring{.spec = from.spec};
    const EnvelopeEncryptor vault = ring.encryptor();
    const Context context = Context{}.add("record", "42");
    const Bytes sealed = vault.seal(bytes_of(kSecret), context);
    REQUIRE(sealed.size() == from.around_data_key + kSecret.size());
    CHECK(inspect(sealed).algorithm == ring.ring.active().key.profile.algorithm);
    for (const Kind& to : all) {
      INFO(from.name << " to " << to.name);
      const Version version = ring.ring.add(to.spec);
      const Bytes moved = vault.rewrap(sealed);
      CHECK(moved.size() == to.around_data_key + kSecret.size());
      CHECK(inspect(moved).algorithm == to.spec.algorithm.value_or(WrapAlgorithm::Aes256Gcm));
      CHECK(inspect(moved).version == version);
      const std::size_t payload = 32 + 12 + kSecret.size() + 16;  // with commitment and nonce
      CHECK(std::ranges::equal(ByteView{moved}.last(payload), ByteView{sealed}.last(payload)));
      CHECK(vault.open(moved, context).text() == kSecret);
      CHECK(vault.open(vault.reseal(sealed, context), context).text() == kSecret);
      CHECK(vault.open(sealed, context).text() == kSecret);
      ++moves;
    }
  }
  CHECK(moves == all.size() * all.size());
}

TEST_CASE("the ring keeps each set's profile, and any host reads it") {
  test::RingParts f;
  const KeyRing ring = [&] {
    KeyRing made = f.create();
    for (const Kind& kind : kinds()) made.add(kind.spec, Activation::Later);
    return made;
  }();
  const std::vector<CredentialSet> sets = f.open().list();
  REQUIRE(sets == ring.list());
  REQUIRE(sets.size() == kinds().size() + 1);
  for (std::size_t i = 0; i < kinds().size(); ++i) {
    const Kind& kind = kinds()[i];
    INFO(kind.name);
    const KeyDescription& key = sets[i + 1].key;
    CHECK(key.profile.algorithm == kind.spec.algorithm.value_or(WrapAlgorithm::Aes256Gcm));
    CHECK(key.profile.gcm == kind.spec.gcm.value_or(GcmForm{}));
    CHECK(key.mac_key_id.empty() == (key.profile.algorithm == WrapAlgorithm::Aes256Gcm));
    CHECK(key.proof.wrapped.size() == 32 + core::overhead(key.profile));
    CHECK(sets[i + 1].wrapped_ring_key.size() == key.proof.wrapped.size());
    CHECK_NOTHROW(f.open().verify(sets[i + 1].version));
  }
}

TEST_CASE("a set of CBC and HMAC does not seal in the token, and says what does") {
  SoftwareRing ring{.spec = {.token = "gcm"}};
  const Bytes old = ring.in_token().seal(bytes_of(kSecret), kNoContext);
  ring.ring.add({.token = "cbc", .algorithm = kCbc});
  const int wraps = ring.provider->wraps();
  for (const std::size_t size : {0U, 16U, 32U}) {
    const auto message =
        message_of<InvalidArgumentError>([&] { return ring.in_token().seal(Bytes(size), kNoContext); });
    CHECK_NAMES(message, "Suite::DataKey");
    CHECK_NAMES(message, "set 2 on token 'cbc'");
  }
  CHECK_THROWS_AS(ring.in_token().reseal(old, kNoContext), InvalidArgumentError);
  CHECK(ring.provider->wraps() == wraps);
  CHECK(ring.in_token().open(old, kNoContext).text() == kSecret);
  const Bytes moved = ring.encryptor().reseal(old, kNoContext);
  CHECK(inspect(moved).suite == Suite::DataKey);
  CHECK(inspect(moved).algorithm == kCbc);
  CHECK(ring.in_token().open(moved, kNoContext).text() == kSecret);
}

TEST_CASE("a set is not stored whose key is described as no set's can be") {
  const auto refused = [](const SetSpec& spec, const LyingProvider::Lie& lie) {
    test::RingParts f;
    const auto provider = std::make_shared<LyingProvider>(f.provider, lie);
    const auto message = message_of<InvalidArgumentError>(
        [&] { return KeyRing::create(f.store, provider, spec, RingPin::in_process()); });
    CHECK_FALSE(f.store->record);
    return message;
  };
  const SetSpec gcm{.token = "t"}, cbc{.token = "t", .algorithm = kCbc};
  CHECK_NAMES(refused(gcm, [](KeyDescription& key) { key.mac_key_id = {std::byte{1}}; }), "MAC key");
  CHECK_NAMES(refused(cbc, [](KeyDescription& key) { key.mac_key_id.clear(); }), "MAC key");
  CHECK_NAMES(refused(cbc, [](KeyDescription& key) { key.mac_key_id.resize(256); }), "CKA_ID");
  CHECK_NAMES(refused(gcm, [](KeyDescription& key) { key.profile.gcm.iv_bytes = 13; }), "iv_bytes");
  CHECK_NAMES(refused(gcm, [](KeyDescription& key) { key.profile.gcm.iv_bytes = 16; }), "the caller's IV has 12 bytes");
  CHECK_NAMES(refused(gcm, [](KeyDescription& key) { key.profile.gcm = {IvRule::TokenWrites, 16}; }), "proof");
  CHECK_NAMES(refused(gcm, [](KeyDescription& key) { key.profile.gcm.mechanism = std::uint64_t{1} << 32; }),
              "mechanism");
  CHECK_NAMES(refused(gcm, [](KeyDescription& key) { key.profile.gcm.iv_rule = static_cast<IvRule>(17); }), "IVs");
  CHECK_NAMES(refused(gcm, [](KeyDescription& key) { key.profile.algorithm = static_cast<WrapAlgorithm>(3); }),
              "way to wrap");
  CHECK_NAMES(refused(cbc, [](KeyDescription& key) { key.profile.gcm.iv_rule = IvRule::TokenWrites; }),
              "reads otherwise");
}

TEST_CASE("CBC wraps whole blocks up to 4096 bytes, and AES-GCM what the profile allows") {
  const WrapProfile gcm{WrapAlgorithm::Aes256Gcm, {}, 5000}, cbc{kCbc, {}, 5000};
  for (const std::size_t size : {0U, 1U, 15U, 16U, 4096U, 5000U}) CHECK(core::can_wrap(gcm, size));
  for (const std::size_t size : {16U, 32U, 4080U, 4096U}) CHECK(core::can_wrap(cbc, size));
  for (const std::size_t size : {0U, 1U, 15U, 17U, 31U, 4095U, 4097U, 4112U}) CHECK_FALSE(core::can_wrap(cbc, size));
  CHECK_FALSE(core::can_wrap(gcm, 5001));
  CHECK_FALSE(core::can_wrap({kCbc, {}, 16}, 32));
  CHECK(core::overhead(gcm) == 28);
  CHECK(core::overhead(cbc) == 48);
  CHECK(core::overhead({WrapAlgorithm::Aes256Gcm, {IvRule::TokenAppends, 16}, 4096}) == 32);
}

TEST_CASE("of all sizes of a wrapped data key, two are AES-GCM's and one is CBC's") {
  std::vector<std::size_t> of_gcm, of_cbc;
  for (std::size_t size = 0; size < 70'000; ++size) {
    if (core::is_wrapped_size(WrapAlgorithm::Aes256Gcm, size, 32)) of_gcm.push_back(size);
    if (core::is_wrapped_size(kCbc, size, 32)) of_cbc.push_back(size);
  }
  CHECK(of_gcm == std::vector<std::size_t>{60, 64});
  CHECK(of_cbc == std::vector<std::size_t>{80});
}
