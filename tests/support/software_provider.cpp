#include "support/software_provider.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>

#include <hsmseal/error.hpp>

#include "crypto/crypto.hpp"
#include "support/software_wrap.hpp"

namespace hsmseal::test {
namespace {

enum class Direction { Both, UnwrapOnly };

class SoftwareWrapper final : public KeyWrapper {
 public:
  SoftwareWrapper(SoftwareProvider& provider, KeyDescription key, Direction direction)
      : provider_(provider), key_(std::move(key)), direction_(direction) {}

  Bytes wrap(ByteView key, ByteView aad) override {
    if (direction_ == Direction::UnwrapOnly) throw InvalidArgumentError("a key without a proof only unwraps");
    provider_.count_wrap();
    return software_wrap(key_.profile, kek().view(), mac_key().view(), key, aad);
  }

  SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    provider_.count_unwrap();
    return software_unwrap(key_.profile, kek().view(), mac_key().view(), wrapped, aad);
  }

 private:
  [[nodiscard]] SecretBytes kek() const { return provider_.key(key_.key_id); }
  [[nodiscard]] SecretBytes mac_key() const {
    return key_.mac_key_id.empty() ? SecretBytes{} : provider_.key(key_.mac_key_id);
  }

  SoftwareProvider& provider_;  ///< outlives the ring in every test
  KeyDescription key_;
  Direction direction_;
};

/// As a token would be found to do it.
WrapProfile profile_for(const SetSpec& spec) {
  WrapProfile profile;
  profile.algorithm = spec.algorithm.value_or(WrapAlgorithm::Aes256Gcm);
  if (profile.algorithm == WrapAlgorithm::Aes256Gcm) profile.gcm = spec.gcm.value_or(GcmForm{});
  return profile;
}

}  // namespace

KeyDescription SoftwareProvider::provision(const SetSpec& spec, const RingId& ring, Version version) {
  KeyDescription key;
  key.kek_id = {crypto::random_array<16>()};
  if (spec.adopt_key_id) {
    key.key_id = *spec.adopt_key_id;
  } else {
    key.key_id.assign(key.kek_id.bytes.begin(), key.kek_id.bytes.end());
    put_key(key.key_id, crypto::random_secret(crypto::kKeyBytes).view());
  }
  key.token = spec.token;
  key.token_label = "software";
  key.token_serial = "0";
  key.key_label =
      spec.key_label.empty() ? "hsmseal-" + ring.to_string() + "-v" + std::to_string(version) : spec.key_label;
  key.profile = profile_for(spec);
  const bool has_mac_key = key.profile.algorithm == WrapAlgorithm::Aes256CbcHmac;
  if (has_mac_key && spec.adopt_mac_key_id) {
    key.mac_key_id = *spec.adopt_mac_key_id;
  } else if (has_mac_key) {
    key.mac_key_id = Bytes(16);
    crypto::random_fill(key.mac_key_id);
    put_key(key.mac_key_id, crypto::random_secret(crypto::kKeyBytes).view());
  }
  SoftwareWrapper unproved{*this, key, Direction::Both};
  key.proof = make_key_proof(unproved, key.kek_id);
  if (spec.key_label.empty()) note_made(key, spec, ring, version);
  return key;
}

void SoftwareProvider::note_made(const KeyDescription& key, const SetSpec& spec, const RingId& ring, Version version) {
  const std::scoped_lock lock{mutex_};
  const auto note = [&](const Bytes& id, const std::string& label, KeyPart part) {
    made_[ring].push_back({key.token, key.token_label, key.token_serial, id, label, version, part});
  };
  if (!spec.adopt_key_id) note(key.key_id, key.key_label, KeyPart::Encryption);
  if (!key.mac_key_id.empty() && !spec.adopt_mac_key_id) note(key.mac_key_id, key.key_label + "-mac", KeyPart::Mac);
}

std::vector<FoundKey> SoftwareProvider::find_keys(const RingId& ring, const std::string& token) {
  check_working();
  const std::scoped_lock lock{mutex_};
  std::vector<FoundKey> found;
  std::ranges::copy_if(made_[ring], std::back_inserter(found), [&](const FoundKey& key) {
    return keys_.contains(key.key_id) && (token.empty() || token == key.token);
  });
  std::ranges::sort(found, {}, [](const FoundKey& key) { return std::tie(key.token, key.version, key.key_id); });
  return found;
}

void SoftwareProvider::destroy(const KeyDescription& key) {
  if (key.proof.wrapped.empty()) throw InvalidArgumentError("a key without a proof is not destroyed");
  check_key_proof(*connect(key, 1), key.kek_id, key.proof);
  remove_key(key.key_id);
  remove_key(key.mac_key_id);
}

std::shared_ptr<KeyWrapper> SoftwareProvider::connect(const KeyDescription& key, Version) {
  return std::make_shared<SoftwareWrapper>(*this, key,
                                           key.proof.wrapped.empty() ? Direction::UnwrapOnly : Direction::Both);
}

void SoftwareProvider::put_key(const Bytes& key_id, ByteView key) {
  const std::scoped_lock lock{mutex_};
  keys_.insert_or_assign(key_id, SecretBytes{key});
}

void SoftwareProvider::replace_key(const Bytes& key_id) { put_key(key_id, crypto::random_secret(32).view()); }

void SoftwareProvider::remove_key(const Bytes& key_id) {
  const std::scoped_lock lock{mutex_};
  keys_.erase(key_id);
}

SecretBytes SoftwareProvider::key(const Bytes& key_id) const {
  const std::scoped_lock lock{mutex_};
  const auto found = keys_.find(key_id);
  if (found == keys_.end()) throw KeyNotFoundError("no such key in the software token");
  return found->second.clone();
}

void SoftwareProvider::check_working() const {
  if (failing_) throw TokenError({"C_Encrypt", 0x30, "CKR_DEVICE_ERROR", true}, "C_Encrypt failed: CKR_DEVICE_ERROR");
}

void SoftwareProvider::count_wrap() {
  check_working();
  ++wraps_;
}

void SoftwareProvider::count_unwrap() {
  check_working();
  ++unwraps_;
}

}  // namespace hsmseal::test
