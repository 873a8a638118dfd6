// What can still be opened when a ring's record, its database or all but its tokens are damaged.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "ring/body.hpp"
#include "ring/export_file.hpp"
#include "ring/salvage.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::none_left;
using test::open;
using test::RingHosts;
using test::seal;

namespace {

/// A ring with sets of every state, each with an envelope.
struct Lived : RingHosts {
  Lived() {
    KeyRing ring = create();
    id = ring.id();
    sealed[1] = seal(ring, "secret 1");
    for (Version version = 2; version <= 5; ++version) {
      // Braces, quotes and what looks like a set, where a text may have them.
      ring.add({.token = "t", .description = "}{\"]\\{\"activated_at\":" + std::to_string(version)});
      sealed[version] = seal(ring, "secret " + std::to_string(version));
    }
    ring.add({.token = "t"}, Activation::Later);
    pass(60s);
    ring.remove(2, none_left);
    ring.remove(3, none_left);
    pass(std::chrono::hours{24 * 7});
    ring.destroy_key(3, none_left, {3});
    sealed.erase(3);
    list = ring.list();
    good = *store->record;
  }

  [[nodiscard]] KeyRing salvage() const { return KeyRing::open_for_salvage(store, provider, id); }
  void store_text(std::string body) {
    store->record = RingRecord{good.generation, std::move(body), {}};
    store->records.clear();
  }
  /// @returns how many envelopes open; all that do have their own secret.
  int opened(const KeyRing& ring) const {
    int opens = 0;
    for (const auto& [version, envelope] : sealed) {
      if (!ring.find(version)) {
        CHECK_THROWS_AS(open(ring, envelope), UnknownVersionError);
        continue;
      }
      CHECK(open(ring, envelope) == "secret " + std::to_string(version));
      ++opens;
    }
    return opens;
  }

  RingId id;
  std::map<Version, std::string> sealed;
  std::vector<CredentialSet> list;
  RingRecord good;
};

struct TemporaryFile {
  TemporaryFile() : path(std::filesystem::temp_directory_path() / ("hsmseal-salvage-" + std::to_string(getpid()))) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove(path); }
  void write(const std::string& text) const { std::ofstream{path, std::ios::binary} << text; }
  const std::filesystem::path path;
};

}  // namespace

TEST_CASE("a whole record gives all sets, deleted ones too") {
  Lived f;
  const KeyRing ring = f.salvage();
  CHECK(ring.id() == f.id);
  REQUIRE(ring.list().size() == 6);
  for (const auto& set : ring.list()) {
    CHECK(set.state == SetState::Archived);
    CHECK(set.key == f.list[set.version - 1].key);
  }
  CHECK(f.opened(ring) == 4);
  CHECK(ring.settings() == RingSettings{});
}

TEST_CASE("a record cut anywhere gives the sets that are whole, and never fewer as more of it is there") {
  Lived f;
  std::size_t last = 0, refused = 0, cuts = 0;
  int last_opened = 0;
  for (std::size_t size = 0; size <= f.good.body.size(); ++size, ++cuts) {
    f.store_text(f.good.body.substr(0, size));
    try {
      const KeyRing ring = f.salvage();
      const auto sets = ring.list();
      REQUIRE(sets.size() >= std::max<std::size_t>(last, 1));
      for (const auto& set : sets) REQUIRE(set.key == f.list[set.version - 1].key);
      if (sets.size() == last) continue;
      last = sets.size();
      const int opens = f.opened(ring);
      CHECK(opens >= last_opened);
      last_opened = opens;
    } catch (const StoreError&) {
      REQUIRE(last == 0);
      ++refused;
    }
  }
  CHECK(cuts == f.good.body.size() + 1);
  CHECK(refused > 100);
  CHECK(last == 6);
  CHECK(last_opened == 4);
}

TEST_CASE("a record whose beginning is lost gives the sets behind it") {
  Lived f;
  std::size_t last = 6, refused = 0;
  for (std::size_t from = 0; from < f.good.body.size(); ++from) {
    const auto sets = ring::sets_in({f.good.body.substr(from)});
    REQUIRE(sets.size() <= last);
    last = sets.size();
    refused += sets.empty();
    for (const auto& set : sets) REQUIRE(set == f.list[set.version - 1]);
  }
  CHECK(last == 0);
  CHECK(refused > 100);
}

TEST_CASE("a record with a hole gives the sets around it") {
  Lived f;
  std::size_t fewest = 6;
  for (std::size_t at = 0; at < f.good.body.size(); at += 7) {
    std::string text = f.good.body;
    text.replace(at, 20, std::string(20, '\0'));
    const auto sets = ring::sets_in({text});
    CHECK(sets.size() >= 4);  // a hole may lie across two
    fewest = std::min(fewest, sets.size());
  }
  CHECK(fewest <= 5);
}

TEST_CASE("an exported ring cut anywhere gives what its record gives") {
  Lived f;
  const TemporaryFile file;
  const std::string text = ring::write_export(f.good);
  std::size_t last = 0, refused = 0;
  for (std::size_t size = 0; size <= text.size(); size += size + 64 < text.size() ? 13 : 1) {
    file.write(text.substr(0, size));
    try {
      const KeyRing ring = KeyRing::open_for_salvage(file.path, f.provider, f.id);
      REQUIRE(ring.list().size() >= last);
      last = ring.list().size();
    } catch (const FormatError&) {
      ++refused;
      REQUIRE(last == 0);
    }
  }
  CHECK(refused > 10);
  CHECK(last == 6);
  CHECK(f.opened(KeyRing::open_for_salvage(file.path, f.provider, f.id)) == 4);
  CHECK_THROWS_AS(KeyRing::open_for_salvage(file.path / "missing", f.provider, f.id), InvalidArgumentError);
}

TEST_CASE("garbage gives nothing, and says so") {
  Lived f;
  const std::string begin = "{\"activated_at\":";
  for (const std::string& text :
       {std::string{}, std::string{"{}"}, std::string(100, '{'), std::string(100, '}'), std::string(100, '"'), begin,
        begin + "null}", begin + "null,\"version\":1}", begin + "\"\\", std::string(1000, '\0'), begin + "\xff}"}) {
    f.store_text(text);
    CHECK_THROWS_AS(f.salvage(), StoreError);
  }
}

TEST_CASE("garbage that looks like the beginnings of many sets ends soon") {
  std::string nested, quoted;
  while (nested.size() < 4'000'000) nested += "{\"activated_at\":";
  while (quoted.size() < 4'000'000) quoted += "{\"activated_at\":\"";
  CHECK(ring::sets_in({nested, quoted}).empty());
}

TEST_CASE("a store of which nothing can be read says why") {
  struct Broken final : RingStore {
    std::optional<RingRecord> load() override { throw StoreError("bad block"); }
    std::optional<RingHead> head() override { throw StoreError("bad block"); }
    bool compare_and_swap(const std::optional<RingHead>&, const RingRecord&) override { return false; }
    std::vector<RingRecord> history(std::size_t) override { throw StoreError("bad history"); }
    std::uint64_t reserve_usage(const KekId&, std::uint64_t) override { return 0; }
    Timestamp now() override { return {}; }
  };
  const auto provider = std::make_shared<test::SoftwareProvider>();
  CHECK_NAMES(test::message_of<StoreError>(
                  [&] { return KeyRing::open_for_salvage(std::make_shared<Broken>(), provider, RingId{}); }),
              "bad");
  CHECK_THROWS_AS(KeyRing::open_for_salvage(std::make_shared<test::OpenStore>(), provider, RingId{}), StoreError);
  CHECK_THROWS_AS(KeyRing::open_for_salvage(std::shared_ptr<RingStore>{}, provider, RingId{}), InvalidArgumentError);
  Lived f;
  CHECK_THROWS_AS(KeyRing::open_for_salvage(f.store, nullptr, f.id), InvalidArgumentError);
}

TEST_CASE("past records give what the newest does not, purged sets too") {
  Lived f;
  KeyRing ring = f.join();
  ring.purge(2, none_left);
  REQUIRE_FALSE(ring.find(2));
  SECTION("the newest is whole") {}
  SECTION("the newest is garbage") { f.store->record->body = "{"; }
  SECTION("the newest is lost") { f.store->record.reset(); }
  SECTION("the newest cannot be read") {
    f.store->on_load = [] { throw StoreError("bad block"); };
  }
  const KeyRing salvaged = f.salvage();
  CHECK(salvaged.list().size() == 6);
  CHECK(f.opened(salvaged) == 4);
}

TEST_CASE("tokens alone open what keys made by hsmseal have sealed") {
  Lived f;
  const KeyRing ring = KeyRing::salvage_from_token(f.provider, "", f.id);
  CHECK(ring.list().size() == 5);  // but the destroyed one
  CHECK(f.opened(ring) == 4);
  CHECK(f.opened(KeyRing::salvage_from_token(f.provider, "t", f.id)) == 4);
  CHECK_THROWS_AS(KeyRing::salvage_from_token(f.provider, "other", f.id), KeyNotFoundError);
  RingId other = f.id;
  other.bytes[15] ^= std::byte{1};
  CHECK_THROWS_AS(KeyRing::salvage_from_token(f.provider, "", other), KeyNotFoundError);
  CHECK_THROWS_AS(KeyRing::salvage_from_token(nullptr, "", f.id), InvalidArgumentError);
  f.token->fail(true);
  CHECK_THROWS_AS(KeyRing::salvage_from_token(f.provider, "", f.id), TokenError);
}

TEST_CASE("a salvaged ring of another id opens nothing") {
  Lived f;
  RingId other = f.id;
  other.bytes[15] ^= std::byte{1};
  const KeyRing same_prefix = KeyRing::open_for_salvage(f.store, f.provider, other);
  for (const auto& [version, envelope] : f.sealed) CHECK_THROWS_AS(open(same_prefix, envelope), OpenError);
  other.bytes[0] ^= std::byte{1};
  const KeyRing another = KeyRing::open_for_salvage(f.store, f.provider, other);
  for (const auto& [version, envelope] : f.sealed) CHECK_THROWS_AS(open(another, envelope), WrongRingError);
}

TEST_CASE("a salvaged ring opens, and seals and changes nothing") {
  Lived f;
  const auto records = f.store->records;
  const int wraps = f.token->wraps();
  for (KeyRing ring : {f.salvage(), KeyRing::salvage_from_token(f.provider, "", f.id)}) {
    const EnvelopeEncryptor vault{ring};
    const std::string& sealed = f.sealed.at(4);
    CHECK_NAMES(test::message_of<InvalidArgumentError>([&] { return seal(ring); }), "opened for salvage");
    CHECK_THROWS_AS((EnvelopeEncryptor{ring, {.suite = Suite::Token}}.seal({}, kNoContext)), InvalidArgumentError);
    CHECK_THROWS_AS(vault.rewrap_text(sealed), InvalidArgumentError);
    CHECK_THROWS_AS(vault.reseal_text(sealed, kNoContext), InvalidArgumentError);
    CHECK_THROWS_AS(vault.needs_rewrap_text(sealed), InvalidArgumentError);
    CHECK_THROWS_AS(ring.add({.token = "t"}), InvalidArgumentError);
    CHECK_THROWS_AS(ring.add({.token = "t"}, Activation::Later), InvalidArgumentError);
    CHECK_THROWS_AS(ring.activate(6), InvalidArgumentError);
    CHECK_THROWS_AS(ring.amend(1, {.description = "x"}), InvalidArgumentError);
    CHECK_THROWS_AS(ring.remove(1, none_left), InvalidArgumentError);
    CHECK_THROWS_AS(ring.remove_without_census(1), InvalidArgumentError);
    CHECK_THROWS_AS(ring.restore(2), InvalidArgumentError);
    CHECK_THROWS_AS(ring.purge(2, none_left), InvalidArgumentError);
    CHECK_THROWS_AS(ring.destroy_key(2, none_left, {2}), InvalidArgumentError);
    CHECK_THROWS_AS(ring.refresh(), InvalidArgumentError);
    CHECK_THROWS_AS(ring.export_to("/nowhere"), InvalidArgumentError);
    CHECK_THROWS_AS(ring.active(), InvalidArgumentError);
    CHECK_THROWS_AS(ring.pinned(), InvalidArgumentError);
    CHECK_FALSE(ring.find(17));
    CHECK(ring.find(1));
    CHECK(ring.id() == f.id);
    CHECK_NOTHROW(ring.generation());
    CHECK_NOTHROW(ring.settings());
    CHECK(ring.orphans().empty());
    CHECK(open(ring, sealed) == "secret 4");
  }
  f.salvage().verify(1);
  CHECK(f.store->records == records);
  CHECK(f.token->wraps() == wraps);
}

TEST_CASE("a version that a salvaged ring does not have is unknown when it is verified") {
  Lived f;
  KeyRing ring = f.salvage();
  CHECK_THROWS_AS(ring.verify(17), UnknownVersionError);
  CHECK_NOTHROW(ring.verify(1));
}

TEST_CASE("of two sets of one version the newest record's counts") {
  Lived f;
  const auto one = ring::from_text(f.good.body);
  auto other = one;
  other.sets[0].description = "another";
  const auto newest = ring::sets_in({ring::to_text(other), ring::to_text(one)});
  REQUIRE(newest.size() == 6);
  CHECK(newest[0].description == "another");
  CHECK(ring::sets_in({ring::to_text(one) + ring::to_text(other)})[0].description == "first");
  auto twice = newest;
  twice.insert(twice.end(), newest.rbegin(), newest.rend());
  CHECK(ring::salvaged_body(f.id, twice).sets == newest);
}

TEST_CASE("a set that names another key opens nothing of it") {
  Lived f;
  auto hostile = ring::from_text(f.good.body);
  const Bytes evil{std::byte{66}};
  f.token->replace_key(evil);
  const auto opens = [&] {
    f.store_text(ring::to_text(hostile));
    return open(f.salvage(), f.sealed.at(1));
  };
  hostile.sets[0].key.key_id = evil;
  CHECK_THROWS_AS(opens(), OpenError);
  hostile.sets[0].key = hostile.sets[3].key;
  CHECK_THROWS_AS(opens(), OpenError);
  hostile.sets[0].key.key_id = {std::byte{67}};
  CHECK_THROWS_AS(opens(), KeyNotFoundError);
  hostile.sets[0] = f.list[0];
  hostile.sets[0].key.kek_id.bytes[0] ^= std::byte{1};
  CHECK_THROWS_AS(opens(), OpenError);
  hostile.sets[0] = f.list[0];
  CHECK(opens() == "secret 1");
}
