// Moves a vault from one HSM to another without downtime: set 1 on the first token, set 2 on the second, and then set 1
// goes. The ring lies in a SQLite file, ring.db here or what the argument names.
//
// Needs tokens labelled hsm1 and hsm2 and their PINs in hsm1.pin and hsm2.pin; `sh examples/with_tokens.sh PROGRAM`
// makes them.

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/sql_ring_store.hpp>

namespace {

using hsmseal::Context;
using namespace std::chrono_literals;

hsmseal::TokenBinding token(const std::string& label) {
  return {.driver = "softhsm2", .select = {.label = label}, .pin = hsmseal::PinSource::file(label + ".pin")};
}

Context record(std::string_view id) { return Context{}.add("table", "passwords").add("record", id); }

void show_sets(const hsmseal::KeyRing& ring) {
  for (const auto& set : ring.list()) {
    fmt::print("    set {}  {:8}  token '{}' (serial {})  key {}\n", set.version, to_string(set.state), set.key.token,
               set.key.token_serial, set.key.kek_id.to_string());
  }
}

void show_envelope(std::string_view name, const std::string& sealed) {
  const auto header = hsmseal::inspect_text(sealed);
  fmt::print("    {}: set {}, {} characters, {}...\n", name, header.version, sealed.size(), sealed.substr(0, 44));
}

/// Rewrapping changes the header alone: everything behind it stays as it was.
bool same_payload(const std::string& before, const std::string& after) {
  constexpr std::size_t kTail = 60;  // characters of commitment, nonce and ciphertext at the end
  return before.size() == after.size() && before.substr(before.size() - kTail) == after.substr(after.size() - kTail);
}

/// A demonstration must not fail quietly.
void expect(bool good, std::string_view what) {
  fmt::print("    {}: {}\n", what, good ? "yes" : "NO");
  if (!good) throw std::logic_error("the demonstration went wrong");
}

/// The message of the error that `work` must end with.
template <typename Expected, typename Work>
void expect_refusal(const Work& work) {
  try {
    work();
  } catch (const Expected& error) {
    fmt::print("    refused: {}\n", error.what());
    return;
  }
  throw std::logic_error("it was not refused");
}

}  // namespace

int main(int count, char** arguments) try {
  hsmseal::Host host;
  host.token("hsm1", token("hsm1")).token("hsm2", token("hsm2"));
  const std::string file = count > 1 ? arguments[1] : "ring.db";
  const auto store = hsmseal::sql_ring_store("sqlite:" + file);
  // By default a set may be removed a minute after it was archived; a demonstration does not wait that long.
  const hsmseal::RingSettings settings{.max_staleness = 100ms, .removal_grace = 200ms};

  fmt::print("1. A ring with one credential set, on the first HSM. It is kept in {}.\n",
             std::filesystem::absolute(file).string());
  auto ring = hsmseal::KeyRing::create(store, hsmseal::pkcs11_provider(host),
                                       {.token = "hsm1", .description = "the HSM we had"},
                                       hsmseal::RingPin::trust_first_use("ring.pin"), {}, settings);
  show_sets(ring);

  fmt::print("2. A password is sealed under it.\n");
  const hsmseal::EnvelopeEncryptor vault{ring};
  const std::string old_one = vault.seal_text("correct horse", record("1"));
  show_envelope("record 1", old_one);

  fmt::print("3. A second set, on the second HSM, takes over. The first is archived.\n");
  ring.add({.token = "hsm2", .description = "the HSM we bought"});
  show_sets(ring);

  fmt::print("4. New passwords are sealed under set 2; the old one still opens.\n");
  const std::string new_one = vault.seal_text("battery staple", record("2"));
  show_envelope("record 2", new_one);
  expect(vault.open_text(old_one, record("1")).text() == "correct horse" &&
             vault.open_text(new_one, record("2")).text() == "battery staple",
         "both open");

  fmt::print("5. The old one is rewrapped to set 2. The password is not decrypted for it.\n");
  expect(vault.needs_rewrap_text(old_one), "needs rewrapping");
  const std::string moved = vault.rewrap_text(old_one);
  show_envelope("record 1", moved);
  expect(vault.open_text(moved, record("1")).text() == "correct horse" && same_payload(old_one, moved),
         "opens, payload unchanged");

  fmt::print("6. An envelope copied to another record does not open there.\n");
  expect_refusal<hsmseal::OpenError>([&] { static_cast<void>(vault.open_text(moved, record("2"))); });

  fmt::print("7. A census over the database decides whether set 1 may go.\n");
  std::vector<std::string> database{old_one, new_one};
  const hsmseal::Census census = [&](hsmseal::Version version) {
    const auto left = std::ranges::count(
        database, version, [](const std::string& sealed) { return hsmseal::inspect_text(sealed).version; });
    fmt::print("    envelopes of set {}: {}\n", version, left);
    return static_cast<std::uint64_t>(left);
  };
  std::this_thread::sleep_for(settings.removal_grace);
  expect_refusal<hsmseal::SetInUseError>([&] { ring.remove(1, census); });
  database.front() = moved;
  ring.remove(1, census);
  show_sets(ring);

  fmt::print("8. A backup still has an envelope of set 1. It says so, and the set can be brought back.\n");
  expect_refusal<hsmseal::DeletedVersionError>([&] { static_cast<void>(vault.open_text(old_one, record("1"))); });
  ring.restore(1);
  show_sets(ring);
  expect(vault.open_text(old_one, record("1")).text() == "correct horse", "opens again");
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "rotate_credentials: {}\n", error.what());
  return 1;
}
