#include "support/vectors.hpp"

#include <algorithm>
#include <fstream>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "crypto/crypto.hpp"
#include "support/hurried_clock.hpp"
#include "support/software_wrap.hpp"

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

struct VectorWrapperParts {
  std::optional<VectorProvider::Keys> keys;  ///< nothing for a key that the file does not have
  WrapProfile profile;
  std::shared_ptr<std::atomic<int>> unwraps;
};

class VectorWrapper final : public KeyWrapper {
 public:
  explicit VectorWrapper(VectorWrapperParts parts) : parts_(std::move(parts)) {}

  Bytes wrap(ByteView plain, ByteView aad) override {
    return software_wrap(parts_.profile, keys().kek, keys().mac_key, plain, aad);
  }

  SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    ++*parts_.unwraps;
    return software_unwrap(parts_.profile, keys().kek, keys().mac_key, wrapped, aad);
  }

 private:
  [[nodiscard]] const VectorProvider::Keys& keys() const {
    if (!parts_.keys) throw KeyNotFoundError("the vectors have no key of this kek_id");
    return *parts_.keys;
  }

  const VectorWrapperParts parts_;
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
      "valid",    "invalid_rings",   "audit_logs", "rewrapped",          "proofs",       "keks",
      "contexts", "invalid_exports", "invalid",    "invalid_audit_logs", "invalid_pins", "exports",
      "pins",     "rings",           "followed",   "invalid_contexts",   "streams"};
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
  const json& value = entry.at(field);
  if (!value.is_array()) return from_hex(value.get_ref<const std::string&>());
  Bytes bytes;
  for (const json& piece : value) {
    const Bytes next = piece.is_number() ? Bytes(piece.get<std::size_t>()) : from_hex(piece.get<std::string>());
    bytes.insert(bytes.end(), next.begin(), next.end());
  }
  return bytes;
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

VectorProvider::VectorProvider(const Vectors& vectors) {
  for (const json& kek : vectors.list("keks")) {
    keys_.emplace(kek_id_of(kek), Keys{bytes_at(kek, "kek"), bytes_at(kek, "mac_key")});
  }
}

KeyDescription VectorProvider::provision(const SetSpec&, const RingId&, Version) {
  throw InvalidArgumentError("the vectors' keys are all there are");
}

void VectorProvider::destroy(const KeyDescription&) { throw InvalidArgumentError("the vectors' keys stay"); }

std::shared_ptr<KeyWrapper> VectorProvider::connect(const KeyDescription& key, Version) {
  const auto found = keys_.find(key.kek_id);
  const auto known = found == keys_.end() ? std::nullopt : std::optional{found->second};
  const VectorWrapperParts counted{known, key.profile, unwraps_};
  const VectorWrapperParts uncounted{known, key.profile, std::make_shared<std::atomic<int>>(0)};
  return std::make_shared<ProvedWrapper>(std::make_shared<VectorWrapper>(counted),
                                         std::make_shared<VectorWrapper>(uncounted), key);
}

std::shared_ptr<KeyWrapper> VectorProvider::wrapper_of(const KekId& kek_id, const WrapProfile& profile) const {
  return std::make_shared<VectorWrapper>(VectorWrapperParts{keys_.at(kek_id), profile, unwraps_});
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
