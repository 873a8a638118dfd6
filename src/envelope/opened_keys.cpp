#include "envelope/opened_keys.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace hsmseal::envelope {
namespace {

/// Small caches are one shard, in which nothing is given up while there is room elsewhere.
constexpr std::size_t kLeastInShard = 64;
constexpr std::size_t kMostShards = 16;

}  // namespace

OpenedKey::OpenedKey(ByteView name, const ring::ConnectedSet& set, const SecretBytes& data_key, KeyMemory& memory,
                     Time expires)
    : name_(name.begin(), name.end()),
      ring_(set.ring()),
      version_(set.set().version),
      token_(set.set().key.token),
      expires_(expires),
      place_(memory.take()) {
  derive_payload_key(data_key, Suite::DataKey, ring_, place_.bytes());
}

std::uint64_t OpenedKey::hash(ByteView name) noexcept {
  std::uint64_t begin = 0, end = 0;
  std::memcpy(&begin, name.data(), sizeof begin);
  std::memcpy(&end, name.last(sizeof end).data(), sizeof end);
  constexpr std::uint64_t kSpread = 0x9e3779b97f4a7c15;
  return begin * kSpread ^ end;
}

bool OpenedKey::is(ByteView name) const noexcept {
  return name.size() == name_.size() && std::memcmp(name.data(), name_.data(), name.size()) == 0;
}

OpenedKeys::OpenedKeys(std::size_t most)
    : shards_(most == 0 ? 0 : std::clamp<std::size_t>(most / kLeastInShard, 1, kMostShards)),
      most_in_shard_(shards_.empty() ? 0 : most / shards_.size()) {}

std::shared_ptr<OpenedKey> OpenedKeys::find(ByteView name, OpenedKey::Time now) {
  if (shards_.empty()) return nullptr;
  Shard& shard = shard_of(name);
  const std::scoped_lock lock{shard.mutex};
  const auto found = shard.by_hash.find(OpenedKey::hash(name));
  if (found == shard.by_hash.end() || !(*found->second)->is(name)) return nullptr;
  OpenedKey& key = **found->second;
  if (!key.usable(now)) return nullptr;
  key.touch();
  return *found->second;
}

std::shared_ptr<OpenedKey> OpenedKeys::Shard::keep(const std::shared_ptr<OpenedKey>& key, std::size_t most) {
  std::shared_ptr<OpenedKey> given_up;
  const std::uint64_t hash = OpenedKey::hash(key->name());
  if (const auto same = by_hash.find(hash); same != by_hash.end()) {
    given_up = std::move(*same->second);
    keys.erase(same->second);
    by_hash.erase(same);
  } else if (keys.size() >= most) {
    // One that was used since it was last looked at gets another turn.
    for (std::size_t turns = keys.size(); turns > 1 && keys.back()->was_touched(); --turns) {
      keys.splice(keys.begin(), keys, std::prev(keys.end()));
    }
    given_up = std::move(keys.back());
    keys.pop_back();
    by_hash.erase(OpenedKey::hash(given_up->name()));
  }
  keys.push_front(key);
  by_hash.emplace(hash, keys.begin());
  return given_up;
}

std::size_t OpenedKeys::size() const {
  std::size_t size = 0;
  for (const Shard& shard : shards_) {
    const std::scoped_lock lock{shard.mutex};
    size += shard.keys.size();
  }
  return size;
}

}  // namespace hsmseal::envelope
