#pragma once

#include <memory>
#include <string>

#include <hsmseal/probe.hpp>

#include "keywrap/session_pool.hpp"
#include "keywrap/wrapping.hpp"

namespace hsmseal::keywrap {

/// How a trial of one profile went.
struct Trial {
  /// What it says of the token.
  enum class Finding {
    Works,
    OtherWay,  ///< it does not do it in this way; in another it may
    Unsafe,    ///< it does, and breaks a promise that everything rests on: it is not tried further
  };
  ProfileTrial shown;
  Finding finding = Finding::OtherWay;
};

/// Real operations tell what capability lists do not. Each has its post-conditions; after the first check that fails none
/// is made.
///
/// @param trial  with the profile, whose max_plaintext is lowered to what the token takes.
/// @throws TokenError  trouble that passes, which says nothing of the profile; `trial` has what was seen before.
void try_profile(Trial& trial, const std::shared_ptr<SessionPool>& pool, const FoundKeys& keys);

/// The check that failed, and how, for messages.
[[nodiscard]] std::string describe_failure(const ProfileTrial& trial);

}  // namespace hsmseal::keywrap
