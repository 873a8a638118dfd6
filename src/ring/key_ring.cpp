#include <hsmseal/key_ring.hpp>

#include <exception>
#include <utility>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "platform/platform.hpp"
#include "ring/export_file.hpp"
#include "ring/lifecycle.hpp"
#include "ring/ring_core.hpp"
#include "ring/ring_key.hpp"
#include "ring/salvage.hpp"

namespace hsmseal {
namespace {

using ring::RingCore;

/// @throws Unreadable  there is no set in the texts.
template <typename Unreadable>
std::shared_ptr<RingCore> salvage(std::shared_ptr<KeyProvider> provider, const RingId& id,
                                  const std::vector<std::string>& texts) {
  auto sets = ring::sets_in(texts);
  if (sets.empty())
    throw Unreadable(
        "no credential set can be read from what is left of the ring; KeyRing::salvage_from_token() needs the tokens alone");
  return RingCore::salvage(std::move(provider), ring::salvaged_body(id, std::move(sets)));
}

}  // namespace

KeyRing KeyRing::create(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider, const SetSpec& first,
                        RingPin pin, RingOptions options, const RingSettings& settings) {
  return KeyRing{
      RingCore::create({std::move(store), std::move(provider), std::move(pin), std::move(options)}, first, settings)};
}

KeyRing KeyRing::open(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider, RingPin pin,
                      RingOptions options) {
  return KeyRing{RingCore::open({std::move(store), std::move(provider), std::move(pin), std::move(options)})};
}

KeyRing KeyRing::import_from(const std::filesystem::path& file, std::shared_ptr<RingStore> store,
                             std::shared_ptr<KeyProvider> provider, RingPin pin, RingOptions options) {
  return KeyRing{RingCore::import({std::move(store), std::move(provider), std::move(pin), std::move(options)},
                                  ring::read_export(ring::read_export_file(file)))};
}

KeyRing KeyRing::open_for_salvage(const std::shared_ptr<RingStore>& damaged, std::shared_ptr<KeyProvider> provider,
                                  const RingId& ring) {
  if (!damaged) throw InvalidArgumentError("a ring needs a store");
  std::vector<std::string> texts;
  std::exception_ptr failure;
  const auto gather = [&](const auto& read) {
    try {
      read();
    } catch (const StoreError&) {
      failure = std::current_exception();
    }
  };
  gather([&] {
    if (auto newest = damaged->load()) texts.push_back(std::move(newest->body));
  });
  gather([&] {
    for (RingRecord& record : damaged->history(kHistoryKept)) texts.push_back(std::move(record.body));
  });
  if (texts.empty() && failure) std::rethrow_exception(failure);
  return KeyRing{salvage<StoreError>(std::move(provider), ring, texts)};
}

KeyRing KeyRing::open_for_salvage(const std::filesystem::path& exported, std::shared_ptr<KeyProvider> provider,
                                  const RingId& ring) {
  return KeyRing{salvage<FormatError>(std::move(provider), ring, {ring::read_export_file(exported)})};
}

KeyRing KeyRing::salvage_from_token(std::shared_ptr<KeyProvider> provider, const std::string& token_alias,
                                    const RingId& ring) {
  if (!provider) throw InvalidArgumentError("a ring needs a key provider");
  const Deadline deadline{RingOptions{}.deadline};
  auto sets = ring::sets_of(provider->find_keys(ring, token_alias));
  if (sets.empty()) {
    throw KeyNotFoundError("the token holds no key labelled as one of ring " + ring.to_string());
  }
  return KeyRing{RingCore::salvage(std::move(provider), ring::salvaged_body(ring, std::move(sets)))};
}

KeyRing::KeyRing(std::shared_ptr<RingCore> core) : core_(std::move(core)) {}
KeyRing::KeyRing(const KeyRing&) = default;
KeyRing& KeyRing::operator=(const KeyRing&) = default;
KeyRing::KeyRing(KeyRing&&) noexcept = default;
KeyRing& KeyRing::operator=(KeyRing&&) noexcept = default;
KeyRing::~KeyRing() = default;

Version KeyRing::add(const SetSpec& spec, Activation activation) { return ring::add(*core_, spec, activation); }
void KeyRing::activate(Version version) { ring::activate(*core_, version); }
void KeyRing::verify(Version version) { ring::verify(*core_, version); }
void KeyRing::amend(Version version, const SetChange& change) { ring::amend(*core_, version, change); }

void KeyRing::remove(Version version, const Census& census) {
  if (!census) throw InvalidArgumentError("a census is needed: a function that counts the envelopes of a set");
  ring::remove(*core_, version, census);
}

void KeyRing::remove_without_census(Version version) { ring::remove(*core_, version, nullptr); }
void KeyRing::restore(Version version) { ring::restore(*core_, version); }
void KeyRing::purge(Version version, const Census& census) { ring::purge(*core_, version, census); }

void KeyRing::destroy_key(Version version, const Census& census, Confirmation confirmation) {
  ring::destroy_key(*core_, version, census, confirmation);
}

void KeyRing::refresh() { core_->refresh(); }
std::vector<FoundKey> KeyRing::orphans() const { return ring::orphans(*core_); }

void KeyRing::export_to(const std::filesystem::path& file) const {
  core_->refresh();
  const auto now = core_->snapshot();
  platform::write_new_file(file, ring::write_export({now->body().generation, ring::to_text(now->body()), now->mac()}));
}

std::vector<CredentialSet> KeyRing::list() const { return core_->snapshot()->body().sets; }
CredentialSet KeyRing::active() const { return core_->active().set(); }

std::optional<CredentialSet> KeyRing::find(Version version) const {
  const auto now = core_->snapshot();
  const auto* entry = now->find(version);
  return entry != nullptr ? std::optional{*entry->set} : std::nullopt;
}

RingId KeyRing::id() const { return core_->snapshot()->body().id; }
std::uint64_t KeyRing::generation() const { return core_->snapshot()->body().generation; }
RingSettings KeyRing::settings() const { return core_->snapshot()->body().settings; }

PinnedRing KeyRing::pinned() const {
  const auto now = core_->snapshot();
  static_cast<void>(now->active());  // a ring opened for salvage has no key
  return {now->body().id, now->body().generation, now->mac(), ring::key_check(*now->ring_key())};
}

}  // namespace hsmseal
