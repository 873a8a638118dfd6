#include "ring/record.hpp"

#include <algorithm>
#include <exception>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"
#include "ring/ring_pin.hpp"

namespace hsmseal::ring {
namespace {

Bytes ring_key_aad(const RingId& ring, const CredentialSet& set) {
  return core::Binding{core::kRingKeyLabel}.append(ring).append(set.version).append(set.key.kek_id).take();
}

Mac mac_of(std::string_view body, const SecretBytes& ring_key) {
  const SecretBytes mac_key =
      crypto::hkdf_expand_sha256(ring_key.view(), bytes_of(core::kRingMacLabel), crypto::kKeyBytes);
  return crypto::hmac_sha256(mac_key.view(), bytes_of(body));
}

}  // namespace

RingRecord record_of(const Body& body, const SecretBytes& ring_key) {
  RingRecord record{body.generation, to_text(body), {}};
  try {
    if (from_text(record.body) != body) throw RingTamperedError("it reads otherwise than it was written");
  } catch (const RingTamperedError& error) {
    throw InvalidArgumentError(
        fmt::format("the ring is not stored, since no host could read it again: {}", error.what()));
  }
  record.mac = mac_of(record.body, ring_key);
  return record;
}

ParsedRecord parse(RingRecord record, const std::optional<PinnedRing>& seen) {
  Body body = from_text(record.body);
  if (body.generation != record.generation) {
    throw RingTamperedError("the ring's record is stored under another generation than its own");
  }
  if (seen) check_same_ring(*seen, body);
  return {std::move(body), std::move(record)};
}

void check_mac(const RingRecord& record, const SecretBytes& ring_key) {
  if (crypto::equal(record.mac, mac_of(record.body, ring_key))) return;
  throw RingTamperedError("the ring's record was changed by somebody without its keys; restore a good copy of it");
}

SecretBytes unwrap_ring_key(KeyWrapper& wrapper, const RingId& ring, const CredentialSet& set) {
  SecretBytes key = wrapper.unwrap(set.wrapped_ring_key, ring_key_aad(ring, set));
  if (key.size() != crypto::kKeyBytes) throw OpenError();
  return key;
}

SecretBytes find_ring_key(const Body& body, const Wrappers& wrappers) {
  std::vector<const CredentialSet*> order;
  for (const CredentialSet& set : body.sets) {
    if (set.state == SetState::Archived || set.state == SetState::Staged) order.push_back(&set);
  }
  order.push_back(&body.active());
  std::ranges::reverse(order);
  // A record that is not verified yet must not keep a token busy for as long as it likes.
  constexpr int kMostBadCopies = 8;
  int bad_copies = 0;
  std::set<std::string> tokens_in_trouble;
  std::exception_ptr first_failure;
  for (const CredentialSet* set : order) {
    if (bad_copies == kMostBadCopies) break;
    if (tokens_in_trouble.contains(set->key.token)) continue;
    try {
      return unwrap_ring_key(*wrappers.at(set->version), body.id, *set);
    } catch (const OpenError&) {
      ++bad_copies;  // not one that this key wrapped; another may be whole
    } catch (const Error& error) {
      if (!first_failure) first_failure = std::current_exception();
      if (dynamic_cast<const TokenError*>(&error) != nullptr) tokens_in_trouble.insert(set->key.token);
    }
  }
  if (first_failure) std::rethrow_exception(first_failure);
  throw RingTamperedError("no set's copy of the ring key opens; restore a good copy of the ring's record");
}

Bytes wrap_ring_key(CountedWrapper& wrapper, const SecretBytes& ring_key, const RingId& ring,
                    const CredentialSet& set) {
  const Bytes aad = ring_key_aad(ring, set);
  Bytes wrapped = wrapper.wrap_for_ring(ring_key.view(), aad);
  try {
    if (crypto::equal(wrapper.unwrap(wrapped, aad).view(), ring_key.view())) return wrapped;
  } catch (const OpenError&) {
    // Said below: it was wrapped a moment ago.
  }
  throw WrongKeyError(fmt::format(
      "the key of set {} on token '{}' does not give back what it wrapped a moment ago; nothing was changed",
      set.version, set.key.token));
}

}  // namespace hsmseal::ring
