#include "keywrap/key_finder.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>

#include <hsmseal/deadline.hpp>
#include <hsmseal/vendors.hpp>

#include "keywrap/key_label.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {
namespace {

constexpr unsigned kMostTries = 4;

struct TokenAndKeys {
  TokenInfo token;
  std::vector<pkcs11::ListedKey> keys;
};

TokenAndKeys keys_in(const Life& life, const RingId& ring) {
  auto session = life.pool().acquire();
  auto keys = pkcs11::SessionAccess::list_keys(*session,
                                               [&](std::string_view label) { return key_in(label, ring).has_value(); });
  // Afterwards: what was listed while somebody logged the process out is not all that there is.
  pkcs11::SessionAccess::check_private_keys_visible(*session);
  return {life.token(), std::move(keys)};
}

/// Looking changes nothing, so it may be done again: SoftHSM 2.6.1 fails now and then while another process logs in.
TokenAndKeys keys_after_all(TokenConnection& token, const RingId& ring) {
  auto pause = std::chrono::milliseconds{20};
  for (unsigned tries = 1;; ++tries) {
    const auto life = token.connect(nullptr, 0);
    try {
      return keys_in(*life, ring);
    } catch (const TokenError& error) {
      const bool no_call_failed = error.function().empty();
      if (tries == kMostTries || !error.retryable() || no_call_failed) throw;
      if (std::chrono::steady_clock::now() + pause >= Deadline::current()) throw;
      if (!life->well()) token.lost(life, pkcs11::Reaction::NewLogin, error, 0);
    }
    std::this_thread::sleep_for(pause);
    pause *= 2;
  }
}

/// What a set is most likely to wrap with that is known by its token alone.
GcmForm documented_form(const std::string& driver) {
  const Vendor* const vendor = find_vendor(driver);
  return vendor == nullptr || vendor->gcm_forms.empty() ? GcmForm{} : vendor->gcm_forms.front().value;
}

}  // namespace

std::vector<FoundKey> find_ring_keys(const std::vector<std::shared_ptr<TokenConnection>>& tokens, const RingId& ring) {
  using TokenIdentity = std::tuple<std::string, std::string, std::string, std::string>;
  using KeyIdentity = std::pair<Bytes, std::string>;
  std::map<TokenIdentity, std::set<KeyIdentity>> shown;
  std::vector<FoundKey> found;
  for (const auto& token : tokens) {
    const auto [info, keys] = token->run([token, ring] { return keys_after_all(*token, ring); });
    // Every alias is asked, even if it looks like a token seen before: should two tokens be told apart by nothing but
    // their keys, none of these is overlooked.
    auto& shown_before = shown[{info.label, info.serial, info.model, info.manufacturer}];
    const GcmForm gcm = documented_form(token->binding().driver);
    for (const auto& key : keys) {
      if (shown_before.contains({key.id, key.label})) continue;
      const LabelledKey named = key_in(key.label, ring).value_or(LabelledKey{});
      found.push_back({token->alias(), info.label, info.serial, key.id, key.label, named.version, named.part, gcm});
    }
    for (const auto& key : keys) shown_before.emplace(key.id, key.label);
  }
  std::ranges::sort(found, {},
                    [](const FoundKey& key) { return std::tie(key.token, key.version, key.part, key.key_id); });
  return found;
}

}  // namespace hsmseal::keywrap
