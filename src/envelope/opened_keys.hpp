#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "envelope/data_key.hpp"
#include "envelope/key_memory.hpp"
#include "envelope/wire.hpp"
#include "ring/snapshot.hpp"

namespace hsmseal::envelope {

/// A data key that the token has unwrapped, with all that says which one it is: the bytes of an envelope through the
/// wrapped key.
///
/// Thread safety: all members may run concurrently.
class OpenedKey {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// @param expires  from when on it is not used any more.
  OpenedKey(ByteView name, const ring::ConnectedSet& set, const SecretBytes& data_key, KeyMemory& memory, Time expires);

  /// Few data keys have the same: what a name ends with is a tag or a MAC that the token made.
  /// @param name  at least 8 bytes.
  [[nodiscard]] static std::uint64_t hash(ByteView name) noexcept;

  [[nodiscard]] bool is(ByteView name) const noexcept;
  [[nodiscard]] bool usable(Time now) const noexcept { return now < expires_; }
  [[nodiscard]] ByteView name() const noexcept { return name_; }
  [[nodiscard]] PayloadKeyView key() const noexcept { return PayloadKeyView{place_.bytes()}; }
  [[nodiscard]] const RingId& ring() const noexcept { return ring_; }
  [[nodiscard]] Version version() const noexcept { return version_; }
  [[nodiscard]] const std::string& token() const noexcept { return token_; }

  /// Notes that it was given up: whoever holds it uses it up and does not keep it.
  void give_up() noexcept { given_up_ = true; }
  [[nodiscard]] bool given_up() const noexcept { return given_up_; }

  /// Notes that it was used; and whether that was noted since the last time it was asked.
  void touch() noexcept {
    if (!touched_.load(std::memory_order_relaxed)) touched_.store(true, std::memory_order_relaxed);
  }
  [[nodiscard]] bool was_touched() noexcept { return touched_.exchange(false, std::memory_order_relaxed); }

 private:
  const Bytes name_;
  const RingId ring_;
  const Version version_;
  const std::string token_;  ///< for events
  const Time expires_;
  KeyMemory::Place place_;
  std::atomic<bool> touched_ = false;
  std::atomic<bool> given_up_ = false;
};

/// The opened data keys of an encryptor, as many as it may keep. Who was not used for longest is given up first; use is
/// noted without a lock, so of several that were used it need not be the very first.
///
/// Thread safety: all members may run concurrently.
class OpenedKeys {
 public:
  /// @param most  0: none are kept.
  explicit OpenedKeys(std::size_t most);

  /// @returns null if it is not kept, or was for too long.
  [[nodiscard]] std::shared_ptr<OpenedKey> find(ByteView name, OpenedKey::Time now);

  /// Keeps a key.
  /// @param still  asked under the lock: whether it may be kept. What removes keys is sure to come before or after.
  /// @returns the one that is given up for it, if any; `key` itself if it is not kept.
  template <typename Still>
  [[nodiscard]] std::shared_ptr<OpenedKey> keep(const std::shared_ptr<OpenedKey>& key, const Still& still) {
    std::shared_ptr<OpenedKey> given_up = key;
    if (!shards_.empty()) {
      Shard& shard = shard_of(key->name());
      const std::scoped_lock lock{shard.mutex};
      if (still()) given_up = shard.keep(key, most_in_shard_);
    }
    if (given_up) given_up->give_up();
    return given_up;
  }

  /// Gives up those for which `unwanted` says so.
  template <typename Unwanted>
  void remove_if(const Unwanted& unwanted) {
    for (Shard& shard : shards_) {
      const std::scoped_lock lock{shard.mutex};
      shard.remove_if(unwanted);
    }
  }

  /// How many are kept.
  [[nodiscard]] std::size_t size() const;

 private:
  using Keys = std::list<std::shared_ptr<OpenedKey>>;
  struct Shard {
    [[nodiscard]] std::shared_ptr<OpenedKey> keep(const std::shared_ptr<OpenedKey>& key, std::size_t most);
    template <typename Unwanted>
    void remove_if(const Unwanted& unwanted) {
      for (auto one = keys.begin(); one != keys.end();) {
        if (!unwanted(**one)) {
          ++one;
          continue;
        }
        (*one)->give_up();
        by_hash.erase(OpenedKey::hash((*one)->name()));
        one = keys.erase(one);
      }
    }

    mutable std::mutex mutex;
    Keys keys;  ///< the last one is looked at first when one must go
    std::unordered_map<std::uint64_t, Keys::iterator> by_hash;
  };

  [[nodiscard]] Shard& shard_of(ByteView name) noexcept { return shards_[OpenedKey::hash(name) % shards_.size()]; }

  std::vector<Shard> shards_;
  std::size_t most_in_shard_ = 0;
};

}  // namespace hsmseal::envelope
