#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <hsmseal/key_wrapper.hpp>

namespace hsmseal::test {

/// Keys in memory instead of a token: for tests of ring, envelope and format, which need no token.
///
/// It wraps as SetSpec::algorithm and SetSpec::gcm ask, as a token would do it, and can be told to misbehave.
class SoftwareProvider final : public KeyProvider {
 public:
  [[nodiscard]] KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override;
  [[nodiscard]] std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override;
  [[nodiscard]] std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override;
  void destroy(const KeyDescription& key) override;

  /// Puts a key in: for adoption, and for test vectors.
  void put_key(const Bytes& key_id, ByteView key);
  /// Puts another key in the place of one that is there.
  void replace_key(const Bytes& key_id);
  void remove_key(const Bytes& key_id);
  /// From now on every wrap and unwrap throws a retryable TokenError.
  void fail(bool failing) { failing_ = failing; }

  [[nodiscard]] SecretBytes key(const Bytes& key_id) const;  ///< throws KeyNotFoundError
  void count_wrap();
  void count_unwrap();
  [[nodiscard]] int wraps() const { return wraps_; }
  [[nodiscard]] int unwraps() const { return unwraps_; }

 private:
  void check_working() const;
  void note_made(const KeyDescription& key, const SetSpec& spec, const RingId& ring, Version version);

  mutable std::mutex mutex_;
  std::map<Bytes, SecretBytes> keys_;
  std::map<RingId, std::vector<FoundKey>> made_;
  std::atomic<bool> failing_ = false;
  std::atomic<int> wraps_ = 0, unwraps_ = 0;
};

}  // namespace hsmseal::test
