#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "pins.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/expect_error.hpp"
#include "support/ring_parts.hpp"

using namespace hsmseal;
using namespace hsmseal::test::pins;
using test::message_of;
using test::OpenStore;
using test::RingParts;

namespace {

/// A ring whose pin is in a file; each open() is like another process of the same host.
struct PinnedParts : RingParts {
  Place place;

  PinnedParts() { pin = RingPin::file(place.file); }
  KeyRing open_with(RingPin other) const { return KeyRing::open(store, provider, std::move(other)); }
  KeyRing open_anew() const { return open_with(RingPin::file(place.file)); }
};

}  // namespace

TEST_CASE("a new ring's pin is made with it, and follows its changes") {
  PinnedParts f;
  KeyRing ring = f.create();
  REQUIRE(f.place.stored());
  CHECK(f.place.stored()->id == ring.id());
  CHECK(f.place.stored()->generation == 1);
  CHECK(f.place.stored()->mac == f.store->record->mac);
  CHECK(f.place.stored()->key_check != std::array<std::byte, 32>{});
  const auto key_check = f.place.stored()->key_check;
  ring.add({.token = "t"});
  CHECK(f.place.stored()->generation == 3);
  CHECK(f.place.stored()->mac == f.store->record->mac);
  CHECK(f.place.stored()->key_check == key_check);
  CHECK(f.open_anew().list() == ring.list());
}

TEST_CASE("a ring is not opened without its pin, unless the first one is to be trusted") {
  PinnedParts f;
  const KeyRing ring = f.create();
  const auto first = f.place.stored();
  fs::remove(f.place.file);
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return f.open_anew(); }), "trust_first_use()");
  CHECK_THROWS_AS(f.open_with(RingPin::accept_rollback(f.place.file)), InvalidArgumentError);
  CHECK_FALSE(fs::exists(f.place.file));
  CHECK(f.open_with(RingPin::trust_first_use(f.place.file)).list() == ring.list());
  CHECK(f.place.stored() == first);
  CHECK_NOTHROW(f.open_anew());
}

TEST_CASE("the first ring that is trusted is the only one from then on") {
  PinnedParts f;
  f.create();
  RingParts other;
  other.provider = f.provider;
  other.create();
  const auto first = f.place.stored();
  f.store->record = other.store->record;
  CHECK_THROWS_AS(f.open_anew(), WrongRingError);
  CHECK_THROWS_AS(f.open_with(RingPin::trust_first_use(f.place.file)), WrongRingError);
  CHECK(f.place.stored() == first);
}

TEST_CASE("a pin that remembers a ring, of whatever kind, is not given to a new one") {
  PinnedParts f;
  f.create();
  const int wraps = f.provider->wraps();
  for (const auto& pin : {RingPin::file(f.place.file), RingPin::trust_first_use(f.place.file),
                          RingPin::accept_rollback(f.place.file), RingPin::fixed(*f.place.stored())}) {
    CHECK_THROWS_AS(KeyRing::create(memory_ring_store(), f.provider, {.token = "t"}, pin), InvalidArgumentError);
  }
  CHECK(f.provider->wraps() == wraps);
  for (const auto& make : {RingPin::file, RingPin::trust_first_use, RingPin::accept_rollback}) {
    const Place place;
    CHECK_NOTHROW(KeyRing::create(memory_ring_store(), f.provider, {.token = "t"}, make(place.file)));
    CHECK(place.stored());
  }
}

TEST_CASE("a ring whose pin cannot be kept is not made") {
  PinnedParts f;
  fs::remove(f.place.folder);
  CHECK_NAMES(message_of<InvalidArgumentError>([&] { return f.create(); }), f.place.file.string());
  CHECK(f.provider->wraps() == 0);
  CHECK_FALSE(f.store->record);
}

TEST_CASE("a ring whose first pin cannot be kept is not opened, and one that is open goes on") {
  PinnedParts f;
  KeyRing ring = f.create();
  const Place gone;
  fs::remove(gone.folder);
  CHECK_THROWS_AS(f.open_with(RingPin::trust_first_use(gone.file)), InvalidArgumentError);
  fs::remove_all(f.place.folder);
  CHECK(ring.add({.token = "t"}) == 2);
  CHECK_NOTHROW(ring.refresh());
  fs::create_directory(f.place.folder);
  ring.refresh();
  CHECK(f.place.stored()->generation == ring.generation());
}

TEST_CASE("another process finds a rollback, a fork and another ring by the pin's file") {
  PinnedParts f;
  f.create().add({.token = "t"});
  const auto records = f.store->records;
  REQUIRE(records.size() == 3);

  for (const auto& older : {records[0], records[1]}) {
    f.store->record = older;
    CHECK_THROWS_AS(f.open_anew(), RingRolledBackError);
    CHECK_THROWS_AS(f.open_with(RingPin::trust_first_use(f.place.file)), RingRolledBackError);
  }

  // The same generation, made by the same keys on a copy of the database.
  const auto copy = std::make_shared<OpenStore>();
  copy->record = records[1];
  KeyRing twin = KeyRing::open(copy, f.provider, RingPin::in_process());
  twin.add({.token = "t", .description = "elsewhere"});
  REQUIRE(twin.generation() == 4);
  for (const auto& forked : copy->records) {
    f.store->record = forked;
    CHECK_THROWS_AS(f.open_anew(), RingForkedError);
  }

  RingParts other;
  other.provider = f.provider;
  other.create();
  f.store->record = other.store->record;
  CHECK_THROWS_AS(f.open_anew(), WrongRingError);

  f.store->record = records[2];
  CHECK_NOTHROW(f.open_anew());
}

TEST_CASE("what one process has seen, another one that runs does not go back behind") {
  PinnedParts f;
  KeyRing here = f.create();
  KeyRing there = f.open_anew();
  here.add({.token = "t"});
  f.store->record = f.store->records[0];  // all that `there` has seen
  CHECK_THROWS_AS(there.refresh(), RingRolledBackError);
  f.store->record = f.store->records[2];
  there.refresh();
  CHECK(there.list() == here.list());
}

TEST_CASE("a pin from the configuration holds the store to its record") {
  PinnedParts f;
  KeyRing ring = f.create();
  const PinnedRing first = *f.place.stored();
  ring.add({.token = "t"});
  CHECK_NOTHROW(f.open_with(RingPin::fixed(first)));
  const PinnedRing newest = *f.place.stored();
  f.store->record = f.store->records[1];
  CHECK_NOTHROW(f.open_with(RingPin::fixed(first)));
  CHECK_THROWS_AS(f.open_with(RingPin::fixed(newest)), RingRolledBackError);
  PinnedRing other = first;
  other.id.bytes[0] ^= std::byte{1};
  CHECK_THROWS_AS(f.open_with(RingPin::fixed(other)), WrongRingError);
  f.store->record = f.store->records[2];
  other = newest;
  other.mac[0] ^= std::byte{1};
  CHECK_THROWS_AS(f.open_with(RingPin::fixed(other)), RingForkedError);
}

TEST_CASE("a pin file that is damaged while a ring is open stops its look into the store, and is not repaired") {
  PinnedParts f;
  KeyRing ring = f.create();
  const std::string good = content_of(f.place.file);
  f.place.put(good.substr(1));
  CHECK_THROWS_AS(ring.refresh(), InvalidArgumentError);
  CHECK_THROWS_AS(ring.add({.token = "t"}), InvalidArgumentError);
  CHECK(f.store->record->generation == 1);
  CHECK(content_of(f.place.file) == good.substr(1));
  f.place.put(good);
  CHECK(ring.add({.token = "t"}) == 2);
}

TEST_CASE("changes from many threads with pins of their own on one file are all kept") {
  PinnedParts f;
  const auto store = memory_ring_store();
  const KeyRing first = KeyRing::create(store, f.provider, {.token = "t"}, f.pin);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      KeyRing ring = KeyRing::open(store, f.provider, RingPin::file(f.place.file));
      for (int i = 0; i < 5; ++i) ring.add({.token = "t"});
    });
  }
  for (auto& thread : threads) thread.join();
  const KeyRing last = KeyRing::open(store, f.provider, RingPin::file(f.place.file));
  CHECK(last.list().size() == 21);
  CHECK(last.generation() == 41);
  CHECK(f.place.stored()->generation == 41);
}
