#include "ring/lifecycle.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"
#include "ring/ring_key.hpp"
#include "ring/set_state.hpp"

namespace hsmseal::ring {
namespace {

using Draft = RingCore::Draft;

/// Whether two keys wrap in the same way, so that what the one has wrapped is of a form that the other can open.
bool wrap_alike(const KeyDescription& one, const KeyDescription& other) {
  return one.profile.algorithm == other.profile.algorithm &&
         core::iv_bytes(one.profile) == core::iv_bytes(other.profile) && one.mac_key_id == other.mac_key_id;
}

bool in_one_token(const KeyDescription& one, const KeyDescription& other) {
  return one.token == other.token || (one.token_label == other.token_label && one.token_serial == other.token_serial);
}

/// An adopted key that a set uses already keeps its name, and its proof if it is to wrap as it does there.
///
/// It is looked for again among the sets that come in while the new one is being stored: two hosts may adopt one key at
/// the same time.
class AdoptedKey {
 public:
  AdoptedKey(RingCore& ring, const KeyDescription& key, Version version)
      : provider_(ring.provider()), version_(version), wrapper_(provider_.connect(key, version)) {}

  enum class Outcome { Renamed, Unchanged };
  Outcome recognise(const Body& body, KeyDescription& key) {
    for (const CredentialSet& set : body.sets) {
      if (set.key.kek_id == key.kek_id || !asked_.insert(set.version).second || !is_key_of(set, key)) continue;
      key.kek_id = set.key.kek_id;
      key.proof = wrap_alike(set.key, key) ? set.key.proof : make_key_proof(*wrapper_, key.kek_id);
      return Outcome::Renamed;
    }
    return Outcome::Unchanged;
  }

 private:
  [[nodiscard]] bool is_key_of(const CredentialSet& set, const KeyDescription& key) {
    auto wrapper = wrapper_;
    if (!wrap_alike(set.key, key)) {
      // Its proof is of another form. The token knows how it made that, so the key is asked in the set's way.
      if (!in_one_token(set.key, key) || set.key.key_id != key.key_id) return false;
      KeyDescription asked = key;
      asked.mac_key_id = set.key.mac_key_id;
      asked.profile = set.key.profile;
      asked.proof = {};
      wrapper = provider_.connect(asked, version_);
    }
    try {
      check_key_proof(*wrapper, set.key.kek_id, set.key.proof);
      return true;
    } catch (const WrongKeyError&) {
      return false;
    } catch (const KeyNotFoundError&) {
      if (wrapper == wrapper_) throw;
      return false;  // the set's MAC key is gone
    }
  }

  KeyProvider& provider_;
  const Version version_;
  const std::shared_ptr<KeyWrapper> wrapper_;
  std::set<Version> asked_;
};

/// The version is taken before the key is made: its label and all that is wrapped for the set name the version, and
/// hosts that add at the same time must not make keys for the same one.
Version reserve_version(RingCore& ring) {
  Version version = 0;
  ring.change([&](Draft& draft) {
    if (draft.body.next_version == std::numeric_limits<Version>::max()) {
      throw InvalidArgumentError("the ring has no versions left; make a new ring and reseal");
    }
    version = draft.body.next_version++;
  });
  return version;
}

/// A set's copy of the ring key, wrapped again only if another host changes the ring key while the set is being stored.
class RingKeyCopy {
 public:
  RingKeyCopy(RingCore& ring, const CredentialSet& set)
      : wrapper_(ring.connect(ring.snapshot()->body(), set)), set_(set) {
    static_cast<void>(of(*ring.snapshot()->ring_key(), ring.snapshot()->body().id));
  }

  [[nodiscard]] const Bytes& of(const SecretBytes& ring_key, const RingId& ring) {
    if (wrapped_.empty() || !crypto::equal(ring_key.view(), ring_key_.view())) {
      wrapped_ = wrap_ring_key(*wrapper_, ring_key, ring, set_);
      ring_key_ = ring_key.clone();
    }
    return wrapped_;
  }

 private:
  const std::shared_ptr<CountedWrapper> wrapper_;
  const CredentialSet set_;
  SecretBytes ring_key_;
  Bytes wrapped_;
};

/// Whether a key of the one is also one of the other: the destruction of the one would take it from the other.
bool share_a_key(const KeyDescription& one, const KeyDescription& other) {
  if (one.kek_id == other.kek_id) return true;
  return !one.mac_key_id.empty() && one.mac_key_id == other.mac_key_id && in_one_token(one, other);
}

/// @throws InvalidArgumentError  the key is an adopted one that destroy_key() is about to destroy, on whatever host.
void expect_not_being_destroyed(const Body& body, const CredentialSet& added) {
  for (const CredentialSet& other : body.sets) {
    if (!share_a_key(other.key, added.key) || !other.key_destroyed_at) continue;
    throw InvalidArgumentError(
        fmt::format("the key is that of set {}, which is being destroyed; it is not adopted", other.version));
  }
}

/// @param adopted  null: the key was made for this set.
std::shared_ptr<const Snapshot> store_new_set(RingCore& ring, CredentialSet set, AdoptedKey* adopted,
                                              Activation activation) {
  auto copy = std::make_unique<RingKeyCopy>(ring, set);
  return ring.change([&](Draft& draft) {
    Body& body = draft.body;
    if (adopted != nullptr && adopted->recognise(body, set.key) == AdoptedKey::Outcome::Renamed) {
      copy = std::make_unique<RingKeyCopy>(ring, set);
    }
    const auto place = std::ranges::upper_bound(body.sets, set.version, {}, &CredentialSet::version);
    CredentialSet& stored = *body.sets.insert(place, set);
    expect_not_being_destroyed(body, set);
    stored.wrapped_ring_key = copy->of(*draft.ring_key, body.id);
    stage(stored, draft.now);
    if (activation == Activation::Later) return;
    if (body.active().version < stored.version) {
      make_active(body, stored, draft.now);
    } else {
      archive(stored, draft.now);  // a newer set became active meanwhile
    }
  });
}

void expect_none_left(const Census& census, Version version) {
  if (!census) throw InvalidArgumentError("a census is needed: a function that counts the envelopes of a set");
  const std::uint64_t left = census(version);
  if (left == 0) return;
  throw SetInUseError(
      fmt::format("{} envelopes still name credential set {}; rewrap them first, and nothing is lost", left, version));
}

/// The key that the ring gets with a removal, so that who has the removed set's key cannot make records any more. Each
/// set's copy is made once, however often other hosts are faster: tokens are slow, and the others would stay faster.
class NextRingKey {
 public:
  void replace_key_of(Draft& draft) {
    Body& body = draft.body;
    body.former_ring_keys.push_back(
        wrap_former_ring_key(*draft.ring_key, *key_, body.id, body.former_ring_keys.size()));
    for (CredentialSet& set : body.sets) {
      if (set.state == SetState::Deleted) continue;
      Bytes& copy = copies_[set.version];
      if (copy.empty()) copy = wrap_ring_key(*draft.base->find(set.version)->wrapper, *key_, body.id, set);
      set.wrapped_ring_key = copy;
    }
    draft.ring_key = key_;
  }

 private:
  const std::shared_ptr<const SecretBytes> key_ =
      std::make_shared<const SecretBytes>(crypto::random_secret(crypto::kKeyBytes));
  std::map<Version, Bytes> copies_;
};

/// @throws InvalidArgumentError  another set, deleted or not, has the same key, or the same MAC key.
void expect_sole_use(const Body& body, const CredentialSet& set) {
  for (const CredentialSet& other : body.sets) {
    if (other.version == set.version || !share_a_key(other.key, set.key)) continue;
    throw InvalidArgumentError(fmt::format("the key of credential set {} is also that of set {}; it is not destroyed",
                                           set.version, other.version));
  }
}

KeyDescription changed_key(KeyDescription key, const SetChange& change) {
  key.token = change.token.value_or(key.token);
  key.token_label = change.token_label.value_or(key.token_label);
  key.token_serial = change.token_serial.value_or(key.token_serial);
  return key;
}

void expect_ring_key(KeyWrapper& wrapper, const Snapshot& ring, const CredentialSet& set) {
  try {
    if (crypto::equal(unwrap_ring_key(wrapper, ring.body().id, set).view(), ring.ring_key()->view())) return;
  } catch (const OpenError&) {
    // Said below: the ring's copy is not what this key wrapped.
  }
  throw RingTamperedError(fmt::format("credential set {} does not hold this ring's key", set.version));
}

/// The newest ring in the store, and the time by its clock, for a first look at what a change needs.
Draft look_at_newest(RingCore& ring) {
  ring.look();
  auto now = ring.snapshot();
  return {now, now->body(), now->ring_key(), ring.now()};
}

}  // namespace

Version add(RingCore& ring, const SetSpec& spec, Activation activation) {
  check_spec(spec);
  const Version version = reserve_version(ring);
  KeyDescription key = ring.provider().provision(spec, ring.snapshot()->body().id, version);
  std::optional<AdoptedKey> adopted;
  if (spec.adopt_key_id) {
    adopted.emplace(ring, key, version);
    adopted->recognise(ring.snapshot()->body(), key);
  }
  const CredentialSet set = new_set(std::move(key), spec, version);
  const auto changed = [&] {
    try {
      return store_new_set(ring, set, adopted ? &*adopted : nullptr, activation);
    } catch (const StoreConflictError&) {
      throw StoreConflictError(fmt::format(
          "other hosts keep changing the ring, so set {} was not stored; its key '{}' stays in token '{}', unused",
          set.version, set.key.key_label, set.key.token));
    }
  }();
  const CredentialSet& stored = *changed->find(version)->set;
  ring.tell(Event::Kind::SetAdded, stored);
  if (stored.state == SetState::Active) ring.tell(Event::Kind::SetActivated, stored);
  return version;
}

void activate(RingCore& ring, Version version) {
  const auto changed =
      ring.change([&](Draft& draft) { make_active(draft.body, require_activatable(draft.body, version), draft.now); });
  ring.tell(Event::Kind::SetActivated, *changed->find(version)->set);
}

void verify(RingCore& ring, Version version) {
  const auto known = ring.snapshot();
  const auto* entry = known->find(version);
  const bool may_have_news = entry == nullptr || entry->set->state == SetState::Staged || !entry->wrapper;
  if (may_have_news && known->ring_key()) ring.look();  // a ring opened for salvage has no store to look into
  const auto now = ring.snapshot();
  const CredentialSet& set = require_set(now->body(), version);
  if (set.state == SetState::Deleted) throw deleted(set);
  CountedWrapper& wrapper = *now->find(version)->wrapper;
  check_key_proof(wrapper, set.key.kek_id, set.key.proof);
  if (!now->ring_key()) return;  // opened for salvage
  // A set that seals, or will, must also wrap what it can unwrap; an archived key may be past that.
  if (set.state != SetState::Archived) static_cast<void>(wrap_ring_key(wrapper, *now->ring_key(), now->body().id, set));
  expect_ring_key(wrapper, *now, set);
}

void amend(RingCore& ring, Version version, const SetChange& change) {
  check_change(change);
  const Draft newest = look_at_newest(ring);
  const CredentialSet& before = require_set(newest.body, version);
  const bool moves = change.token || change.token_label || change.token_serial;
  const auto expect_place_free = [moves](const CredentialSet& set) {
    if (moves && set.key_destroyed_at) throw InvalidArgumentError(deleted(set).what());
  };
  expect_place_free(before);
  const KeyDescription key = changed_key(before.key, change);
  if (key != before.key) {
    const auto wrapper = ring.provider().connect(key, version);
    check_key_proof(*wrapper, key.kek_id, key.proof);
    if (before.state != SetState::Deleted) expect_ring_key(*wrapper, *newest.base, before);
  }
  const auto changed = ring.change([&](Draft& draft) {
    CredentialSet& set = require_set(draft.body, version);
    expect_place_free(set);
    set.description = change.description.value_or(set.description);
    if (!moves) return;
    set.key = changed_key(set.key, change);
    if (set.key != key) throw StoreConflictError(fmt::format("another host amended set {} meanwhile", version));
  });
  ring.tell(Event::Kind::SetAmended, *changed->find(version)->set);
}

void remove(RingCore& ring, Version version, const Census& census) {
  Draft newest = look_at_newest(ring);
  const SetState counted = require_removable(newest.body, version, newest.now).state;
  if (census) expect_none_left(census, version);
  NextRingKey next_key;
  const auto changed = ring.change([&](Draft& draft) {
    CredentialSet& set = require_removable(draft.body, version, draft.now);
    if (set.state != counted) {
      // A census may take hours. What was sealed meanwhile was not there to be counted.
      throw SetInUseError(fmt::format(
          "credential set {} was staged when its removal began, and may have sealed since; count its envelopes again",
          version));
    }
    set.state = SetState::Deleted;
    set.deleted_at = draft.now;
    set.wrapped_ring_key.clear();
    next_key.replace_key_of(draft);
  });
  ring.tell(Event::Kind::SetRemoved, *changed->find(version)->set);
}

void restore(RingCore& ring, Version version) {
  Draft newest = look_at_newest(ring);
  const CredentialSet before = require_deleted(newest.body, version);
  const auto expect_key_left = [](const CredentialSet& set) {
    if (set.key_destroyed_at) throw InvalidArgumentError(deleted(set).what());
  };
  expect_key_left(before);
  check_key_proof(*ring.connect(newest.body, before), before.key.kek_id, before.key.proof);
  RingKeyCopy copy{ring, before};
  const auto changed = ring.change([&](Draft& draft) {
    CredentialSet& set = require_deleted(draft.body, version);
    expect_key_left(set);
    set.wrapped_ring_key = copy.of(*draft.ring_key, draft.body.id);
    set.deleted_at.reset();
    set.state = SetState::Archived;
    if (!set.archived_at) set.archived_at = draft.now;  // it was removed while it was staged
  });
  ring.tell(Event::Kind::SetRestored, *changed->find(version)->set);
}

void purge(RingCore& ring, Version version, const Census& census) {
  Draft newest = look_at_newest(ring);
  const CredentialSet before = require_purgeable(newest.body, version, newest.now);
  expect_none_left(census, version);
  ring.change([&](Draft& draft) {
    static_cast<void>(require_purgeable(draft.body, version, draft.now));
    std::erase_if(draft.body.sets, [&](const CredentialSet& set) { return set.version == version; });
  });
  ring.tell(Event::Kind::SetPurged, before);
}

void destroy_key(RingCore& ring, Version version, const Census& census, Confirmation confirmation) {
  if (confirmation.version_again != version) {
    throw InvalidArgumentError(fmt::format("the key of set {} is not destroyed: version {} was confirmed", version,
                                           confirmation.version_again));
  }
  const auto require_destroyable = [version](Draft draft) {
    const CredentialSet& set = require_past_quarantine(draft.body, version, draft.now);
    expect_sole_use(draft.body, set);
    return set;
  };
  static_cast<void>(require_destroyable(look_at_newest(ring)));
  expect_none_left(census, version);
  // A census may take hours, and the set be amended meanwhile.
  const Draft newest = look_at_newest(ring);
  const CredentialSet before = require_destroyable(newest);
  if (!before.key_destroyed_at) {
    // A token that does not answer shows here, while the set can still be restored.
    check_key_proof(*ring.connect(newest.body, before), before.key.kek_id, before.key.proof);
    ring.change([&](Draft& draft) {
      CredentialSet& set = require_past_quarantine(draft.body, version, draft.now);
      expect_sole_use(draft.body, set);
      if (!set.key_destroyed_at) set.key_destroyed_at = draft.now;
    });
  }
  try {
    ring.provider().destroy(before.key);
  } catch (const KeyNotFoundError&) {
    // It answered before its destruction was noted, so this ring has destroyed it: before, or from another host.
  }
  ring.tell(Event::Kind::KeyDestroyed, before);
}

std::vector<FoundKey> orphans(RingCore& ring) {
  if (ring.snapshot()->ring_key()) ring.look();  // opened for salvage: no store
  const auto now = ring.snapshot();
  std::vector<FoundKey> found = ring.provider().find_keys(now->body().id, "");
  std::erase_if(found, [&](const FoundKey& key) {
    const auto id = key.part == KeyPart::Mac ? &KeyDescription::mac_key_id : &KeyDescription::key_id;
    return std::ranges::any_of(now->body().sets, [&](const CredentialSet& set) { return set.key.*id == key.key_id; });
  });
  return found;
}

}  // namespace hsmseal::ring
