#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "support/catch.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::RingHosts;

namespace {

/// A host's own way to the store, which can be cut.
class OwnWay final : public RingStore {
 public:
  explicit OwnWay(std::shared_ptr<RingStore> store) : store_(std::move(store)) {}
  bool cut = false;

  std::optional<RingRecord> load() override { return there().load(); }
  std::optional<RingHead> head() override { return there().head(); }
  bool compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& record) override {
    return there().compare_and_swap(expected, record);
  }
  std::vector<RingRecord> history(std::size_t most) override { return there().history(most); }
  std::uint64_t reserve_usage(const KekId& kek_id, std::uint64_t block) override {
    return there().reserve_usage(kek_id, block);
  }
  Timestamp now() override { return there().now(); }

 private:
  RingStore& there() {
    if (cut) throw StoreError("this host cannot reach the store");
    return *store_;
  }
  std::shared_ptr<RingStore> store_;
};

/// The application's table of envelopes.
struct Table {
  std::vector<std::string> rows;
  [[nodiscard]] Census census() const {
    return [this](Version version) {
      return static_cast<std::uint64_t>(
          std::ranges::count(rows, version, [](const std::string& row) { return inspect_text(row).version; }));
    };
  }
};

}  // namespace

TEST_CASE("an envelope that a stale host sealed after the census is not lost") {
  RingHosts hosts;
  KeyRing admin = hosts.create();
  auto way = std::make_shared<OwnWay>(hosts.store);
  RingOptions patient = hosts.options();
  patient.keep_sealing = 1h;
  const KeyRing stale = KeyRing::open(way, hosts.provider, RingPin::in_process(), patient);
  Table table;

  way->cut = true;
  admin.add({.token = "t"});
  hosts.pass(10min);
  admin.remove(1, table.census());
  table.rows.push_back(test::seal(stale, "hunter2"));  // it has not heard of anything
  CHECK(inspect_text(table.rows[0]).version == 1);

  // It is refused with the cure in the message, neither purged nor destroyed by mistake, and opens when restored.
  CHECK_THROWS_AS(test::open(admin, table.rows[0]), DeletedVersionError);
  hosts.pass(24h * 8);
  CHECK_THROWS_AS(admin.purge(1, table.census()), SetInUseError);
  CHECK_THROWS_AS(admin.destroy_key(1, table.census(), {1}), SetInUseError);
  admin.restore(1);
  CHECK(test::open(admin, table.rows[0]) == "hunter2");
  table.rows[0] = EnvelopeEncryptor{admin}.rewrap_text(table.rows[0]);
  admin.remove(1, table.census());
  CHECK(test::open(admin, table.rows[0]) == "hunter2");
  // The stale host cannot go on for ever, and is up to date as soon as it reaches the store.
  CHECK_THROWS_AS(test::seal(stale), RingStaleError);
  way->cut = false;
  hosts.pass(1s);
  CHECK(test::sealing_version(stale) == 2);
}

TEST_CASE("whatever hosts do in whatever order, no envelope is lost") {
  int removed = 0, needed = 0, stale_seals = 0, destroyed = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random{seed};
    RingHosts hosts;
    KeyRing admin = hosts.create({.quarantine = 3h});
    std::vector<std::shared_ptr<OwnWay>> ways;
    std::vector<KeyRing> sealers;
    for (int i = 0; i < 3; ++i) {
      ways.push_back(std::make_shared<OwnWay>(hosts.store));
      RingOptions options = hosts.options();
      options.keep_sealing = std::chrono::minutes{random() % 60};
      sealers.push_back(KeyRing::open(ways.back(), hosts.provider, RingPin::in_process(), options));
    }
    Table table;
    std::vector<std::string> on_the_way;  // sealed, not in the table yet: for less than the quarantine
    const auto store_all = [&] {
      table.rows.insert(table.rows.end(), on_the_way.begin(), on_the_way.end());
      on_the_way.clear();
    };
    for (int step = 0; step < 100; ++step) {
      const auto one = random() % sealers.size();
      const auto versions = admin.list();
      const Version some = versions[random() % versions.size()].version;
      try {
        switch (random() % 10) {
          case 0:
            admin.add({.token = "t"});
            break;
          case 1:
            admin.remove(some, table.census());
            ++removed;
            break;
          case 2:
            admin.restore(some);
            needed += table.census()(some) > 0 ? 1 : 0;
            break;
          case 3:
            admin.destroy_key(some, table.census(), {some});
            ++destroyed;
            break;
          case 4:
            ways[one]->cut = !ways[one]->cut;
            break;
          case 5:
            hosts.pass(std::chrono::seconds{random() % 90});
            break;
          case 6:
            hosts.pass(1h);
            store_all();
            break;
          case 7:
            for (auto& row : table.rows) row = EnvelopeEncryptor{admin}.rewrap_text(row);
            break;
          default:
            on_the_way.push_back(test::seal(sealers[one]));
            if (inspect_text(on_the_way.back()).version < admin.active().version) ++stale_seals;
        }
      } catch (const Error& error) {
        const auto code = error.code();
        CHECK((code == ErrorCode::SetInUse || code == ErrorCode::InvalidArgument || code == ErrorCode::DeletedVersion ||
               code == ErrorCode::RingStale));
      }
      if (random() % 8 == 0) store_all();
    }
    store_all();
    for (const auto& row : table.rows) {
      const Version version = inspect_text(row).version;
      const auto set = admin.find(version);
      REQUIRE(set);
      if (set->state == SetState::Deleted) {
        ++needed;
        admin.restore(version);
      }
      CHECK(test::open(admin, row) == "x");
    }
  }
  REQUIRE(removed > 100);
  REQUIRE(destroyed > 5);
  REQUIRE(stale_seals > 20);
  REQUIRE(needed >= 5);
  WARN(removed << " removals, " << destroyed << " keys destroyed, " << stale_seals << " seals under an older set, "
               << needed << " removed sets restored that envelopes named");
}
