#include <hsmseal/key_ring.hpp>

#include <utility>

#include "ring/ring_core.hpp"

namespace hsmseal {

KeyRing KeyRing::create(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider, const SetSpec& first,
                        RingPin pin, RingOptions options, const RingSettings&) {
  return KeyRing{
      ring::RingCore::create({std::move(store), std::move(provider), std::move(pin), std::move(options)}, first)};
}

KeyRing KeyRing::open(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider, RingPin pin,
                      RingOptions options) {
  return KeyRing{ring::RingCore::open({std::move(store), std::move(provider), std::move(pin), std::move(options)})};
}

KeyRing::KeyRing(std::shared_ptr<ring::RingCore> core) : core_(std::move(core)) {}
KeyRing::KeyRing(const KeyRing&) = default;
KeyRing& KeyRing::operator=(const KeyRing&) = default;
KeyRing::KeyRing(KeyRing&&) noexcept = default;
KeyRing& KeyRing::operator=(KeyRing&&) noexcept = default;
KeyRing::~KeyRing() = default;

Version KeyRing::add(const SetSpec& spec, Activation activation) { return core_->add(spec, activation); }
void KeyRing::activate(Version version) { core_->activate(version); }
void KeyRing::verify(Version version) { core_->verify(version); }
void KeyRing::refresh() { core_->refresh(); }

std::vector<CredentialSet> KeyRing::list() const { return core_->snapshot()->body().sets; }
CredentialSet KeyRing::active() const { return core_->active().set(); }

std::optional<CredentialSet> KeyRing::find(Version version) const {
  const auto now = core_->snapshot();
  const auto* entry = now->find(version);
  return entry != nullptr ? std::optional{*entry->set} : std::nullopt;
}

RingId KeyRing::id() const { return core_->snapshot()->body().id; }
std::uint64_t KeyRing::generation() const { return core_->snapshot()->body().generation; }

}  // namespace hsmseal
