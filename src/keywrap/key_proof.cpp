#include <hsmseal/key_wrapper.hpp>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"

namespace hsmseal {
namespace {

Bytes proof_aad(const KekId& kek_id) { return core::Binding{core::kProofLabel}.append(kek_id).take(); }

}  // namespace

KeyProof make_key_proof(KeyWrapper& wrapper, const KekId& kek_id) {
  const SecretBytes challenge = crypto::random_secret(crypto::kKeyBytes);
  return {wrapper.wrap(challenge.view(), proof_aad(kek_id)), crypto::sha256(challenge.view())};
}

void check_key_proof(KeyWrapper& wrapper, const KekId& kek_id, const KeyProof& proof) {
  const auto wrong = [&] {
    return WrongKeyError(fmt::format("the key that answers is not key {}: its proof does not open; nothing was sealed",
                                     kek_id.to_string()));
  };
  try {
    const SecretBytes challenge = wrapper.unwrap(proof.wrapped, proof_aad(kek_id));
    if (!crypto::equal(crypto::sha256(challenge.view()), proof.digest)) throw wrong();
  } catch (const OpenError&) {
    throw wrong();
  }
}

}  // namespace hsmseal
