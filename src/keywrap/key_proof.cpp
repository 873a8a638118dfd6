#include "keywrap/key_proof.hpp"

#include <fmt/format.h>

#include <hsmseal/key_wrapper.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal {

Bytes keywrap::proof_aad(const KekId& kek_id) { return core::Binding{core::kProofLabel}.append(kek_id).take(); }

WrongKeyError keywrap::wrong_key(const KekId& kek_id) {
  return WrongKeyError(fmt::format(
      "the key that answers is not key {}: its proof does not open; nothing was sealed; look for a key that was "
      "exchanged in the token",
      kek_id.to_string()));
}

KeyProof make_key_proof(KeyWrapper& wrapper, const KekId& kek_id) {
  const SecretBytes challenge = crypto::random_secret(crypto::kKeyBytes);
  return {wrapper.wrap(challenge.view(), keywrap::proof_aad(kek_id)), crypto::sha256(challenge.view())};
}

void check_key_proof(KeyWrapper& wrapper, const KekId& kek_id, const KeyProof& proof) {
  try {
    const SecretBytes challenge = wrapper.unwrap(proof.wrapped, keywrap::proof_aad(kek_id));
    if (crypto::equal(crypto::sha256(challenge.view()), proof.digest)) return;
  } catch (const OpenError&) {
    // Another key, or an altered proof: the same to whoever asked.
  }
  throw keywrap::wrong_key(kek_id);
}

}  // namespace hsmseal
