#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "soak/scene.hpp"
#include "support/catch.hpp"

using hsmseal::test::Database;
using hsmseal::test::Scene;
using hsmseal::test::soaking;
using hsmseal::test::told;

namespace {

/// A change of a ring, and what was done before it.
struct Change {
  std::vector<std::string> before;
  std::string action;
};

const std::vector<std::string> kOneSet{"create", "seal 3"};
const std::vector<std::string> kTwoSets{"create", "seal 3", "add hsm2", "seal 3"};
const std::vector<std::string> kThreeSets{"create", "seal 3", "add hsm2", "seal 3", "add-later hsm1"};
const std::vector<std::string> kFirstUnused{"create", "seal 3", "add hsm2", "seal 3", "rewrap"};

std::vector<std::string> then(std::vector<std::string> actions, const std::vector<std::string>& more) {
  actions.insert(actions.end(), more.begin(), more.end());
  return actions;
}

std::vector<Change> every_change() {
  return {
      {{}, "create"},
      {kOneSet, "add hsm2"},
      {kTwoSets, "add-later hsm1"},
      {kThreeSets, "activate 3"},
      {kThreeSets, "amend 2"},
      {kFirstUnused, "remove 1"},
      {then(kFirstUnused, {"remove 1"}), "restore 1"},
      {then(kFirstUnused, {"remove 1"}), "destroy 1"},
      {then(kFirstUnused, {"remove 1", "destroy 1"}), "purge 1"},
      {kTwoSets, "export"},
      {then(kTwoSets, {"export", "lose-database"}), "import"},
  };
}

Scene scene_before(const Change& change, Database database) {
  Scene scene{database};
  for (const std::string& action : change.before) {
    if (action == "lose-database") {
      scene.lose_database();
    } else {
      scene.must(action);
    }
  }
  return scene;
}

/// Kills one change at one instant, and holds what is left against what must be.
void kill_and_check(const Change& change, const Scene& before, long instant) {
  INFO(change.action << " killed at instant " << instant);
  const Scene scene = before.copy();
  const auto outcome = scene.run(change.action, {std::string{"LD_PRELOAD="} + HSMSEAL_KILL_AT_LIBRARY,
                                                 "HSMSEAL_KILL_AT=" + std::to_string(instant)});
  REQUIRE(outcome.killed);
  auto check = scene.run("check");
  if (check.exit_code != 0 && (change.action == "create" || change.action == "import")) {
    // The old ring here is none: making it must work as if nothing had happened.
    scene.must(change.action);
    check = scene.run("check");
  }
  INFO(check.output);
  REQUIRE(check.exit_code == 0);
  CHECK(told(check.output, "orphans") <= 1);
  const long sealed = told(check.output, "opened");
  // The ring goes on: it takes a set, and what was sealed before and after opens.
  scene.must("add hsm1");
  scene.must("seal 1");
  CHECK(told(scene.must("check"), "opened") == sealed + 1);
}

}  // namespace

TEST_CASE("a process killed at a statement of a ring's change leaves the old ring or the new one") {
  const auto database = GENERATE(Database::Sqlite, Database::Postgresql);
  std::vector<std::pair<Change, long>> instants;
  for (const Change& change : every_change()) {
    const long count = scene_before(change, database).instants_of(change.action);
    REQUIRE(count > 0);
    for (long instant = 0; instant < count; ++instant) instants.emplace_back(change, instant);
  }
  // Some spread over all of them, two dozen with both databases, or all.
  const std::size_t step = soaking() ? 1 : instants.size() / 12;
  std::size_t killed = 0;
  std::optional<Scene> scene;
  std::string action;
  for (std::size_t i = 0; i < instants.size(); i += step, ++killed) {
    const auto& [change, instant] = instants[i];
    if (action != change.action) {
      scene.emplace(scene_before(change, database));
      action = change.action;
    }
    kill_and_check(change, *scene, instant);
  }
  WARN((database == Database::Sqlite ? "SQLite: " : "PostgreSQL: ")
       << killed << " of " << instants.size() << " instants of " << every_change().size() << " changes");
  REQUIRE(killed >= 12);
}

TEST_CASE("a process killed at a random instant leaves a ring whose envelopes open") {
  const auto database = GENERATE(Database::Sqlite, Database::Postgresql);
  const Scene scene{database};
  scene.must("create");
  std::mt19937_64 random{20'231'124};
  const int kills = soaking() ? 250 : 4;
  long orphans = 0;
  for (int i = 0; i < kills; ++i) {
    const auto outcome = scene.run_and_kill("churn " + std::to_string(i), static_cast<long>(random() % 300'000));
    INFO("kill " << i << ": " << outcome.output);
    REQUIRE(outcome.killed);
    const auto check = scene.run("check");
    INFO(check.output);
    REQUIRE(check.exit_code == 0);
    const long now = told(check.output, "orphans");
    CHECK(now <= orphans + 1);
    orphans = now;
  }
  const std::string last = scene.must("check");
  WARN((database == Database::Sqlite ? "SQLite: " : "PostgreSQL: ") << kills << " kills; at the end: " << last);
  CHECK(told(last, "opened") >= kills);
}
