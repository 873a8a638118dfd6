#pragma once

#include <string>
#include <vector>

#include "ring/body.hpp"

/// What can still be read of a ring that is damaged. Nothing of it is verified: the tokens decide what opens.
namespace hsmseal::ring {

/// The sets that stand whole in texts that need not be whole themselves. Where several name one version, the first
/// counts.
[[nodiscard]] std::vector<CredentialSet> sets_in(const std::vector<std::string>& texts);

/// Sets that open what keys made by hsmseal have wrapped: with CBC and HMAC where both keys are there. A MAC key alone
/// opens nothing.
[[nodiscard]] std::vector<CredentialSet> sets_of(const std::vector<FoundKey>& keys);

/// A ring of such sets, sorted by version.
[[nodiscard]] Body salvaged_body(const RingId& ring, std::vector<CredentialSet> sets);

}  // namespace hsmseal::ring
