#pragma once

#include <hsmseal/credential_set.hpp>
#include <hsmseal/error.hpp>

namespace hsmseal::keywrap {

/// The associated data of a key's proof: src/FORMAT.md section 6.3.
[[nodiscard]] Bytes proof_aad(const KekId& kek_id);

/// What is thrown when a key does not open the proof.
[[nodiscard]] WrongKeyError wrong_key(const KekId& kek_id);

}  // namespace hsmseal::keywrap
