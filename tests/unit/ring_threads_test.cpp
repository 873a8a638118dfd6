// Hosts and threads that seal, open, add, remove, restore and amend at once.
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "support/catch.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::open;
using test::seal;

namespace {

/// A store for threads, whose clock goes on by ten seconds each time it is asked: graces are over soon.
struct HurriedStore final : RingStore {
  std::optional<RingRecord> load() override { return inner->load(); }
  std::optional<RingHead> head() override { return inner->head(); }
  bool compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& record) override {
    return inner->compare_and_swap(expected, record);
  }
  std::vector<RingRecord> history(std::size_t most) override { return inner->history(most); }
  std::uint64_t reserve_usage(const KekId& kek_id, std::uint64_t block) override {
    return inner->reserve_usage(kek_id, block);
  }
  Timestamp now() override { return Timestamp{std::chrono::seconds{clock += 10}}; }

  std::shared_ptr<RingStore> inner = memory_ring_store();
  std::atomic<std::int64_t> clock = 1'700'000'000;
};

/// Runs them all at once; what one throws is a failure.
void run(const std::vector<std::function<void()>>& all) {
  std::mutex mutex;
  std::vector<std::string> thrown;
  std::vector<std::thread> threads;
  for (const auto& one : all) {
    threads.emplace_back([&] {
      try {
        one();
      } catch (const std::exception& error) {
        const std::scoped_lock lock{mutex};
        thrown.emplace_back(error.what());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(thrown == std::vector<std::string>{});
}

}  // namespace

TEST_CASE("hosts that change the ring at once, while others seal and open, lose nothing") {
  const auto store = std::make_shared<HurriedStore>();
  const auto token = std::make_shared<test::SoftwareProvider>();
  // Each time it is asked, a host's clock is two seconds later: it looks whenever it may.
  const auto options = [time = std::make_shared<std::atomic<std::int64_t>>(0)] {
    return RingOptions{
        .clock = [time] { return std::chrono::steady_clock::time_point{std::chrono::seconds{*time += 2}}; }};
  };
  const KeyRing first = KeyRing::create(store, token, {.token = "t"}, RingPin::in_process(), options());
  const auto join = [&] { return KeyRing::open(store, token, RingPin::in_process(), options()); };
  const KeyRing second = join();
  for (int i = 0; i < 3; ++i) KeyRing{first}.add({.token = "t"});  // so that there are sets to remove

  std::mutex mutex;
  std::vector<std::string> envelopes{seal(first)};
  std::atomic<int> removed = 0, restored = 0;
  std::atomic<std::size_t> added = 4;
  const auto work = [&](const KeyRing& ring) {
    for (int i = 0; i < 40; ++i) {
      const std::string mine = seal(ring);
      std::string any;
      {
        const std::scoped_lock lock{mutex};
        envelopes.push_back(mine);
        any = envelopes[envelopes.size() * 7 / 11];
      }
      try {
        if (open(ring, any) != "x") throw std::logic_error("it opened to something else");
      } catch (const DeletedVersionError&) {
      }
    }
  };
  const auto rotate = [&] {
    KeyRing ring = join();
    for (int i = 0; i < 8; ++i) {
      try {
        ring.add({.token = "t"}, i % 3 == 2 ? Activation::Later : Activation::Now);
        ++added;
      } catch (const StoreConflictError&) {  // 64 times the others were faster
      }
    }
  };
  const auto clean = [&](KeyRing ring) {
    for (int i = 0; i < 8 || removed == 0 || restored == 0; ++i) {
      ring.refresh();
      for (const auto& set : ring.list()) {
        try {
          if (set.state == SetState::Archived && (set.version + static_cast<Version>(i)) % 2 == 0) {
            ring.remove_without_census(set.version);
            ++removed;
          } else if (set.state == SetState::Deleted) {
            ring.restore(set.version);
            ++restored;
          } else {
            ring.amend(set.version, {.description = std::to_string(i)});
          }
        } catch (const SetInUseError&) {
        } catch (const DeletedVersionError&) {
        } catch (const StoreConflictError&) {
        } catch (const InvalidArgumentError&) {  // restored by the other one
        }
      }
      ring.refresh();
    }
  };
  run({[&] { work(first); }, [&] { work(first); }, [&] { work(second); }, [&] { work(second); }, rotate, rotate,
       [&] { clean(join()); }, [&] { clean(first); }});

  KeyRing last = join();
  CHECK(last.list().size() == added);
  CHECK(added > 10);
  CHECK(removed > 0);
  CHECK(restored > 0);
  for (const auto& set : last.list()) {
    if (set.state == SetState::Deleted) last.restore(set.version);
    CHECK_NOTHROW(last.verify(set.version));
  }
  CHECK(envelopes.size() == 161);
  for (const auto& envelope : envelopes) CHECK(open(last, envelope) == "x");
}

TEST_CASE("one set that hosts remove, restore, purge and destroy at once comes to one end") {
  for (int round = 0; round < 20; ++round) {
    const auto store = std::make_shared<HurriedStore>();
    const auto token = std::make_shared<test::SoftwareProvider>();
    RingSettings settings;
    settings.quarantine = settings.removal_grace;
    KeyRing ring = KeyRing::create(store, token, {.token = "t"}, RingPin::in_process(), {}, settings);
    const std::string sealed = seal(ring);
    const Bytes key = ring.active().key.key_id;
    ring.add({.token = "t"});
    const auto attempt = [&](const std::function<void(KeyRing&)>& change) {
      return [&, change] {
        KeyRing host = KeyRing::open(store, token, RingPin::in_process());
        for (int i = 0; i < 10; ++i) {
          try {
            change(host);
          } catch (const SetInUseError&) {
          } catch (const DeletedVersionError&) {
          } catch (const InvalidArgumentError&) {
          } catch (const UnknownVersionError&) {
          } catch (const StoreConflictError&) {
          } catch (const KeyNotFoundError&) {  // destroyed while it was to be proved
          }
        }
      };
    };
    run({attempt([](KeyRing& host) { host.remove(1, test::none_left); }),
         attempt([](KeyRing& host) { host.restore(1); }),
         attempt([](KeyRing& host) { host.purge(1, test::none_left); }),
         attempt([](KeyRing& host) { host.destroy_key(1, test::none_left, {1}); })});
    const KeyRing last = KeyRing::open(store, token, RingPin::in_process());
    const auto set = last.find(1);
    if (!set) {
      CHECK_THROWS_AS(open(last, sealed), UnknownVersionError);
    } else if (set->state == SetState::Deleted) {
      CHECK_THROWS_AS(open(last, sealed), DeletedVersionError);
      if (set->key_destroyed_at) CHECK_THROWS_AS(token->key(key), KeyNotFoundError);
    } else {
      CHECK(open(last, sealed) == "x");
    }
  }
}
