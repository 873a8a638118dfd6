// What becomes of a ring's record in which any one thing was changed: no host takes it, and nothing is sealed by it.
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "ring/body.hpp"
#include "support/catch.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using nlohmann::json;
using test::none_left;
using test::RingHosts;
using test::seal;

namespace {

/// A ring with sets of every state and both algorithms, and former keys.
struct Lived : RingHosts {
  Lived() {
    KeyRing ring = create();
    constexpr auto kCbc = WrapAlgorithm::Aes256CbcHmac;
    ring.add({.token = "t", .description = "two", .algorithm = kCbc});
    ring.add({.token = "t", .description = "three"});
    ring.add({.token = "t", .description = "four", .gcm = GcmForm{IvRule::TokenWrites, 16}});
    ring.add({.token = "t", .description = "five", .algorithm = kCbc});
    ring.add({.token = "t", .description = "six", .gcm = GcmForm{IvRule::TokenAppends, 12}}, Activation::Later);
    pass(60s);
    ring.remove(2, none_left);
    ring.remove(3, none_left);
    pass(std::chrono::hours{24 * 7});
    ring.destroy_key(3, none_left, {3});
    ring.amend(4, {.token_label = "label"});
    good = *store->record;
  }
  RingRecord good;
};

using Pointer = json::json_pointer;

/// Every place of a document, the document itself first.
std::vector<Pointer> places_in(const json& document, const Pointer& at) {
  std::vector<Pointer> places{at};
  const json& here = document.at(at);
  const auto descend = [&](const Pointer& next) {
    const auto below = places_in(document, next);
    places.insert(places.end(), below.begin(), below.end());
  };
  if (here.is_object()) {
    for (const auto& [name, value] : here.items()) descend(at / name);
  } else if (here.is_array()) {
    for (std::size_t i = 0; i < here.size(); ++i) descend(at / i);
  }
  return places;
}

/// Other values for a leaf: of its type as far as there are such, and of others.
std::vector<json> instead_of(const json& leaf) {
  std::vector<json> others{nullptr, true, 1.5, -1, "", json::object(), json::array()};
  if (leaf.is_number_unsigned()) {
    const auto number = leaf.get<std::uint64_t>();
    for (const std::uint64_t other : {number + 1, number - 1, number * 2, std::uint64_t{0}, std::uint64_t{1},
                                      std::uint64_t{1} << 32, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
      others.emplace_back(other);
    }
  } else if (leaf.is_null()) {
    others.insert(others.end(), {json(0), json(1'700'000'000'000), json(std::string(120, '0'))});
  } else if (leaf.is_string()) {
    const auto text = leaf.get<std::string>();
    for (const std::size_t at : {std::size_t{0}, text.size() / 2, text.size() - 1}) {
      if (at >= text.size()) continue;
      std::string changed = text;
      changed[at] = changed[at] == '0' ? '1' : '0';
      others.emplace_back(changed);
      changed[at] = '\x7f';
      others.emplace_back(changed);
    }
    for (const char* state : {"staged", "active", "archived", "deleted", "destroyed"}) others.emplace_back(state);
    others.insert(others.end(), {json(text + "0"), json(text + "00"), json(text + " "), json(text + text)});
    if (text.size() >= 2) others.emplace_back(text.substr(2));
  }
  std::erase(others, leaf);
  return others;
}

/// Every way to change one thing.
std::vector<std::pair<std::string, json>> changes_of(const json& document) {
  std::vector<std::pair<std::string, json>> changes;
  const auto change = [&](const Pointer& at, const std::string& what, const std::function<void(json&)>& edit) {
    json changed = document;
    edit(changed.at(at));
    if (changed != document) changes.emplace_back(at.to_string() + " " + what, std::move(changed));
  };
  for (const Pointer& at : places_in(document, Pointer{})) {
    const json& here = document.at(at);
    if (here.is_object()) {
      change(at, "more", [](json& object) { object["zzz"] = 1; });
      for (const auto& item : here.items()) {
        change(at, "without " + item.key(), [&](json& object) { object.erase(item.key()); });
      }
    } else if (here.is_array()) {
      change(at, "emptied", [](json& array) { array.clear(); });
      for (std::size_t i = 0; i < here.size(); ++i) {
        const auto place = static_cast<std::ptrdiff_t>(i);
        change(at, "dropped", [&](json& array) { array.erase(i); });
        change(at, "doubled", [&](json& array) { array.insert(array.begin() + place, here[i]); });
        change(at, "moved to the end", [&](json& array) {
          array.erase(i);
          array.push_back(here[i]);
        });
        for (std::size_t j = i + 1; j < here.size(); ++j) {
          change(at, "swapped", [&](json& array) { std::swap(array[i], array[j]); });
          change(at, "overwritten", [&](json& array) { array[i] = array[j]; });
        }
      }
    }
    if (here.is_structured()) continue;
    for (const json& other : instead_of(here)) {
      change(at, "is " + other.dump(), [&](json& leaf) { leaf = other; });
    }
  }
  // The same field of two sets, exchanged or copied.
  const json& sets = document.at("sets");
  for (std::size_t i = 0; i < sets.size(); ++i) {
    for (std::size_t j = 0; j < sets.size(); ++j) {
      for (const auto& item : sets[i].items()) {
        change(Pointer{"/sets"}, "copied " + item.key(),
               [&](json& array) { array[i][item.key()] = sets[j][item.key()]; });
        if (j <= i) continue;
        change(Pointer{"/sets"}, "exchanged " + item.key(),
               [&](json& array) { std::swap(array[i][item.key()], array[j][item.key()]); });
      }
    }
  }
  return changes;
}

using Outcomes = std::map<std::string, int>;

std::string outcome_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const RingTamperedError&) {
    return "tampered";
  } catch (const WrongRingError&) {
    return "wrong ring";
  } catch (const StoreError&) {
    return "store";
  } catch (const std::exception& error) {
    return error.what();
  }
  return "accepted";
}

int all(const Outcomes& outcomes) {
  int sum = 0;
  for (const auto& [outcome, times] : outcomes) sum += times;
  return sum;
}

}  // namespace

TEST_CASE("no host takes a record in which any one thing was changed, and nothing is sealed by it") {
  Lived f;
  KeyRing running = f.join();
  const json document = json::parse(f.good.body);
  REQUIRE(document.dump() == f.good.body);
  const auto changes = changes_of(document);
  const KeyDescription active = running.active().key;

  Outcomes refreshed, opened, sealed;
  for (const auto& [what, changed] : changes) {
    INFO(what);
    f.store->record->body = changed.dump();
    ++refreshed[outcome_of([&] { running.refresh(); })];
    ++opened[outcome_of([&] { static_cast<void>(f.join()); })];
    CHECK(test::sealing_version(running) == 5);
    f.pass(6s);
    f.store->record->generation = f.good.generation + 1;  // so that a look at the generation alone reads it
    ++sealed[outcome_of([&] { static_cast<void>(seal(running)); })];
    f.store->record = f.good;
    f.pass(1s);
    const std::string envelope = seal(running);
    CHECK(inspect_text(envelope).version == 5);
    CHECK(running.active().key == active);
  }
  const int cases = static_cast<int>(changes.size());
  UNSCOPED_INFO(cases << " cases");
  CHECK(cases > 1500);
  for (const Outcomes* outcomes : {&refreshed, &opened, &sealed}) {
    for (const auto& [outcome, times] : *outcomes) UNSCOPED_INFO(outcome << " " << times);
    CHECK(all(*outcomes) == cases);
    CHECK_FALSE(outcomes->contains("accepted"));
  }
}
