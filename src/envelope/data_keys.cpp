#include "envelope/data_keys.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <thread>
#include <utility>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "envelope/padding.hpp"

namespace hsmseal::envelope {
namespace {

/// Enough that threads hardly ever meet at a desk: giving up a key goes by all of them.
std::size_t number_of_desks() {
  return std::clamp<std::size_t>(std::bit_ceil(2 * std::size_t{std::thread::hardware_concurrency()}), 8, 64);
}

}  // namespace

/// A desk that no other thread is at.
class DataKeys::Seat {
 public:
  explicit Seat(Own& own) {
    static std::atomic<std::size_t> threads{0};
    thread_local std::size_t mine = threads.fetch_add(1, std::memory_order_relaxed);
    const std::size_t desks = own.desks.size();
    for (std::size_t i = 0; i < desks; ++i) {
      Desk& desk = own.desks[(mine + i) % desks];
      lock_ = std::unique_lock{desk.mutex, std::try_to_lock};
      if (!lock_) continue;
      mine += i;  // it stays here, so that the next time finds the key and the cipher of this time
      desk_ = &desk;
      return;
    }
    desk_ = &own.desks[mine % desks];
    lock_ = std::unique_lock{desk_->mutex};
  }
  [[nodiscard]] Desk& desk() const noexcept { return *desk_; }

 private:
  Desk* desk_ = nullptr;
  std::unique_lock<std::mutex> lock_;
};

void DataKeys::Opened::clear() {
  if (!key) return;
  cipher.clear();
  key.reset();
}

void DataKeys::Desk::stop_sealing() {
  if (!sealing) return;
  cipher.clear();
  sealing.reset();
}

DataKeys::Own::Own(std::size_t opened_keys) : opened(opened_keys), desks(number_of_desks()) {}

DataKeys::DataKeys(std::shared_ptr<ring::RingCore> ring, const EnvelopeOptions& options)
    : ring_(std::move(ring)),
      policy_(options.data_keys),
      opened_keys_(options.opened_data_keys),
      bucket_(options.padding.bucket()),
      deadline_(options.deadline),
      own_(std::make_unique<Own>(opened_keys_)) {}

DataKeys::Own& DataKeys::own() {
  return own_.get([this](const Own&) { return std::make_unique<Own>(opened_keys_); });
}

// ---- sealing --------------------------------------------------------------------------------------------------------

Bytes DataKeys::seal(ByteView secret, ContextView context) {
  Own& own = this->own();
  const Workbench::Secret padded{secret, padded_size(secret.size(), bucket_)};
  std::optional<Deadline> deadline;  // of what waits: most of the time nothing does
  for (;;) {
    const Time now = ring_->steady_now();
    if (!ring_->is_fresh(now)) {
      if (!deadline) deadline.emplace(deadline_);
      static_cast<void>(ring_->active_for_sealing());
    }
    const std::uint64_t view = ring_->views();
    std::shared_ptr<SealingKey> used;
    Bytes sealed;
    {
      const Seat seat{own};
      Desk& desk = seat.desk();
      if (has_sealing_key(own, desk, view) && desk.sealing->take(now)) {
        const SealingKey& key = *desk.sealing;
        sealed = desk.bench.seal(desk.cipher, {key.envelope(), key.start(), key.ring()}, new_nonce(), padded, context);
        if (ring_->observed()) used = desk.sealing;
      }
    }
    if (sealed.empty()) {
      if (!deadline) deadline.emplace(deadline_);
      renew(own, now);
    } else if (ring_->views() == view) {  // otherwise another set may have become active
      if (used) ring_->tell(Event::Kind::Sealed, used->ring(), used->version(), used->token());
      return sealed;
    }
  }
}

/// Whether the desk has a key that is good in this view, now that it took over what there is.
bool DataKeys::has_sealing_key(Own& own, Desk& desk, std::uint64_t view) {
  if (desk.sealing && desk.sealing_view == view) return true;
  const std::scoped_lock lock{own.mutex};
  if (!own.sealing || own.sealing_view != view) return false;
  if (desk.sealing != own.sealing) {
    desk.stop_sealing();
    desk.cipher.set_key(own.sealing->key().key());
    desk.sealing = own.sealing;
  }
  desk.sealing_view = view;
  return true;
}

/// Sees to it that there is a key of the active set. One thread makes it, and those that come meanwhile wait for it.
void DataKeys::renew(Own& own, Time now) {
  const std::uint64_t view = ring_->views();
  const Version active = ring_->active_for_sealing().set().version;
  std::shared_ptr<core::Flight> flight;
  std::shared_ptr<core::Flight> others;
  {
    const std::scoped_lock lock{own.mutex};
    if (own.sealing && own.sealing->version() == active && own.sealing->usable(now)) {
      own.sealing_view = view;
      return;
    }
    others = own.making;
    if (!others) flight = own.making = std::make_shared<core::Flight>();
  }
  if (flight) return make_sealing_key(own, flight);
  if (others->wait("a data key, which another thread has the token wrap, was not there in time")) return;
  const std::scoped_lock lock{own.mutex};
  if (own.making == others) own.making.reset();
}

void DataKeys::make_sealing_key(Own& own, const std::shared_ptr<core::Flight>& flight) {
  try {
    end_making(own, flight, SealingKey::make(*ring_, own.memory, policy_, bucket_ != 0));
    flight->land();
  } catch (...) {
    end_making(own, flight, nullptr);
    flight->fail(std::current_exception());
    throw;
  }
}

void DataKeys::end_making(Own& own, const std::shared_ptr<core::Flight>& flight, std::shared_ptr<SealingKey> key) {
  {
    const std::scoped_lock lock{own.mutex};
    if (own.making == flight) own.making.reset();
    // What became active since the wrap has given up its forerunner's key already.
    if (!key || ring_->active().set().version != key->version()) return;
    own.sealing.swap(key);
    own.sealing_view = 0;
  }
  if (!key) return;
  for (Desk& desk : own.desks) {
    const std::scoped_lock lock{desk.mutex};
    if (desk.sealing == key) desk.stop_sealing();
  }
}

// ---- opening --------------------------------------------------------------------------------------------------------

SecretBytes DataKeys::open(ByteView sealed, const wire::Envelope& envelope, ContextView context) {
  const ByteView name = wire::through_wrapped(sealed, envelope);
  std::shared_ptr<OpenedKey> key;
  try {
    auto secret = open_at_desk(name, envelope, context, key);
    if (!secret) {
      const Deadline deadline{deadline_};
      const std::uint64_t view = ring_->views();
      key = opened_key(sealed, envelope);
      secret = open_with(key, view, envelope, context);
    }
    if (key) ring_->tell(Event::Kind::Opened, key->ring(), key->version(), key->token());
    return *std::move(secret);
  } catch (const OpenError&) {
    if (key) ring_->tell(Event::Kind::OpenRefused, key->ring(), key->version(), key->token());
    throw;
  }
}

std::optional<SecretBytes> DataKeys::open_at_desk(ByteView name, const wire::Envelope& envelope, ContextView context,
                                                  std::shared_ptr<OpenedKey>& used) {
  const Time now = ring_->steady_now();
  if (opened_keys_ == 0 || !ring_->is_fresh(now)) return std::nullopt;
  const Seat seat{own()};
  Desk& desk = seat.desk();
  Opened& place = desk.place_for(OpenedKey::hash(name));
  if (!place.key || place.view != ring_->views() || !place.key->is(name) || !place.key->usable(now)) {
    return std::nullopt;
  }
  if (ring_->observed()) used = place.key;
  place.key->touch();
  place.key->key().check_commitment(envelope);
  return desk.bench.open(place.cipher, envelope, place.key->ring(), context);
}

/// @param view  of the ring, before the key was found to be good.
SecretBytes DataKeys::open_with(const std::shared_ptr<OpenedKey>& key, std::uint64_t view,
                                const wire::Envelope& envelope, ContextView context) {
  key->key().check_commitment(envelope);
  {
    const Seat seat{own()};
    Desk& desk = seat.desk();
    // Under the desk's lock: who takes keys away comes before, and has said so, or comes after.
    if (!key->given_up() && ring_->views() == view) {
      Opened& place = desk.place_for(OpenedKey::hash(key->name()));
      if (place.key != key) {
        place.clear();
        place.cipher.set_key(key->key().key());
        place.key = key;
      }
      place.view = view;
      return desk.bench.open(place.cipher, envelope, key->ring(), context);
    }
  }
  return Opening{key->key()}.open(envelope, key->ring(), context);
}

bool DataKeys::keeps(ByteView sealed, const wire::Envelope& envelope) {
  return own().opened.find(wire::through_wrapped(sealed, envelope), ring_->steady_now()) != nullptr;
}

std::shared_ptr<OpenedKey> DataKeys::opened_key(ByteView sealed, const wire::Envelope& envelope) {
  Own& own = this->own();
  const ByteView name = wire::through_wrapped(sealed, envelope);
  std::uint64_t view = ring_->views();
  ring::ConnectedSet set = ring_->named_by_envelope(envelope.ring_prefix, envelope.version);
  while (ring_->views() != view) {
    view = ring_->views();
    set = ring_->named_by_envelope(envelope.ring_prefix, envelope.version);
  }
  const Time now = ring_->steady_now();
  if (auto kept = own.opened.find(name, now)) return kept;
  const SecretBytes data_key = telling_refusals(*ring_, set, [&] { return unwrap_data_key(set, envelope); });
  auto key = std::make_shared<OpenedKey>(name, set, data_key, own.memory, now + policy_.max_age());
  const auto given_up = own.opened.keep(key, [&] { return ring_->views() == view; });
  if (given_up && given_up != key) take_from_desks(own, *given_up);
  return key;
}

void DataKeys::take_from_desks(Own& own, const OpenedKey& key) {
  for (Desk& desk : own.desks) {
    const std::scoped_lock lock{desk.mutex};
    Opened& place = desk.place_for(OpenedKey::hash(key.name()));
    if (place.key.get() == &key) place.clear();
  }
}

void DataKeys::ring_changed() noexcept {
  if (own_.inherited()) return;
  Own& own = this->own();
  const auto now = ring_->snapshot();
  const auto seals = [&](const std::shared_ptr<SealingKey>& key) {
    const auto* entry = now->find(key->version());
    return entry != nullptr && entry->set->state == SetState::Active;
  };
  const auto closed = [&](const OpenedKey& key) {
    const auto* entry = now->find(key.version());
    return entry == nullptr || !entry->wrapper;
  };
  {
    const std::scoped_lock lock{own.mutex};
    if (own.sealing && !seals(own.sealing)) own.sealing.reset();
  }
  own.opened.remove_if(closed);
  for (Desk& desk : own.desks) {
    const std::scoped_lock lock{desk.mutex};
    if (desk.sealing && !seals(desk.sealing)) desk.stop_sealing();
    for (Opened& place : desk.opened) {
      if (place.key && closed(*place.key)) place.clear();
    }
  }
}

}  // namespace hsmseal::envelope
