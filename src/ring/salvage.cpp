#include "ring/salvage.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace hsmseal::ring {
namespace {

/// How a set begins in canonical form.
constexpr std::string_view kSetBegins = "{\"activated_at\":";
/// More than a set has. Somebody's text must not make the search take for ever.
constexpr std::size_t kMostSetBytes = std::size_t{16} << 10;

/// @returns the object that `text` begins with, up to the brace that closes it; empty if none does, or it is no set's.
std::string_view object_at_front(std::string_view text) {
  constexpr int kDeepest = 2;  // ends the search early in what was made to look like many beginnings
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{') {
      if (++depth > kDeepest) return {};
    } else if (c == '}' && --depth == 0) {
      return text.substr(0, i + 1);
    }
  }
  return {};
}

/// @returns the second key of the same set; nullptr if it has none, which tells its algorithm.
const FoundKey* mac_key_beside(const FoundKey& key, const std::vector<FoundKey>& keys) {
  const auto found = std::ranges::find_if(keys, [&](const FoundKey& other) {
    return other.part == KeyPart::Mac && other.version == key.version && other.token == key.token;
  });
  return found == keys.end() ? nullptr : &*found;
}

}  // namespace

std::vector<CredentialSet> sets_in(const std::vector<std::string>& texts) {
  std::map<Version, CredentialSet> found;
  for (const std::string_view text : texts) {
    for (auto at = text.find(kSetBegins); at != std::string_view::npos; at = text.find(kSetBegins, at + 1)) {
      auto set = set_from_text(object_at_front(text.substr(at, kMostSetBytes)));
      if (!set) continue;
      const Version version = set->version;
      found.try_emplace(version, *std::move(set));
    }
  }
  std::vector<CredentialSet> sets;
  sets.reserve(found.size());
  for (auto& [version, set] : found) sets.push_back(std::move(set));
  return sets;
}

std::vector<CredentialSet> sets_of(const std::vector<FoundKey>& keys) {
  std::vector<CredentialSet> sets;
  for (const FoundKey& key : keys) {
    CredentialSet set;
    if (key.part != KeyPart::Encryption || key.key_id.size() != set.key.kek_id.bytes.size()) continue;
    if (const FoundKey* mac_key = mac_key_beside(key, keys)) {
      set.key.profile.algorithm = WrapAlgorithm::Aes256CbcHmac;
      set.key.mac_key_id = mac_key->key_id;
    }
    if (set.key.mac_key_id.empty()) set.key.profile.gcm = key.gcm;
    set.version = key.version;
    set.key.token = key.token;
    set.key.token_label = key.token_label;
    set.key.token_serial = key.token_serial;
    set.key.key_id = key.key_id;
    set.key.key_label = key.key_label;
    std::ranges::copy(key.key_id, set.key.kek_id.bytes.begin());
    sets.push_back(std::move(set));
  }
  return sets;
}

Body salvaged_body(const RingId& ring, std::vector<CredentialSet> sets) {
  std::ranges::stable_sort(sets, {}, &CredentialSet::version);
  const auto same = [](const CredentialSet& one, const CredentialSet& other) { return one.version == other.version; };
  sets.erase(std::unique(sets.begin(), sets.end(), same), sets.end());
  Body body;
  body.id = ring;
  body.sets = std::move(sets);
  if (!body.sets.empty()) body.next_version = body.sets.back().version + 1;
  return body;
}

}  // namespace hsmseal::ring
