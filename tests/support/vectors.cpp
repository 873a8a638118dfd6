#include "support/vectors.hpp"

#include "support/hurried_clock.hpp"

#include <algorithm>
#include <fstream>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal::test {
namespace {

using nlohmann::json;

Bytes from_hex(const std::string& text) {
  auto bytes = crypto::from_hex(text);
  if (!bytes) throw std::runtime_error("not hexadecimal in the vectors: " + text);
  return *std::move(bytes);
}

KekId kek_id_of(const json& kek) {
  KekId id;
  const Bytes bytes = bytes_at(kek, "kek_id");
  if (bytes.size() != id.bytes.size()) throw std::runtime_error("a kek_id of another size in the vectors");
  std::ranges::copy(bytes, id.bytes.begin());
  return id;
}

/// One key of the file; `key` is nothing for one that the file does not have.
class VectorWrapper final : public KeyWrapper {
 public:
  VectorWrapper(std::optional<Bytes> key, std::size_t iv_bytes, std::shared_ptr<std::atomic<int>> unwraps)
      : key_(std::move(key)), iv_bytes_(iv_bytes), unwraps_(std::move(unwraps)) {}

  Bytes wrap(ByteView plain, ByteView aad) override {
    SecretBytes text{plain};
    Bytes wrapped(iv_bytes_);
    crypto::random_fill(wrapped);
    std::array<std::byte, crypto::kTagBytes> tag{};
    crypto::aes256_gcm_encrypt(key(), wrapped, aad, text.writable(), tag);
    wrapped.insert(wrapped.end(), text.view().begin(), text.view().end());
    wrapped.insert(wrapped.end(), tag.begin(), tag.end());
    return wrapped;
  }

  SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    ++*unwraps_;
    const ByteView token_label = bytes_of(core::kTokenLabel);
    const bool by_token = std::ranges::equal(aad.first(std::min(aad.size(), token_label.size())), token_label);
    // All that is wrapped besides the secrets of suite 2 has 32 bytes, which tells the IV's size.
    const std::size_t around_key = crypto::kKeyBytes + crypto::kTagBytes;
    const std::size_t iv_bytes = by_token ? iv_bytes_ : wrapped.size() - std::min(wrapped.size(), around_key);
    if (iv_bytes == 0 || wrapped.size() < iv_bytes + crypto::kTagBytes) throw OpenError();
    SecretBytes text{wrapped.subspan(iv_bytes, wrapped.size() - iv_bytes - crypto::kTagBytes)};
    const auto tag = wrapped.last<crypto::kTagBytes>();
    if (!crypto::aes256_gcm_decrypt(key(), wrapped.first(iv_bytes), aad, text.writable(), tag)) throw OpenError();
    return text;
  }

 private:
  [[nodiscard]] ByteView key() const {
    if (!key_) throw KeyNotFoundError("the vectors have no key of this kek_id");
    return *key_;
  }

  std::optional<Bytes> key_;
  std::size_t iv_bytes_;
  std::shared_ptr<std::atomic<int>> unwraps_;
};

/// Proves the key before its first use.
class ProvedWrapper final : public KeyWrapper {
 public:
  ProvedWrapper(std::shared_ptr<KeyWrapper> wrapper, std::shared_ptr<KeyWrapper> for_proof, KeyDescription key)
      : wrapper_(std::move(wrapper)), for_proof_(std::move(for_proof)), key_(std::move(key)) {}

  Bytes wrap(ByteView plain, ByteView aad) override { return proved().wrap(plain, aad); }
  SecretBytes unwrap(ByteView wrapped, ByteView aad) override { return proved().unwrap(wrapped, aad); }

 private:
  KeyWrapper& proved() {
    std::call_once(once_, [&] { check_key_proof(*for_proof_, key_.kek_id, key_.proof); });
    return *wrapper_;
  }

  std::shared_ptr<KeyWrapper> wrapper_, for_proof_;
  KeyDescription key_;
  std::once_flag once_;
};

}  // namespace

const std::set<std::string>& Vectors::list_names() {
  static const std::set<std::string> names = {
      "valid",   "invalid_rings",      "audit_logs",   "rewrapped", "proofs", "keks",  "contexts", "invalid_exports",
      "invalid", "invalid_audit_logs", "invalid_pins", "exports",   "pins",   "rings", "followed", "invalid_contexts"};
  return names;
}

Vectors::Vectors(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) throw std::runtime_error("no vectors: " + file.string());
  try {
    lists_ = json::parse(stream);
  } catch (const json::exception& error) {
    throw std::runtime_error(file.string() + " is not JSON: " + error.what());
  }
  if (!lists_.is_object()) throw std::runtime_error(file.string() + " is not an object of lists");
  for (const auto& [name, list] : lists_.items()) {
    if (!list_names().contains(name)) throw std::runtime_error("vectors that nobody reads: " + name);
  }
  for (const auto& name : list_names()) {
    if (!lists_.contains(name) || !lists_.at(name).is_array() || lists_.at(name).empty()) {
      throw std::runtime_error("no vectors in the list " + name);
    }
  }
}

const Vectors& Vectors::instance() {
  static const Vectors vectors(std::filesystem::path(HSMSEAL_SOURCE_DIR) / "tests" / "vectors" / "envelopes_v1.json");
  return vectors;
}

const json& Vectors::entry(const std::string& list_name, const std::string& name) const {
  const json& entries = list(list_name);
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const json& e) { return e.at("name") == name; });
  if (found == entries.end()) throw std::runtime_error("no vector " + name + " in the list " + list_name);
  return *found;
}

std::map<std::string, std::string> Vectors::rules_by_name() const {
  std::map<std::string, std::string> rules;
  for (const auto& list : lists_) {
    for (const json& entry : list) {
      if (!entry.contains("name")) continue;  // the keks
      const auto name = entry.at("name").get<std::string>();
      const bool is_new = rules.emplace(name, entry.contains("must") ? entry.at("must").get<std::string>() : "").second;
      if (!is_new) throw std::runtime_error("two vectors have the name " + name);
    }
  }
  return rules;
}

Bytes bytes_at(const json& entry, const std::string& field) {
  return from_hex(entry.at(field).get_ref<const std::string&>());
}

ErrorCode code_of(const std::string& error_name) {
  static const std::map<std::string, ErrorCode> codes = {
      {"Format", ErrorCode::Format},
      {"WrongRing", ErrorCode::WrongRing},
      {"UnknownVersion", ErrorCode::UnknownVersion},
      {"DeletedVersion", ErrorCode::DeletedVersion},
      {"Open", ErrorCode::Open},
      {"WrongKey", ErrorCode::WrongKey},
      {"Store", ErrorCode::Store},
      {"RingTampered", ErrorCode::RingTampered},
      {"RingRolledBack", ErrorCode::RingRolledBack},
      {"RingForked", ErrorCode::RingForked},
  };
  const auto found = codes.find(error_name);
  if (found == codes.end()) throw std::runtime_error("an error that the document does not have: " + error_name);
  return found->second;
}

VectorProvider::VectorProvider(const Vectors& vectors, std::size_t iv_bytes) : iv_bytes_(iv_bytes) {
  for (const json& kek : vectors.list("keks")) keys_.emplace(kek_id_of(kek), bytes_at(kek, "kek"));
}

KeyDescription VectorProvider::provision(const SetSpec&, const RingId&, Version) {
  throw InvalidArgumentError("the vectors' keys are all there are");
}

void VectorProvider::destroy(const KeyDescription&) { throw InvalidArgumentError("the vectors' keys stay"); }

std::shared_ptr<KeyWrapper> VectorProvider::connect(const KeyDescription& key, Version) {
  const auto found = keys_.find(key.kek_id);
  const auto known = found == keys_.end() ? std::nullopt : std::optional{found->second};
  auto uncounted = std::make_shared<VectorWrapper>(known, iv_bytes_, std::make_shared<std::atomic<int>>(0));
  return std::make_shared<ProvedWrapper>(std::make_shared<VectorWrapper>(known, iv_bytes_, unwraps_), uncounted, key);
}

std::shared_ptr<KeyWrapper> VectorProvider::wrapper_of(const KekId& kek_id) const {
  return std::make_shared<VectorWrapper>(keys_.at(kek_id), iv_bytes_, unwraps_);
}

RingRecord record_of(const json& entry) {
  RingRecord record;
  record.generation = entry.at("generation").get<std::uint64_t>();
  if (entry.contains("body")) {
    record.body = entry.at("body").get<std::string>();
  } else {
    const Bytes body = bytes_at(entry, "body_hex");
    record.body.assign(reinterpret_cast<const char*>(body.data()), body.size());
  }
  const Bytes mac = bytes_at(entry, "mac");
  if (mac.size() != record.mac.size()) throw std::runtime_error("a mac of another size in the vectors");
  std::ranges::copy(mac, record.mac.begin());
  return record;
}

KeyRing open_ring(const Vectors& vectors, const std::string& name, std::shared_ptr<KeyProvider> provider) {
  return KeyRing::open(std::make_shared<ShownStore>(record_of(vectors.entry("rings", name))), std::move(provider),
                       RingPin::in_process(), {.clock = hurried_clock()});
}

}  // namespace hsmseal::test
