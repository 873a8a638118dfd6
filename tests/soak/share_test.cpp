#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <hsmseal/envelope_header.hpp>

#include "soak/scene.hpp"
#include "support/catch.hpp"

using hsmseal::test::Database;
using hsmseal::test::Scene;
using hsmseal::test::soaking;
using hsmseal::test::told;

namespace {

constexpr long long kMaxStalenessNs = 200'000'000;  // of the ring that ring_worker makes for processes side by side
constexpr int kProcesses = 8, kChangers = 4;

struct Event {
  std::string what;
  hsmseal::Version version;
  long long at;  ///< CLOCK_MONOTONIC, ns: after the change had returned
};

struct Seal {
  long long start;  ///< CLOCK_MONOTONIC, ns
  hsmseal::Version version;
};

std::vector<Event> events_of(const Scene& scene) {
  std::vector<Event> events;
  for (int i = 0; i < kProcesses; ++i) {
    std::ifstream file(scene.folder() / ("events." + std::to_string(i)));
    for (Event event; file >> event.what >> event.version >> event.at;) events.push_back(event);
  }
  return events;
}

std::vector<Seal> seals_of(const Scene& scene) {
  std::vector<Seal> seals;
  for (int i = 0; i < kProcesses; ++i) {
    std::ifstream file(scene.folder() / ("envelopes." + std::to_string(i)));
    for (std::string number, text; file >> number >> text;) {
      seals.push_back({std::stoll(number), hsmseal::inspect_text(text).version});
    }
  }
  return seals;
}

/// The newest version that was known to be active at the start of a seal, as far back as hosts may lag.
hsmseal::Version must_name(const std::vector<Event>& activated, long long start) {
  hsmseal::Version newest = 1;
  for (const Event& event : activated) {
    if (event.at + kMaxStalenessNs < start) newest = std::max(newest, event.version);
  }
  return newest;
}

}  // namespace

TEST_CASE("eight processes on one ring, four of them changing it, agree") {
  const Scene scene{Database::Postgresql};
  scene.must("create-shared");
  const int seconds = soaking() ? 60 : 4;
  std::vector<std::thread> processes;
  std::vector<Scene::Outcome> outcomes(kProcesses);
  for (int i = 0; i < kProcesses; ++i) {
    processes.emplace_back([&, i] {
      outcomes[static_cast<std::size_t>(i)] = scene.run(
          "share " + std::to_string(i) + " " + std::to_string(seconds) + (i < kChangers ? " changes" : " seals"), {},
          "output." + std::to_string(i));
    });
  }
  for (auto& process : processes) process.join();
  for (const auto& outcome : outcomes) {
    INFO(outcome.output);
    CHECK((!outcome.killed && outcome.exit_code == 0));
  }
  const auto events = events_of(scene);
  const auto seals = seals_of(scene);
  REQUIRE(events.size() > 10);
  REQUIRE(seals.size() > 100);
  std::map<std::string, int> changes;
  std::set<hsmseal::Version> added;
  std::vector<Event> activated;
  for (const Event& event : events) {
    ++changes[event.what];
    if (event.what == "activated") activated.push_back(event);
    if (event.version != 0) CHECK(added.insert(event.version).second);  // no version twice
  }
  REQUIRE_FALSE(activated.empty());
  CHECK(changes["key-refused"] < changes["activated"]);
  int stale = 0;
  for (const Seal& seal : seals) stale += seal.version < must_name(activated, seal.start) ? 1 : 0;
  CHECK(stale == 0);
  const std::string check = scene.must("check");
  CHECK(static_cast<std::size_t>(told(check, "opened")) == seals.size());
  const auto newest = std::ranges::max(activated, {}, &Event::version).version;
  CHECK(told(check, "active") == static_cast<long>(newest));
  CHECK(told(check, "archived") + told(check, "staged") + 1 == static_cast<long>(added.size()) + 1);
  std::string summary;
  for (const auto& [what, count] : changes) summary += what + " " + std::to_string(count) + ", ";
  WARN(seals.size() << " seals, " << stale << " of them too old; " << summary << "at the end " << check);
}
