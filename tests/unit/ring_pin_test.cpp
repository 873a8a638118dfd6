#include <atomic>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>

#include <sys/stat.h>
#include <unistd.h>

#include <hsmseal/error.hpp>

#include "pins.hpp"
#include "platform/platform.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/expect_error.hpp"

using namespace hsmseal;
using namespace hsmseal::test::pins;
using test::Child;
using test::exit_status_of;
using test::message_of;

TEST_CASE("a pin file that others may change is refused") {
  const Place place;
  for (const mode_t mode : {mode_t{0620}, mode_t{0602}, mode_t{0666}}) {
    place.put(ring::to_text(pinned(5)), mode);
    const std::string message = refusal(place);
    CHECK_NAMES(message, "chmod go-w");
    CHECK_NAMES(message, "may have been changed");
  }
  place.put(ring::to_text(pinned(5)), 0644);
  CHECK(PinKeeper(place.file, Missing::Refuse).last() == pinned(5));
}

TEST_CASE("a pin is neither read nor made in a folder that everybody may write") {
  const Place place;
  const auto set_mode = [&](mode_t mode) { REQUIRE(::chmod(place.folder.c_str(), mode) == 0); };
  set_mode(0777);
  CHECK_NAMES(refusal(place), "chmod o-w");
  PinKeeper trusting{place.file, Missing::Trust};
  CHECK_THROWS_AS(trusting.check_writable(), InvalidArgumentError);
  CHECK_THROWS_AS(see(trusting, 1), InvalidArgumentError);
  CHECK_FALSE(fs::exists(place.file));
  place.put(pinned(5));
  CHECK_NAMES(refusal(place), "chmod o-w");
  for (const mode_t mode : {mode_t{0775}, mode_t{01777}}) {
    set_mode(mode);
    CHECK(PinKeeper(place.file, Missing::Refuse).last() == pinned(5));
  }
}

TEST_CASE("a pin file of another user, a link, a folder or a pipe is refused") {
  const Place place;
  fs::create_symlink(place.folder / "elsewhere", place.file);
  CHECK_NAMES(refusal(place), "a link");
  fs::remove(place.file);
  fs::create_directory(place.file);
  CHECK_NAMES(refusal(place), "not a regular file");
  fs::remove(place.file);
  REQUIRE(::mkfifo(place.file.c_str(), 0600) == 0);
  CHECK_NAMES(refusal(place), "not a regular file");
  fs::remove(place.file);
  if (::geteuid() != 0) {
    WARN("not run: only root can make another user's file");
    return;
  }
  place.put(pinned(5));
  REQUIRE(::chown(place.file.c_str(), test::kNobody, test::kNobody) == 0);
  CHECK_NAMES(refusal(place), "another user");
}

TEST_CASE("a pin needs the path of a file") {
  for (const char* const path : {"", "/", "/tmp/"}) {
    CHECK_THROWS_AS(RingPin::file(path), InvalidArgumentError);
    CHECK_THROWS_AS(RingPin::trust_first_use(path), InvalidArgumentError);
    CHECK_THROWS_AS(RingPin::accept_rollback(path), InvalidArgumentError);
  }
}

TEST_CASE("a pin's file is where it was when the pin was made") {
  const Place place;
  CHECK(exit_status_of([&] {
          fs::current_path(place.folder);
          PinKeeper keeper{"ring.pin", Missing::Trust};
          fs::current_path("/");
          return see(keeper, 1);
        }) == 0);
  CHECK(place.stored() == pinned(1));
}

TEST_CASE("a missing pin file is no reason to trust the store, unless that was asked for") {
  const Place place;
  const PinKeeper strict{place.file, Missing::Refuse}, operators{place.file, Missing::Refuse, Rollback::Accept},
      trusting{place.file, Missing::Trust};
  for (const auto* const keeper : {&strict, &operators}) {
    CHECK_FALSE(keeper->last());
    const std::string message = message_of<InvalidArgumentError>([&] { return keeper->last_for_open(); });
    CHECK_NAMES(message, place.file.string());
    CHECK_NAMES(message, "trust_first_use()");
  }
  CHECK_FALSE(trusting.last_for_open());
  place.put(pinned(3));
  for (const auto* const keeper : {&strict, &operators, &trusting}) CHECK(keeper->last_for_open() == pinned(3));
}

TEST_CASE("a record that is seen is in the file, with mode 600") {
  const Place place;
  PinKeeper keeper{place.file, Missing::Refuse};
  CHECK_NOTHROW(keeper.check_writable());
  CHECK_FALSE(fs::exists(place.file));
  CHECK(see(keeper, 1));
  CHECK(content_of(place.file) == ring::to_text(pinned(1)));
  struct stat status {};
  REQUIRE(::stat(place.file.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777U) == 0600);
  CHECK(see(keeper, 2));
  CHECK(place.stored() == pinned(2));
  CHECK(see(keeper, 9));
  CHECK(place.stored() == pinned(9));
  CHECK(std::distance(fs::directory_iterator(place.folder), {}) == 1);
  CHECK(PinKeeper(place.file, Missing::Refuse).last() == pinned(9));
}

TEST_CASE("a record that is no news does not write the file") {
  const Place place;
  PinKeeper keeper{place.file, Missing::Refuse};
  CHECK(see(keeper, 5));
  const auto inode = [&] {
    struct stat status {};
    REQUIRE(::stat(place.file.c_str(), &status) == 0);
    return status.st_ino;
  };
  fs::create_hard_link(place.file, place.folder / "keeps the inode");
  const auto before = inode();
  CHECK(see(keeper, 5));
  CHECK(see(keeper, 3));
  CHECK(see(keeper, 3, 7));  // older than what is remembered: of which history, nobody can tell
  CHECK(inode() == before);
  CHECK(keeper.last() == pinned(5));
}

TEST_CASE("another ring or another history is not remembered") {
  const Place place;
  PinKeeper keeper{place.file, Missing::Refuse};
  PinKeeper in_memory, configured{pinned(5)};
  for (auto* const each : {&keeper, &in_memory, &configured}) {
    CHECK(see(*each, 5));
    CHECK_THROWS_AS(see(*each, 6, 0, kOtherRing), WrongRingError);
    CHECK_THROWS_AS(see(*each, 5, 7), RingForkedError);
    CHECK_THROWS_AS(see(*each, 6, 7), RingForkedError);
    CHECK(each->last() == pinned(5));
  }
  CHECK(place.stored() == pinned(5));
}

TEST_CASE("a pin without a file remembers as long as it lives") {
  PinKeeper keeper;
  CHECK_FALSE(keeper.last_for_open());
  CHECK_NOTHROW(keeper.check_writable());
  CHECK(see(keeper, 4));
  CHECK(keeper.last_for_open() == pinned(4));
  CHECK_FALSE(keeper.accepts_rollback());
  PinKeeper configured{pinned(4)};
  CHECK(configured.last_for_open() == pinned(4));
  CHECK(see(configured, 5));
  CHECK(configured.last() == pinned(5));
}

TEST_CASE("what another process has seen counts here too, and the newer generation wins") {
  const Place place;
  PinKeeper here{place.file, Missing::Trust}, there{place.file, Missing::Trust};
  CHECK(see(here, 2));
  CHECK(there.last() == pinned(2));
  CHECK(see(there, 6));
  CHECK(here.last() == pinned(6));
  CHECK(see(here, 4));
  CHECK(place.stored() == pinned(6));
  place.put(pinned(3));  // an older copy of the file came back
  CHECK(here.last() == pinned(6));
  CHECK(see(here, 6));
  CHECK(place.stored() == pinned(6));
}

TEST_CASE("two processes that see different histories of a generation both say so") {
  const Place place;
  PinKeeper here{place.file, Missing::Trust}, there{place.file, Missing::Trust};
  CHECK(see(here, 5));
  CHECK_THROWS_AS(see(there, 5, 7), RingForkedError);
  CHECK_THROWS_AS(see(there, 6, 7), RingForkedError);
  CHECK(there.last() == pinned(5));
  place.put(pinned(5, 7));
  CHECK_THROWS_AS(here.last(), RingForkedError);
  CHECK_THROWS_AS(here.last_for_open(), RingForkedError);
  CHECK_THROWS_AS(see(here, 6), RingForkedError);
  place.put(pinned(9, 0, kOtherRing));
  CHECK_THROWS_AS(here.last(), WrongRingError);
  CHECK_THROWS_AS(see(here, 6), WrongRingError);
  CHECK_THROWS_AS(see(here, 9, 0, kOtherRing), WrongRingError);
  CHECK(place.stored() == pinned(9, 0, kOtherRing));
}

TEST_CASE("a record made with a ring key that was given up is a fork, also if only another process has seen that") {
  const Place place;
  PinKeeper slow{place.file, Missing::Trust};
  CHECK(see(slow, 4));
  // Another process follows a removal: the ring has another key from generation 5 on.
  const SecretBytes next{filled<32>(0x77)};
  Body removed = body_of(5);
  removed.former_ring_keys = {ring::wrap_former_ring_key(kRingKey, next, kRing, 0)};
  PinKeeper quick{place.file, Missing::Refuse};
  CHECK(quick.seen(removed, mac_of(5), next));
  CHECK_THROWS_AS(slow.seen(body_of(9), mac_of(9), kRingKey), RingForkedError);
  Body later = body_of(9);
  later.former_ring_keys = removed.former_ring_keys;
  CHECK(slow.seen(later, mac_of(9), next));
}

TEST_CASE("a pin file that vanishes is written again, from what the process has seen") {
  const Place place;
  PinKeeper keeper{place.file, Missing::Refuse};
  CHECK(see(keeper, 5));
  fs::remove(place.file);
  CHECK(keeper.last() == pinned(5));
  CHECK(keeper.last_for_open() == pinned(5));
  CHECK_THROWS_AS(see(keeper, 5, 7), RingForkedError);
  CHECK_FALSE(fs::exists(place.file));
  CHECK(see(keeper, 4));
  CHECK(place.stored() == pinned(5));
}

TEST_CASE("a pin file that cannot be written is remembered by the process, and written when it can be") {
  const Place place;
  PinKeeper keeper{place.file, Missing::Refuse};
  CHECK(see(keeper, 5));
  CHECK(keeper.failure().empty());
  fs::remove_all(place.folder);
  CHECK_FALSE(see(keeper, 6));
  CHECK_NAMES(keeper.failure(), place.folder.string());
  CHECK_THROWS_AS(keeper.check_writable(), InvalidArgumentError);
  CHECK(keeper.last() == pinned(6));
  CHECK_THROWS_AS(see(keeper, 6, 7), RingForkedError);
  CHECK_FALSE(see(keeper, 6));
  fs::create_directory(place.folder);
  CHECK(see(keeper, 6));
  CHECK(keeper.failure().empty());
  CHECK(place.stored() == pinned(6));
}

TEST_CASE("on a full disk the pin file stays as it was, and memory goes on") {
  const Place place;
  place.put(pinned(5));
  CHECK(exit_status_of([&] {
          test::limit_files(10);
          PinKeeper keeper{place.file, Missing::Refuse};
          return !see(keeper, 6) && !keeper.failure().empty() && keeper.last() == pinned(6) && !see(keeper, 6);
        }) == 0);
  CHECK(place.stored() == pinned(5));
  CHECK(std::distance(fs::directory_iterator(place.folder), {}) == 1);
}

TEST_CASE("in a folder that may only be read the pin file stays as it was, and memory goes on") {
  if (::geteuid() != 0) {
    WARN("not run: only root can be another user");
    return;
  }
  const Place place;
  place.put(ring::to_text(pinned(5)), 0644);
  REQUIRE(::chmod(place.folder.parent_path().c_str(), 0755) == 0);
  CHECK(exit_status_of([&] {
          if (!test::become_nobody()) return false;
          PinKeeper keeper{place.file, Missing::Refuse};
          return keeper.last() == pinned(5) && !see(keeper, 6) && keeper.last() == pinned(6);
        }) == 0);
  CHECK(place.stored() == pinned(5));
}

TEST_CASE("a folder whose lock somebody keeps does not stop a process") {
  const Place place;
  place.put(pinned(5));
  PinKeeper keeper{place.file, Missing::Refuse};
  {
    const platform::PathLock held{place.folder};
    CHECK_FALSE(see(keeper, 6));
    CHECK_NAMES(keeper.failure(), "lock");
  }
  CHECK(place.stored() == pinned(5));
  CHECK(see(keeper, 6));
  CHECK(place.stored() == pinned(6));
}

TEST_CASE("an accepted record takes the place of a newer one, and of another history, once") {
  const Place place;
  for (const std::uint64_t generation : {3U, 9U, 12U}) {
    place.put(pinned(9));
    PinKeeper keeper{place.file, Missing::Refuse, Rollback::Accept};
    CHECK(keeper.last_for_open() == pinned(9));
    CHECK(keeper.accepts_rollback());
    CHECK_THROWS_AS(keeper.accept(body_of(3, 0, kOtherRing), mac_of(3), kRingKey), WrongRingError);
    CHECK(keeper.accepts_rollback());
    CHECK(place.stored() == pinned(9));
    keeper.accept(body_of(generation, 7), mac_of(generation, 7), kRingKey);
    CHECK_FALSE(keeper.accepts_rollback());
    CHECK(keeper.last() == pinned(generation, 7));
    CHECK(place.stored() == pinned(generation, 7));
    CHECK_THROWS_AS(see(keeper, generation, 8), RingForkedError);
    CHECK(see(keeper, generation + 1, 7));
    CHECK(place.stored() == pinned(generation + 1, 7));
  }
}

TEST_CASE("an acceptance that cannot be stored is none") {
  const Place place;
  place.put(pinned(9));
  CHECK(exit_status_of([&] {
          test::limit_files(10);
          PinKeeper keeper{place.file, Missing::Refuse, Rollback::Accept};
          (void)keeper.last_for_open();
          try {
            keeper.accept(body_of(3), mac_of(3), kRingKey);
          } catch (const InvalidArgumentError&) {
            return keeper.last() == pinned(9) && keeper.accepts_rollback();
          }
          return false;
        }) == 0);
  CHECK(place.stored() == pinned(9));
}

TEST_CASE("other pins accept no rollback") {
  const Place place;
  CHECK_FALSE(PinKeeper(place.file, Missing::Refuse).accepts_rollback());
  CHECK_FALSE(PinKeeper(place.file, Missing::Trust).accepts_rollback());
  CHECK_FALSE(PinKeeper(pinned(1)).accepts_rollback());
}

TEST_CASE("threads of one process and of others move one pin on, and it is never torn") {
  constexpr std::uint64_t kLast = 120;
  const Place place;
  place.put(pinned(1));
  const auto move_on = [&](std::uint64_t first, std::uint64_t step) {
    PinKeeper keeper{place.file, Missing::Refuse};
    const auto run = [&](std::uint64_t from) {
      for (std::uint64_t generation = from; generation <= kLast; generation += step) {
        while (!see(keeper, generation)) {  // the others kept the lock for too long, on a slow disk
        }
      }
    };
    std::thread other{run, first + 1};
    run(first);
    other.join();
    return true;
  };
  Child one{[&] { return move_on(2, 3); }}, two{[&] { return move_on(3, 5); }};
  std::atomic<bool> done = false;
  std::atomic<std::size_t> reads = 0;
  std::thread reader{[&] {
    std::uint64_t newest = 1;
    while (!done || reads == 0) {
      const auto now = PinKeeper{place.file, Missing::Refuse}.last();  // throws, and ends the test, if it is torn
      if (!now || now->generation < newest || *now != pinned(now->generation)) return;
      newest = now->generation;
      ++reads;
    }
    done = false;
  }};
  const int first = one.wait(), second = two.wait();
  done = true;
  reader.join();
  CHECK(first == 0);
  CHECK(second == 0);
  CHECK_FALSE(done);  // the reader saw nothing wrong to its end
  CHECK(reads > 0);
  CHECK(place.stored() == pinned(kLast));
  CHECK(std::distance(fs::directory_iterator(place.folder), {}) == 1);
}

TEST_CASE("a process that is killed while it moves a pin on leaves a pin, and at most one other file") {
  constexpr std::ptrdiff_t kKills = 15;
  const Place place;
  place.put(pinned(1));
  for (std::ptrdiff_t kill = 1; kill <= kKills; ++kill) {
    const std::uint64_t before = place.stored().value().generation;
    Child process{[&] {
      PinKeeper keeper{place.file, Missing::Refuse};
      for (std::uint64_t generation = before + 1;; ++generation) (void)see(keeper, generation);
      return true;
    }};
    const std::uint64_t goal = before + static_cast<std::uint64_t>(kill);
    while (PinKeeper(place.file, Missing::Refuse).last().value().generation < goal)
      ::usleep(static_cast<unsigned>(kill));
    process.kill();
    const auto left = PinKeeper{place.file, Missing::Refuse}.last();
    REQUIRE(left);
    REQUIRE(*left == pinned(left->generation));
    REQUIRE(std::distance(fs::directory_iterator(place.folder), {}) <= 1 + kill);
  }
  PinKeeper next{place.file, Missing::Refuse};
  CHECK(see(next, place.stored().value().generation + 1));
}
