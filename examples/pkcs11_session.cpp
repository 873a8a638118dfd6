// The PKCS#11 wrapper on its own, without a ring: what a token is and can do, and a key used in it.
//
//   pkcs11_session PKCS11-URI PIN-FILE [DRIVER]
//
// such as `pkcs11_session 'pkcs11:token=hsm1' hsm1.pin softhsm2`. The key is a session object and leaves no trace.

#include <algorithm>
#include <exception>
#include <string>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_session.hpp>

int main(int argc, char** argv) try {
  if (argc != 3 && argc != 4) {
    fmt::print(stderr, "usage: pkcs11_session PKCS11-URI PIN-FILE [DRIVER]\n");
    return 2;
  }
  hsmseal::TokenBinding binding;
  binding.driver = argc == 4 ? argv[3] : "softhsm2";
  binding.select = hsmseal::TokenSelector::from_uri(argv[1]);
  binding.pin = hsmseal::PinSource::file(argv[2]);

  const auto module = hsmseal::Pkcs11Module::load(hsmseal::Host{}.driver_for(binding));
  const auto info = module->info();
  fmt::print("driver: {} {}.{}, Cryptoki {}.{}\n", info.description, info.library_major, info.library_minor,
             info.cryptoki_major, info.cryptoki_minor);
  for (const auto& token : module->tokens()) {
    fmt::print("token: '{}', model {}, serial {}\n", token.label, token.model, token.serial);
  }

  const auto mechanisms = module->mechanisms(binding.select);
  const auto listed = [&](const std::string& name) {
    return std::ranges::find(mechanisms, name, &hsmseal::MechanismInfo::name) != mechanisms.end();
  };
  fmt::print("mechanisms: {}, CKM_AES_GCM {}\n", mechanisms.size(), listed("CKM_AES_GCM") ? "listed" : "NOT LISTED");

  hsmseal::Pkcs11Session session{module, binding.select};
  session.login(binding.pin);

  const hsmseal::SecretBytes id = session.random(16);
  const auto key = session.generate_aes_key({.id = hsmseal::Bytes(id.view().begin(), id.view().end()),
                                             .label = "example",
                                             .lifetime = hsmseal::KeyLifetime::Session});
  const hsmseal::SecretBytes iv = session.random(12);
  const hsmseal::AesGcm gcm{.iv = iv.view(), .aad = hsmseal::bytes_of("an example")};

  const hsmseal::Bytes ciphertext = session.encrypt(key, gcm, hsmseal::bytes_of("hello, token"));
  const hsmseal::SecretBytes plaintext = session.decrypt(key, gcm, ciphertext);
  fmt::print("AES-256-GCM in the token: {} bytes to {} and back: {}\n", plaintext.size(), ciphertext.size(),
             plaintext.text());
  return 0;
} catch (const hsmseal::TokenError& error) {
  fmt::print(stderr, "pkcs11_session: {} ({} may be tried again: {})\n", error.what(), error.function(),
             error.retryable() ? "yes" : "no");
  return 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "pkcs11_session: {}\n", error.what());
  return 1;
}
