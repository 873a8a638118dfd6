#include "support/many_sets.hpp"

#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/key_ring.hpp>

#include "core/binding.hpp"
#include "ring/record.hpp"

namespace hsmseal::test {

std::shared_ptr<RingStore> ManySets::store() const {
  auto store = memory_ring_store();
  if (!store->compare_and_swap(std::nullopt, record)) throw std::logic_error("a new store holds a ring");
  return store;
}

ManySets ring_of_many(Version sets, const std::shared_ptr<SoftwareProvider>& provider) {
  const auto store = memory_ring_store();
  static_cast<void>(KeyRing::create(store, provider, {.token = "t"}, RingPin::in_process()));
  ring::Body body = ring::from_text(store->load()->body);
  const CredentialSet first = body.sets.front();
  ManySets made;
  const SecretBytes ring_key = ring::unwrap_ring_key(*provider->connect(first.key, 1), body.id, first);
  const auto seal_if_asked = [&](Version version) {
    body.next_version = version + 1;
    if (version != 1 && version != sets / 2 && version != sets) return;
    made.record = ring::record_of(body, ring_key);
    const KeyRing ring = KeyRing::open(made.store(), provider, RingPin::in_process());
    made.sealed[version] = EnvelopeEncryptor{ring}.seal_text(fmt::format("secret {}", version), kNoContext);
  };
  seal_if_asked(1);
  for (Version version = 2; version <= sets; ++version) {
    CredentialSet set = first;
    set.version = version;
    set.key = provider->provision({.token = "t"}, body.id, version);
    const Bytes aad = core::Binding{core::kRingKeyLabel}.append(body.id).append(version).append(set.key.kek_id).take();
    set.wrapped_ring_key = provider->connect(set.key, 1)->wrap(ring_key.view(), aad);
    body.sets.back().state = SetState::Archived;
    body.sets.back().archived_at = set.created_at;
    body.sets.push_back(std::move(set));
    seal_if_asked(version);
  }
  return made;
}

}  // namespace hsmseal::test
