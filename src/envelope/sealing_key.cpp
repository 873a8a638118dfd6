#include "envelope/sealing_key.hpp"

#include "crypto/crypto.hpp"

namespace hsmseal::envelope {

std::shared_ptr<SealingKey> SealingKey::make(ring::RingCore& ring, KeyMemory& memory, DataKeyPolicy policy,
                                             bool padded) {
  const SecretBytes data_key = crypto::random_secret(wire::kDataKeyBytes);
  const WrappedKey wrapped = wrap_data_key(ring, data_key, Suite::DataKey);
  KeyMemory::Place place = memory.take();
  derive_payload_key(data_key, Suite::DataKey, wrapped.set.ring(), place.bytes());
  return std::shared_ptr<SealingKey>{new SealingKey{wrapped, std::move(place), policy, padded, ring.steady_now()}};
}

SealingKey::SealingKey(const WrappedKey& key, KeyMemory::Place place, DataKeyPolicy policy, bool padded, Time now)
    : place_(std::move(place)),
      ring_(key.set.ring()),
      token_(key.set.set().key.token),
      envelope_(header_for(key.set, Suite::DataKey, padded)),
      expires_(now + policy.max_age()),
      left_(static_cast<std::int64_t>(policy.max_secrets())) {
  wire::Envelope whole = envelope_;
  whole.wrapped = key.wrapped;
  whole.commitment = this->key().commitment();
  start_ = wire::write_start(whole);
}

}  // namespace hsmseal::envelope
