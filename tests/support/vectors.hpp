#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal::test {

/// tests/vectors/envelopes_v1.json: what another implementation of src/FORMAT.md sealed, and what it refuses.
class Vectors {
 public:
  /// The lists of the file, by name. A list that is not here is an error, so that none is overlooked.
  static const std::set<std::string>& list_names();

  /// @throws std::runtime_error  missing, not JSON, without one of the lists, with one more, or with an empty one.
  explicit Vectors(const std::filesystem::path& file);

  /// The project's own file.
  static const Vectors& instance();

  /// Never empty.
  [[nodiscard]] const nlohmann::json& list(const std::string& name) const { return lists_.at(name); }

  /// The entry of a list with a name.
  [[nodiscard]] const nlohmann::json& entry(const std::string& list_name, const std::string& name) const;

  /// The names of all entries, with the rule that each is for ("" for those that are to be accepted).
  [[nodiscard]] std::map<std::string, std::string> rules_by_name() const;

 private:
  nlohmann::json lists_;
};

/// A byte string of an entry, in hexadecimal or in pieces.
[[nodiscard]] Bytes bytes_at(const nlohmann::json& entry, const std::string& field);

/// The error that the vectors call by this name.
[[nodiscard]] ErrorCode code_of(const std::string& error_name);

/// A provider that has the file's keys, and finds them by their kek_id.
///
/// Like a real one, its wrappers prove a key before they use it for the first time.
class VectorProvider final : public KeyProvider {
 public:
  struct Keys {
    Bytes kek;
    Bytes mac_key;  ///< empty if the key is for AES-GCM alone
  };

  explicit VectorProvider(const Vectors& vectors);

  /// @throws InvalidArgumentError  always: these keys are all there are.
  [[nodiscard]] KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override;
  [[nodiscard]] std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override;
  /// These keys have no labels.
  [[nodiscard]] std::vector<FoundKey> find_keys(const RingId&, const std::string&) override { return {}; }
  /// @throws InvalidArgumentError  always.
  void destroy(const KeyDescription& key) override;

  /// The wrapper of one key of the list `keks`, not proved.
  [[nodiscard]] std::shared_ptr<KeyWrapper> wrapper_of(const KekId& kek_id, const WrapProfile& profile) const;

  /// How often a wrapper was asked to unwrap, proofs left aside.
  [[nodiscard]] int unwraps() const { return *unwraps_; }

 private:
  std::map<KekId, Keys> keys_;
  std::shared_ptr<std::atomic<int>> unwraps_ = std::make_shared<std::atomic<int>>(0);
};

/// A store that holds the record it was given last, and takes no other.
class ShownStore final : public RingStore {
 public:
  explicit ShownStore(RingRecord record) : record_(std::move(record)) {}
  void show(RingRecord record) { record_ = std::move(record); }

  [[nodiscard]] std::optional<RingRecord> load() override { return record_; }
  [[nodiscard]] bool compare_and_swap(const std::optional<RingHead>&, const RingRecord&) override { return false; }
  [[nodiscard]] std::optional<RingHead> head() override { return record_.head(); }
  [[nodiscard]] std::vector<RingRecord> history(std::size_t) override { return {record_}; }
  [[nodiscard]] std::uint64_t reserve_usage(const KekId&, std::uint64_t block) override { return block; }
  [[nodiscard]] Timestamp now() override { return {}; }

 private:
  RingRecord record_;
};

/// The record of an entry of `rings` or `invalid_rings`.
[[nodiscard]] RingRecord record_of(const nlohmann::json& entry);

/// Opens a ring of the list `rings`.
[[nodiscard]] KeyRing open_ring(const Vectors& vectors, const std::string& name, std::shared_ptr<KeyProvider> provider);

}  // namespace hsmseal::test
