// What hosts make of a database that was restored from a copy, and of what was stored since.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "ring/body.hpp"
#include "ring/record.hpp"
#include "support/catch.hpp"
#include "support/ring_hosts.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::RingHosts;

namespace {

/// A ring on a host with a pin's file, and the copy that is restored.
struct Restored : RingHosts {
  test::ScratchDirectory folder;
  KeyRing ring = KeyRing::create(store, provider, {.token = "t"}, pin(), options());

  [[nodiscard]] RingPin pin() const { return RingPin::trust_first_use(folder.path() / "pin"); }
  [[nodiscard]] RingPin accepting() const { return RingPin::accept_rollback(folder.path() / "pin"); }
  void restore_copy_of(std::uint64_t generation) {
    store->records.resize(generation);
    store->record = store->records.back();
  }
  [[nodiscard]] KeyRing open(RingPin with) const { return KeyRing::open(store, provider, std::move(with), options()); }
};

}  // namespace

TEST_CASE("another history of the same generation is a fork at the next look, and is not overwritten") {
  Restored f;
  const KeyRing other = f.join();
  f.ring.add({.token = "t"});
  f.restore_copy_of(1);
  KeyRing{other}.add({.token = "t"});  // as many generations, another key
  CHECK(f.store->record->generation == f.ring.generation());
  const auto theirs = f.store->record;
  CHECK_THROWS_AS(f.ring.amend(1, {.description = "mine"}), RingForkedError);
  CHECK(f.store->record == theirs);
  f.pass(6s);
  CHECK_THROWS_AS(test::seal(f.ring), RingForkedError);
}

TEST_CASE("a restored copy that another host has changed since is a fork for who had seen more") {
  Restored f;
  f.ring.add({.token = "t"});
  const std::string lost = test::seal(f.ring);
  f.restore_copy_of(1);
  const KeyRing other = f.join();  // has seen nothing of what was lost
  for (int i = 0; i < 5; ++i) KeyRing{other}.amend(1, {.description = std::to_string(i)});
  CHECK(f.store->record->generation > f.ring.generation() + 1);
  CHECK_THROWS_AS(f.ring.refresh(), RingForkedError);
  CHECK_THROWS_AS(f.open(f.pin()), RingForkedError);
  f.pass(6s);
  CHECK_THROWS_AS(test::seal(f.ring), RingForkedError);
  CHECK(test::open(f.ring, lost) == "x");
}

TEST_CASE("a version of a lost history is not given out again, whoever accepts the copy") {
  Restored f;
  // Three sets are lost, of which this host has seen the first alone.
  std::set<Version> lost{f.ring.add({.token = "t"})};
  const KeyRing other = f.join();
  for (int i = 0; i < 2; ++i) lost.insert(KeyRing{other}.add({.token = "t"}));
  f.restore_copy_of(1);
  KeyRing ring = f.open(f.accepting());
  CHECK(ring.generation() == 2);
  for (int i = 0; i < 3; ++i) CHECK_FALSE(lost.contains(ring.add({.token = "t"})));
  CHECK(ring.list().size() == 4);
  CHECK_NOTHROW(f.open(f.pin()));
}

TEST_CASE("an acceptance that the store does not take is made again, with all that belongs to it") {
  Restored f;
  const Version lost = f.ring.add({.token = "t"});
  f.restore_copy_of(1);
  f.store->on_swap = [] { throw StoreError("the database is being restored, and read-only"); };
  CHECK_THROWS_AS(f.open(f.accepting()), StoreError);
  CHECK_THROWS_AS(f.open(f.pin()), RingRolledBackError);  // nothing was accepted
  f.store->on_swap = nullptr;
  f.store->conflicts = 1;
  CHECK_THROWS_AS(f.open(f.accepting()), StoreConflictError);
  KeyRing ring = f.open(f.accepting());
  CHECK(ring.add({.token = "t"}) > lost);
  CHECK(f.open(f.pin()).list() == ring.list());
}

TEST_CASE("a change that was stored is in force, whatever became of the pin's file meanwhile") {
  Restored f;
  const auto recorder = std::make_shared<test::Recorder>();
  KeyRing ring = KeyRing::open(f.store, f.provider, f.pin(), f.options(recorder));
  f.store->on_swap = [&] { std::ofstream{f.folder.path() / "pin"} << "garbage"; };
  CHECK_NOTHROW(ring.amend(1, {.description = "amended"}));
  CHECK(ring.find(1)->description == "amended");
  const auto kinds = recorder->kinds();
  CHECK(std::ranges::count(kinds, Event::Kind::PinNotSaved) > 0);
}

TEST_CASE("a record that is not verified yet does not keep a token busy") {
  Restored f;
  // A body of many sets with copies of the ring key that do not open, and one former key more than before.
  ring::Body body = ring::from_text(f.store->record->body);
  body.generation = 2;
  body.prev_mac = f.store->record->mac;
  body.former_ring_keys.push_back(Bytes(60));
  const CredentialSet first = body.sets.front();
  body.sets.front().wrapped_ring_key.assign(60, std::byte{1});
  for (Version version = 2; version <= 2'000; ++version) {
    CredentialSet set = first;
    set.version = version;
    set.state = SetState::Staged;
    set.activated_at.reset();
    set.wrapped_ring_key.assign(60, std::byte{1});
    body.sets.push_back(std::move(set));
  }
  body.next_version = 2'001;
  f.store->record = ring::record_of(body, SecretBytes{Bytes(32)});
  const int before = f.token->unwraps();
  CHECK_THROWS_AS(f.ring.refresh(), RingTamperedError);
  CHECK_THROWS_AS(f.open(f.pin()), RingTamperedError);
  CHECK(f.token->unwraps() - before <= 2 * 8);
}

TEST_CASE("a ring's id and a pinned ring are read as they are written") {
  Restored f;
  CHECK(RingId::from_string(f.ring.id().to_string()) == f.ring.id());
  for (const char* wrong : {"", "00", "0011223344556677889900112233445G", "001122334455667788990011223344556",
                            "AA112233445566778899001122334455", "+1112233445566778899001122334455"}) {
    CHECK_THROWS_AS(RingId::from_string(wrong), InvalidArgumentError);
  }
  const PinnedRing pinned = f.ring.pinned();
  CHECK(PinnedRing::from_text(pinned.to_text()) == pinned);
  CHECK_THROWS_AS(PinnedRing::from_text(pinned.to_text() + " "), InvalidArgumentError);
}
