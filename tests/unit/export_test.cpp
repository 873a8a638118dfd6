// A ring as a file: what is exported is imported as it was, or not at all.
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>

#include "ring/export_file.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_hosts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;
using test::message_of;
using test::none_left;
using test::open;
using test::OpenStore;
using test::RingHosts;
using test::seal;

namespace {

/// A ring with sets of every state, its file, and another host that has only that.
struct Exported : RingHosts {
  Exported() {
    KeyRing ring = create();
    first = seal(ring);
    ring.add({.token = "t", .description = "second"});
    ring.add({.token = "t"});
    ring.add({.token = "t"}, Activation::Later);
    pass(60s);
    ring.remove(2, none_left);
    latest = seal(ring);
    list = ring.list();
    pinned = ring.pinned();
    text = ring::write_export(*store->record);
  }
  Exported(const Exported&) = delete;
  Exported& operator=(const Exported&) = delete;
  ~Exported() { std::filesystem::remove(file); }

  [[nodiscard]] KeyRing import(const std::string& content) const {
    std::ofstream{file, std::ios::binary | std::ios::trunc} << content;
    return KeyRing::import_from(file, elsewhere, provider, pin, options());
  }
  /// The code of the error that an import throws; nothing is stored.
  ErrorCode refused(const std::string& content) const {
    try {
      const KeyRing ring = import(content);
      FAIL("it was imported");
    } catch (const Error& error) {
      REQUIRE_FALSE(elsewhere->record);
      return error.code();
    }
    return {};
  }

  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("hsmseal-export-" + std::to_string(getpid()));
  std::shared_ptr<OpenStore> elsewhere = std::make_shared<OpenStore>();
  RingPin pin = RingPin::in_process();
  std::string first, latest, text;
  std::vector<CredentialSet> list;
  PinnedRing pinned;
};

}  // namespace

TEST_CASE("a ring that is exported and imported is the same ring") {
  Exported f;
  KeyRing ring = f.import(f.text);
  CHECK(ring.list() == f.list);
  CHECK(ring.pinned() == f.pinned);
  CHECK(f.elsewhere->record == f.store->record);
  CHECK(open(ring, f.first) == "x");
  CHECK(open(ring, f.latest) == "x");
  CHECK_NOTHROW(ring.restore(2));
  CHECK(ring.add({.token = "t"}) == 5);
  CHECK(ring.generation() == f.pinned.generation + 3);
  CHECK(f.text.find(f.latest) == std::string::npos);
}

TEST_CASE("what is read of an exported ring is what was written") {
  Exported f;
  CHECK(ring::read_export(f.text) == f.store->record);
  CHECK(ring::write_export(ring::read_export(f.text)) == f.text);
}

TEST_CASE("no byte of an exported ring can be changed") {
  Exported f;
  const std::size_t header = f.text.find('\n') + 1;
  std::map<ErrorCode, int> in_header, in_body;
  for (std::size_t i = 0; i < f.text.size(); ++i) {
    const std::vector<int> one_of_four{1 << (2 * (i % 4))};
    for (const int bit : i < header ? std::vector{1, 4, 16, 64, 128} : one_of_four) {
      std::string changed = f.text;
      changed[i] = static_cast<char>(changed[i] ^ bit);
      INFO("byte " << i << " bit " << bit);
      ++(i < header ? in_header : in_body)[f.refused(changed)];
    }
  }
  int all = 0;
  for (const auto* refused : {&in_header, &in_body}) {
    for (const auto& [code, times] : *refused) {
      UNSCOPED_INFO("code " << static_cast<int>(code) << ": " << times);
      all += times;
    }
  }
  CHECK(all == static_cast<int>(f.text.size() + 4 * header));
  CHECK(in_header.size() == 2);  // of its numbers, some are valid ones that are not the record's
  CHECK(in_header[ErrorCode::Format] > 250);
  CHECK(in_header[ErrorCode::RingTampered] > 60);
  CHECK(in_body[ErrorCode::RingTampered] > 3'000);
  CHECK(in_body[ErrorCode::Store] == 1);   // "format":1 is another number
  CHECK(in_body[ErrorCode::Format] == 2);  // its outer braces
  CHECK(in_body.size() == 3);
  CHECK_NOTHROW(f.import(f.text));
}

TEST_CASE("an exported ring that was cut or lengthened is refused") {
  Exported f;
  std::map<ErrorCode, std::size_t> cut;
  for (std::size_t size = 0; size < f.text.size(); ++size) ++cut[f.refused(f.text.substr(0, size))];
  CHECK(cut.size() == 2);
  const auto braces = static_cast<std::size_t>(std::ranges::count(f.text, '}'));
  CHECK(cut[ErrorCode::RingTampered] == braces - 1);  // what is left of it looks like a body
  CHECK(cut[ErrorCode::Format] == f.text.size() - braces + 1);
  for (const std::string& more :
       {std::string{"\n"}, std::string{" "}, std::string{"}"}, std::string(1, '\0'), f.text}) {
    CHECK(f.refused(f.text + more) == (more.ends_with('}') ? ErrorCode::RingTampered : ErrorCode::Format));
    if (more != f.text) CHECK(f.refused(more + f.text) == ErrorCode::Format);
  }
}

TEST_CASE("a file with another header is no exported ring") {
  Exported f;
  const std::string body = f.text.substr(f.text.find('\n'));
  const std::string mac = f.text.substr(f.text.find('\n') - 64, 64);
  const std::string number = std::to_string(f.pinned.generation);
  std::string upper = mac;
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const std::vector<std::string> headers{
      "",
      "hsmseal-ring 1",
      "hsmseal-ring 1 ",
      "hsmseal-ring 2 " + number + " " + mac,
      "hsmseal-ring 1 " + mac,
      "hsmseal-ring 1  " + mac,
      "hsmseal-ring 1 0" + number + " " + mac,
      "hsmseal-ring 1 +" + number + " " + mac,
      "hsmseal-ring 1 -" + number + " " + mac,
      "hsmseal-ring 1 " + number + "  " + mac,
      "hsmseal-ring 1 " + number + "\t" + mac,
      "hsmseal-ring 1 " + number + " " + mac + " ",
      "hsmseal-ring 1 " + number + " " + mac + "\r",
      "hsmseal-ring 1 " + number + " " + mac.substr(2),
      "hsmseal-ring 1 " + number + " 00" + mac,
      "hsmseal-ring 1 " + number + " " + upper,
      "hsmseal-ring 1 99999999999999999999 " + mac,
      " hsmseal-ring 1 " + number + " " + mac,
      "\xef\xbb\xbfhsmseal-ring 1 " + number + " " + mac,
      "HSMSEAL-RING 1 " + number + " " + mac,
  };
  for (const std::string& header : headers) {
    INFO("header '" << header << "'");
    CHECK(f.refused(header + body) == ErrorCode::Format);
  }
  CHECK(f.refused(body.substr(1)) == ErrorCode::Format);
  const std::map<std::string, ErrorCode> others{{"0", ErrorCode::Format},
                                                {"18446744073709551615", ErrorCode::Format},
                                                {"1", ErrorCode::RingTampered},
                                                {"9223372036854775807", ErrorCode::RingTampered}};
  for (const auto& [other, refused] : others) {
    CHECK(f.refused("hsmseal-ring 1 " + other + " " + mac + body) == refused);
  }
  CHECK_NOTHROW(f.import("hsmseal-ring 1 " + number + " " + mac + body));
}

TEST_CASE("a ring is not imported into a store that is not empty") {
  Exported f;
  SECTION("the same ring") { f.elsewhere->record = f.store->record; }
  SECTION("another one") { f.elsewhere->record = RingRecord{17, "x", {}}; }
  const auto before = f.elsewhere->record;
  const int unwraps = f.token->unwraps();
  CHECK_THROWS_AS(f.import(f.text), StoreConflictError);
  CHECK(f.elsewhere->record == before);
  CHECK(f.token->unwraps() == unwraps);
}

TEST_CASE("a ring is not imported where another is made at the same moment") {
  Exported f;
  const RingRecord other{17, "x", {}};
  f.elsewhere->on_swap = [&] { f.elsewhere->record = other; };
  CHECK_THROWS_AS(f.import(f.text), StoreConflictError);
  CHECK(f.elsewhere->record == other);
}

TEST_CASE("a ring is not imported if no set's key answers, or its store does not work") {
  Exported f;
  f.token->fail(true);
  CHECK(f.refused(f.text) == ErrorCode::Token);
  f.token->fail(false);
  f.provider->missing = {"t"};
  CHECK(f.refused(f.text) == ErrorCode::KeyNotFound);
  f.provider->missing = {};
  f.elsewhere->on_load = [] { throw StoreError("down"); };
  CHECK(f.refused(f.text) == ErrorCode::Store);
  f.elsewhere->on_load = nullptr;
  f.elsewhere->on_swap = [] { throw StoreInDoubtError("broken"); };
  CHECK(f.refused(f.text) == ErrorCode::StoreInDoubt);
  f.elsewhere->on_swap = nullptr;
  CHECK_NOTHROW(f.import(f.text));
}

TEST_CASE("an export older than what the pin remembers is refused, and so is another ring's") {
  Exported f;
  const auto old = ring::write_export(f.store->records.front());
  KeyRing::open(f.store, f.provider, f.pin).refresh();
  CHECK(f.refused(old) == ErrorCode::RingRolledBack);
  RingHosts other;
  other.token = f.token;
  other.provider = f.provider;
  other.create();
  CHECK(f.refused(ring::write_export(*other.store->record)) == ErrorCode::WrongRing);
  CHECK_NOTHROW(f.import(f.text));
}

TEST_CASE("a file that is not there cannot be imported") {
  Exported f;
  const std::filesystem::path folder = std::filesystem::temp_directory_path();
  const std::map<std::filesystem::path, std::string> reasons{
      {"/nowhere/ring", "No such file"}, {folder, "Is a directory"}, {f.file, "No such file"}};
  REQUIRE(reasons.size() == 3);
  for (const auto& [file, reason] : reasons) {
    const std::string message = message_of<InvalidArgumentError>(
        [&, &path = file] { return KeyRing::import_from(path, f.elsewhere, f.provider, f.pin); });
    CHECK_NAMES(message, "cannot read the exported ring '" + file.string() + "': " + reason);
  }
  CHECK_FALSE(f.elsewhere->record);
}

TEST_CASE("a removed set's tombstone is imported, and a purged one's number stays used") {
  Exported f;
  KeyRing here = f.join();
  f.pass(std::chrono::hours{24 * 7});
  here.remove(4, none_left);
  f.pass(std::chrono::hours{24 * 7});
  here.purge(4, none_left);
  f.elsewhere->clock = f.store->clock;
  KeyRing there = f.import(ring::write_export(*f.store->record));
  CHECK(there.find(2)->state == SetState::Deleted);
  CHECK_FALSE(there.find(4));
  CHECK(there.add({.token = "t"}) == 5);
}
