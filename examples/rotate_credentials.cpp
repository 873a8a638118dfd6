// Moves a vault from one HSM to another without downtime: set 1 on the first token, set 2 on the second.
//
// Needs tokens labelled hsm1 and hsm2 and their PINs in hsm1.pin and hsm2.pin; `sh examples/with_tokens.sh PROGRAM`
// makes them.

#include <exception>
#include <iterator>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

namespace {

using hsmseal::Context;

hsmseal::TokenBinding token(const std::string& label) {
  return {.driver = "softhsm2", .select = {.label = label}, .pin = hsmseal::PinSource::file(label + ".pin")};
}

Context record(std::string_view id) { return Context{}.add("table", "passwords").add("record", id); }

void show_sets(const hsmseal::KeyRing& ring) {
  for (const auto& set : ring.list()) {
    fmt::print("    set {}  {:8}  token '{}' (serial {})  key {}\n", set.version,
               set.state == hsmseal::SetState::Active ? "active" : "archived", set.key.token, set.key.token_serial,
               set.key.kek_id.to_string());
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

}  // namespace

int main() try {
  hsmseal::Host host;
  host.token("hsm1", token("hsm1")).token("hsm2", token("hsm2"));

  fmt::print("1. A ring with one credential set, on the first HSM.\n");
  auto ring =
      hsmseal::KeyRing::create(hsmseal::memory_ring_store(), hsmseal::pkcs11_provider(host),
                               {.token = "hsm1", .description = "the HSM we had"}, hsmseal::RingPin::in_process());
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
  const bool both_open = vault.open_text(old_one, record("1")).text() == "correct horse" &&
                         vault.open_text(new_one, record("2")).text() == "battery staple";
  fmt::print("    both open: {}\n", both_open ? "yes" : "NO");

  fmt::print("5. The old one is rewrapped to set 2. The password is not decrypted for it.\n");
  fmt::print("    needs rewrapping: {}\n", vault.needs_rewrap_text(old_one) ? "yes" : "no");
  const std::string moved = vault.rewrap_text(old_one);
  show_envelope("record 1", moved);
  const bool moved_well = vault.open_text(moved, record("1")).text() == "correct horse" &&
                          same_payload(old_one, moved) && !vault.needs_rewrap_text(moved);
  fmt::print("    opens, payload unchanged: {}\n", moved_well ? "yes" : "NO");

  fmt::print("6. An envelope copied to another record does not open there.\n");
  bool refused = false;
  try {
    const auto stolen = vault.open_text(moved, record("2"));
  } catch (const hsmseal::OpenError& error) {
    refused = true;
    fmt::print("    refused: {}\n", error.what());
  }
  return both_open && moved_well && refused ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "rotate_credentials: {}\n", error.what());
  return 1;
}
