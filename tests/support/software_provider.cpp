#include "support/software_provider.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::test {
namespace {

enum class Direction { Both, UnwrapOnly };

class SoftwareWrapper final : public KeyWrapper {
 public:
  SoftwareWrapper(SoftwareProvider& provider, Bytes key_id, Direction direction)
      : provider_(provider), key_id_(std::move(key_id)), direction_(direction) {}

  Bytes wrap(ByteView key, ByteView aad) override {
    if (direction_ == Direction::UnwrapOnly) throw InvalidArgumentError("a key without a proof only unwraps");
    provider_.count_wrap();
    const auto iv = crypto::random_array<crypto::kNonceBytes>();
    SecretBytes text{key};
    std::array<std::byte, crypto::kTagBytes> tag;
    crypto::aes256_gcm_encrypt(provider_.key(key_id_).view(), iv, aad, text.writable(), tag);
    return core::Binding{""}.append(ByteView{iv}).append(text.view()).append(ByteView{tag}).take();
  }

  SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    provider_.count_unwrap();
    if (wrapped.size() < crypto::kNonceBytes + crypto::kTagBytes) throw OpenError();
    SecretBytes text{wrapped.subspan(crypto::kNonceBytes, wrapped.size() - crypto::kNonceBytes - crypto::kTagBytes)};
    if (!crypto::aes256_gcm_decrypt(provider_.key(key_id_).view(), wrapped.first(crypto::kNonceBytes), aad,
                                    text.writable(), wrapped.last<crypto::kTagBytes>())) {
      throw OpenError();
    }
    return text;
  }

 private:
  SoftwareProvider& provider_;  ///< outlives the ring in every test
  Bytes key_id_;
  Direction direction_;
};

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
  SoftwareWrapper unproved{*this, key.key_id, Direction::Both};
  key.proof = make_key_proof(unproved, key.kek_id);
  if (!spec.adopt_key_id && spec.key_label.empty()) {
    const std::scoped_lock lock{mutex_};
    made_[ring].push_back({key.token, key.token_label, key.token_serial, key.key_id, key.key_label, version});
  }
  return key;
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
}

std::shared_ptr<KeyWrapper> SoftwareProvider::connect(const KeyDescription& key, Version) {
  return std::make_shared<SoftwareWrapper>(*this, key.key_id,
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
