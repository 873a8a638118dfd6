#include "envelope/opened_keys.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>

#include "envelope/data_keys.hpp"
#include "helpers.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/ring_parts.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;

namespace {

/// A ring on keys in memory whose clock stands still until it is moved.
struct Scene {
  explicit Scene(std::size_t opened_keys = 1024, std::uint64_t secrets = 1) {
    encryptor = std::make_unique<EnvelopeEncryptor>(
        ring, EnvelopeOptions{.data_keys = DataKeyPolicy::reuse(secrets, 60s), .opened_data_keys = opened_keys});
  }

  /// Envelopes with a data key each, unless a data key seals several.
  [[nodiscard]] std::vector<Bytes> sealed(std::size_t count) const {
    std::vector<Bytes> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(encryptor->seal(bytes_of(std::to_string(i)), kNoContext));
    return all;
  }
  /// Opens and returns how often the token was asked.
  [[nodiscard]] int asked_to_open(ByteView envelope) const {
    const int before = parts.provider->unwraps();
    CHECK(!encryptor->open(envelope, kNoContext).empty());
    return parts.provider->unwraps() - before;
  }
  void remove(Version version) {
    parts.store->clock += RingSettings{}.removal_grace;
    ring.remove_without_census(version);
  }

  test::RingParts parts;
  std::atomic<std::int64_t> seconds = 1'000;
  std::shared_ptr<test::Recorder> events = std::make_shared<test::Recorder>();
  KeyRing ring = parts.create({.observer = events, .clock = [this] {
                                 return std::chrono::steady_clock::time_point{std::chrono::seconds{seconds}};
                               }});
  std::unique_ptr<EnvelopeEncryptor> encryptor;
};

EnvelopeOptions reusing(std::size_t opened_keys) {
  return {.data_keys = DataKeyPolicy::reuse(), .opened_data_keys = opened_keys};
}

}  // namespace

TEST_CASE("the token is asked once for the data key of many envelopes") {
  const Scene scene{1024, 1000};
  const auto sealed = scene.sealed(1000);
  CHECK(scene.asked_to_open(sealed[0]) == 1);
  int asked = 0;
  for (const Bytes& one : sealed) asked += scene.asked_to_open(one);
  CHECK(asked == 0);
  CHECK(std::ranges::count(scene.events->kinds(), Event::Kind::Opened) == 1001);
}

TEST_CASE("of opened data keys those are given up that were not used for longest") {
  const Scene scene{2};
  const auto sealed = scene.sealed(3);
  CHECK(scene.asked_to_open(sealed[0]) == 1);
  CHECK(scene.asked_to_open(sealed[1]) == 1);
  CHECK(scene.asked_to_open(sealed[0]) == 0);
  CHECK(scene.asked_to_open(sealed[2]) == 1);
  CHECK(scene.asked_to_open(sealed[0]) == 0);
  CHECK(scene.asked_to_open(sealed[2]) == 0);
  CHECK(scene.asked_to_open(sealed[1]) == 1);
}

TEST_CASE("no opened data key is kept if none may be") {
  const Scene scene{0};
  const auto sealed = scene.sealed(1);
  CHECK(scene.asked_to_open(sealed[0]) == 1);
  CHECK(scene.asked_to_open(sealed[0]) == 1);
}

TEST_CASE("an opened data key is asked for again when it has reached its age") {
  Scene scene;
  const auto sealed = scene.sealed(1);
  CHECK(scene.asked_to_open(sealed[0]) == 1);
  scene.seconds += 59;
  CHECK(scene.asked_to_open(sealed[0]) == 0);
  scene.seconds += 1;
  CHECK(scene.asked_to_open(sealed[0]) == 1);
}

TEST_CASE("what does not open does not open with a data key that is kept either") {
  const Scene scene;
  const Bytes sealed = scene.sealed(1)[0];
  REQUIRE(scene.asked_to_open(sealed) == 1);
  const int asked = scene.parts.provider->unwraps();
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    CAPTURE(bit);
    const Bytes altered = test::with_flipped_bit(sealed, bit);
    bool opens = true;
    try {
      static_cast<void>(scene.encryptor->open(altered, kNoContext));
    } catch (const Error&) {
      opens = false;
    }
    CHECK_FALSE(opens);
    ++refused;
  }
  CHECK(refused == sealed.size() * 8);
  CHECK(scene.parts.provider->unwraps() > asked);  // for changes of the wrapped key, which name another one
  CHECK_THROWS_AS(scene.encryptor->open(sealed, Context{}.add("record", "1")), OpenError);
  CHECK(scene.events->kinds().back() == Event::Kind::OpenRefused);
  CHECK(scene.asked_to_open(sealed) == 0);
}

TEST_CASE("a data key of a set that was removed is dropped at once, from every thread's desk") {
  Scene scene;
  const auto sealed = scene.sealed(4);
  const auto core = ring::CoreOf::shared(scene.ring);
  const auto keys = std::make_shared<envelope::DataKeys>(core, reusing(16));
  core->add_follower(keys);
  std::vector<std::weak_ptr<envelope::OpenedKey>> opened;
  for (const Bytes& one : sealed) opened.push_back(keys->opened_key(one, wire::read(one)));
  test::in_threads(4, [&](std::size_t thread) {
    for (const Bytes& one : sealed) static_cast<void>(keys->open(one, wire::read(one), kNoContext));
    static_cast<void>(thread);
  });
  for (const auto& one : opened) CHECK_FALSE(one.expired());
  scene.ring.add({.token = "t"});
  for (const auto& one : opened) CHECK_FALSE(one.expired());
  scene.remove(1);
  for (const auto& one : opened) CHECK(one.expired());

  const int asked = scene.parts.provider->unwraps();
  CHECK_THROWS_AS(keys->open(sealed[0], wire::read(sealed[0]), kNoContext), DeletedVersionError);
  CHECK_THROWS_AS(scene.encryptor->open(sealed[0], kNoContext), DeletedVersionError);
  CHECK(scene.parts.provider->unwraps() == asked);
  scene.ring.restore(1);
  CHECK(scene.asked_to_open(sealed[0]) == 1);
}

TEST_CASE("a data key that is given up for another is wiped, though other threads have worked with it") {
  Scene scene;
  const auto sealed = scene.sealed(3);
  const auto keys = std::make_shared<envelope::DataKeys>(ring::CoreOf::shared(scene.ring), reusing(2));
  std::vector<std::weak_ptr<envelope::OpenedKey>> opened;
  for (std::size_t i = 0; i < 2; ++i) {
    opened.push_back(keys->opened_key(sealed[i], wire::read(sealed[i])));
    test::in_threads(3,
                     [&](std::size_t) { static_cast<void>(keys->open(sealed[i], wire::read(sealed[i]), kNoContext)); });
  }
  CHECK_FALSE(opened[0].expired());
  static_cast<void>(keys->open(sealed[2], wire::read(sealed[2]), kNoContext));
  CHECK((opened[0].expired() || opened[1].expired()));
}

TEST_CASE("many threads open under many data keys of which few are kept") {
  Scene scene{4};
  const auto sealed = scene.sealed(16);
  std::atomic<std::size_t> right = 0;
  test::in_threads(8, [&](std::size_t thread) {
    for (std::size_t i = 0; i < 300; ++i) {
      const std::size_t which = (thread * 7 + i * 5) % sealed.size();
      if (scene.encryptor->open(sealed[which], kNoContext).text() == std::to_string(which)) ++right;
    }
  });
  CHECK(right == 8 * 300);
}

TEST_CASE("the memory of keys is wiped when they are given up, and empty in a forked child") {
  envelope::KeyMemory memory;
  auto kept = memory.take();
  std::ranges::fill(kept.bytes(), std::byte{0x5a});
  const std::byte* wiped = nullptr;
  {
    auto place = memory.take();
    std::ranges::fill(place.bytes(), std::byte{0x5a});
    wiped = place.bytes().data();
  }
  const auto again = memory.take();  // the last one back is the first one lent
  REQUIRE(again.bytes().data() == wiped);
  CHECK(std::ranges::count(again.bytes(), std::byte{0}) == 64);
  CHECK(test::exit_status_of([&] { return std::ranges::count(kept.bytes(), std::byte{0}) == 64; }) == 0);
  CHECK(std::ranges::count(kept.bytes(), std::byte{0x5a}) == 64);
}

TEST_CASE("keys in memory do not lie on each other") {
  envelope::KeyMemory memory;
  std::vector<envelope::KeyMemory::Place> places;
  for (std::size_t i = 0; i < 200; ++i) {
    std::ranges::fill(places.emplace_back(memory.take()).bytes(), static_cast<std::byte>(i));
  }
  std::size_t whole = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (std::ranges::count(places[i].bytes(), static_cast<std::byte>(i)) == 64) ++whole;
  }
  CHECK(whole == 200);
}
