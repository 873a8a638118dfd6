#include <csignal>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <sys/resource.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "store/places.hpp"
#include "support/software_provider.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using namespace std::chrono_literals;

namespace {

/// A ring in a database, with the keys in memory and hosts that have a pin and a clock of their own.
struct Rings {
  explicit Rings(const std::string& kind) : place(kind) {}

  Place place;
  ScratchDirectory pins;
  std::shared_ptr<SoftwareProvider> provider = std::make_shared<SoftwareProvider>();
  std::shared_ptr<std::chrono::steady_clock::time_point> clock =
      std::make_shared<std::chrono::steady_clock::time_point>();

  [[nodiscard]] RingOptions options() const {
    return {.clock = [clock = clock] { return *clock; }};
  }
  [[nodiscard]] RingPin pin(const std::string& host) const { return RingPin::trust_first_use(pins.path() / host); }
  [[nodiscard]] KeyRing create(const RingSettings& settings = {}) {
    return KeyRing::create(place.store(), provider, {.token = "t"}, pin("first"), options(), settings);
  }
  [[nodiscard]] KeyRing open(const std::string& host) {
    return KeyRing::open(place.store({.timeout = 300ms}), provider, pin(host), options());
  }
  /// Everything that a host knows is old now.
  void time_passes() const { *clock += 1h; }
};

/// What a seal comes to: the version, or the error's code below zero.
int outcome_of_seal(const KeyRing& ring) {
  try {
    return static_cast<int>(inspect(EnvelopeEncryptor{ring}.seal(bytes_of("new"), kNoContext)).version);
  } catch (const Error& error) {
    return -static_cast<int>(error.code());
  }
}

int outcome_of_open(Rings& rings, const std::string& host) {
  try {
    return static_cast<int>(rings.open(host).active().version);
  } catch (const Error& error) {
    return -static_cast<int>(error.code());
  }
}

constexpr int code(ErrorCode error) { return -static_cast<int>(error); }

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>{file}, {}};
}

void write_file(const std::filesystem::path& path, const std::string& content) {
  std::ofstream{path, std::ios::binary | std::ios::trunc} << content;
}

}  // namespace

TEST_CASE("a ring lives in a database, and hosts that share it follow each other") {
  const auto kind = GENERATE(from_range(kStores));
  CAPTURE(kind);
  Rings rings{kind};
  KeyRing here = rings.create({.removal_grace = 5001ms});
  const std::string old_one = EnvelopeEncryptor{here}.seal_text("hunter2", kNoContext);
  KeyRing there = rings.open("second");
  CHECK(here.add({.token = "t"}) == 2);
  rings.time_passes();
  CHECK(outcome_of_seal(there) == 2);
  CHECK(there.list() == here.list());
  CHECK(EnvelopeEncryptor{there}.open_text(old_one, kNoContext).text() == "hunter2");
  there.amend(2, {.description = "the new one: \"\\ ☃"});
  here.refresh();
  CHECK(here.list() == there.list());
  CHECK(here.pinned() == there.pinned());
  // A host that starts later has the same ring, and so has one that was there before.
  CHECK(rings.open("second").list() == here.list());
  CHECK(rings.open("third").list() == here.list());
  CHECK(here.orphans().empty());
}

TEST_CASE("a database server that is killed and started again stops sealing in between, and nothing else") {
  PostgresServer server;
  const std::string url = "postgresql:" + server.conninfo(server.new_database());
  Rings rings{"memory"};
  KeyRing ring = KeyRing::create(sql_ring_store(url, {.timeout = 300ms}), rings.provider, {.token = "t"},
                                 RingPin::in_process(), rings.options());
  const EnvelopeEncryptor vault{ring};
  const std::string sealed = vault.seal_text("hunter2", kNoContext);
  server.kill();
  CHECK(outcome_of_seal(ring) == 1);  // what it knows is not old yet
  rings.time_passes();
  CHECK(outcome_of_seal(ring) == code(ErrorCode::RingStale));
  CHECK(vault.open_text(sealed, kNoContext).text() == "hunter2");
  CHECK_THROWS_AS(ring.add({.token = "t"}), StoreError);
  server.start();
  *rings.clock += 1s;
  CHECK(outcome_of_seal(ring) == 1);
  server.restart();
  CHECK(ring.add({.token = "t"}) == 2);
  CHECK(outcome_of_seal(ring) == 2);
  CHECK(ring.orphans().empty());
}

TEST_CASE("records that are put into the database by hand are refused, whatever they are") {
  const auto kind = GENERATE(from_range(kDatabases));
  CAPTURE(kind);
  Rings rings{kind};
  KeyRing ring = rings.create();
  static_cast<void>(rings.open("second"));
  ring.add({.token = "t"});
  CHECK(outcome_of_open(rings, "second") == 2);
  const auto put = [&](const std::string& generation, const std::string& from_generation) {
    const std::string from = " from hsmseal_history where ring = 'default' and generation = " + from_generation;
    rings.place.run("update hsmseal_ring set generation = " + generation + ", body = (select body" + from +
                    "), mac = (select mac" + from + ") where ring = 'default'");
  };
  struct Attack {
    std::string generation, from_generation;
    ErrorCode refused;
  };
  const std::vector<Attack> attacks{
      {"1", "1", ErrorCode::RingRolledBack},  // an older record
      {"2", "2", ErrorCode::RingRolledBack},
      {"4", "2", ErrorCode::RingTampered},  // an older record under a newer number
      {"3", "1", ErrorCode::RingTampered},
  };
  for (const Attack& attack : attacks) {
    INFO(attack.from_generation << " as " << attack.generation);
    put(attack.generation, attack.from_generation);
    CHECK(outcome_of_open(rings, "second") == code(attack.refused));
    rings.time_passes();
    CHECK(outcome_of_seal(ring) == code(attack.refused));
    CHECK_THROWS_AS(ring.refresh(), Error);
  }
  put("3", "3");
  ring.refresh();
  rings.time_passes();
  CHECK(outcome_of_seal(ring) == 2);

  // Another ring, of keys that this host's token has too.
  const auto other = rings.place.store({.ring = "other"});
  static_cast<void>(KeyRing::create(other, rings.provider, {.token = "t"}, RingPin::in_process()));
  rings.place.run(
      "update hsmseal_ring set generation = 4, body = (select body from hsmseal_history where ring = 'other'), "
      "mac = (select mac from hsmseal_history where ring = 'other') where ring = 'default'");
  CHECK(outcome_of_open(rings, "second") == code(ErrorCode::RingTampered));  // its number is not the row's
  rings.place.run("update hsmseal_ring set generation = 1 where ring = 'default'");
  CHECK(outcome_of_open(rings, "second") == code(ErrorCode::WrongRing));
  rings.time_passes();
  CHECK(outcome_of_seal(ring) == code(ErrorCode::WrongRing));
}

TEST_CASE("another history of the same generation is a fork for all who have seen the first") {
  Rings rings{"sqlite"};
  KeyRing ring = rings.create();
  const std::string before = read_file(rings.place.file());
  ring.amend(1, {.description = "one history"});
  std::filesystem::remove(rings.place.file());  // a copy is put in place, not written into a file that is in use
  write_file(rings.place.file(), before);
  {
    const KeyRing other = rings.open("other");  // has seen nothing yet
    KeyRing{other}.amend(1, {.description = "another history"});
  }
  CHECK(outcome_of_open(rings, "first") == code(ErrorCode::RingForked));
  CHECK_THROWS_AS(ring.refresh(), RingForkedError);
  // The operator knows that a copy was restored, and says so on the host that has seen more.
  KeyRing accepted = KeyRing::open(rings.place.store(), rings.provider,
                                   RingPin::accept_rollback(rings.pins.path() / "first"), rings.options());
  CHECK(accepted.find(1)->description == "another history");
  CHECK(accepted.add({.token = "t"}) > 2);  // 2 may have been used in the lost history
  CHECK(outcome_of_open(rings, "first") == static_cast<int>(accepted.active().version));
}

TEST_CASE(
    "a file that is damaged, gone or not writable stops no opening and lets nothing be sealed under a wrong key") {
  const std::vector<std::string> damages{"cut to nothing", "cut to a page", "cut in the middle", "garbage",
                                         "zeros inside",   "gone",          "another database",  "a folder"};
  for (const std::string& damage : damages) {
    INFO(damage);
    Rings rings{"sqlite"};
    KeyRing ring = rings.create();
    ring.add({.token = "t"});
    const EnvelopeEncryptor vault{ring};
    const std::string sealed = vault.seal_text("hunter2", kNoContext);
    const auto file = rings.place.file();
    const std::string good = read_file(file);
    std::string bad = good;
    std::filesystem::remove(file);
    if (damage == "cut to nothing") bad.clear();
    if (damage == "cut to a page") bad.resize(4096);
    if (damage == "cut in the middle") bad.resize(good.size() / 2);
    if (damage == "garbage") std::ranges::fill(bad, 'x');
    if (damage == "zeros inside") std::fill(bad.begin() + 4096, bad.end(), '\0');
    if (damage == "a folder") {
      std::filesystem::create_directory(file);
    } else if (damage == "another database") {
      static_cast<void>(sql_ring_store("sqlite:" + file.string())->head());
    } else if (damage != "gone") {
      write_file(file, bad);
    }
    CHECK(outcome_of_open(rings, "first") == code(ErrorCode::Store));
    CHECK(vault.open_text(sealed, kNoContext).text() == "hunter2");
    rings.time_passes();
    CHECK(outcome_of_seal(ring) == code(ErrorCode::RingStale));
    CHECK(vault.open_text(sealed, kNoContext).text() == "hunter2");
    CHECK_THROWS_AS(ring.add({.token = "t"}), StoreError);
    // Whole again, it is the ring that it was.
    std::filesystem::remove_all(file);
    write_file(file, good);
    *rings.clock += 1s;
    CHECK(outcome_of_seal(ring) == 2);
    CHECK(rings.open("first").list() == ring.list());
  }
}

TEST_CASE("a full disk stops a change of the ring, and the ring stays as it was") {
  Rings rings{"sqlite"};
  KeyRing ring = rings.create();
  const auto before = ring.list();
  rlimit old_limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = old_limit;
  small.rlim_cur = std::filesystem::file_size(rings.place.file());
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  bool failed = false;
  try {
    for (int i = 0; i < 10; ++i) ring.amend(1, {.description = std::string(1000, static_cast<char>('a' + i))});
  } catch (const StoreError&) {
    failed = true;
  }
  REQUIRE(setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  CHECK(failed);
  CHECK(outcome_of_seal(ring) == 1);
  KeyRing again = rings.open("first");
  CHECK(again.list().size() == before.size());
  CHECK(again.add({.token = "t"}) == 2);
}
