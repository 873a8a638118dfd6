// The whole of hsmseal in a page: bind a token, make a ring, seal and open a secret.
//
// Needs a token labelled hsm1 and its PIN in the file hsm1.pin; `sh examples/with_tokens.sh PROGRAM` makes both.

#include <cstdio>
#include <exception>
#include <string>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/sql_ring_store.hpp>

int main() try {
  // snippet-begin
  hsmseal::Host host;
  host.token("hsm1", {.driver = "softhsm2", .select = {.label = "hsm1"}, .pin = hsmseal::PinSource::file("hsm1.pin")});

  auto ring = hsmseal::KeyRing::create(hsmseal::sql_ring_store("sqlite:ring.db"), hsmseal::pkcs11_provider(host),
                                       {.token = "hsm1", .description = "first set"},
                                       hsmseal::RingPin::trust_first_use("ring.pin"));
  hsmseal::EnvelopeEncryptor vault{ring};

  std::string sealed = vault.seal_text("hunter2", hsmseal::Context{}.add("record", "42"));
  hsmseal::SecretBytes opened = vault.open_text(sealed, hsmseal::Context{}.add("record", "42"));
  // snippet-end

  std::printf("sealed: %s\n", sealed.c_str());
  std::printf("opened: %zu bytes, %s\n", opened.size(), opened.text() == "hunter2" ? "the same" : "NOT THE SAME");
  return opened.text() == "hunter2" ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "quickstart: %s\n", error.what());
  return 1;
}
