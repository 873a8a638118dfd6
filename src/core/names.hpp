#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/gcm_form.hpp>

namespace hsmseal::core {

/// The words that src/FORMAT.md has for the values of an enumeration.
template <typename Value, std::size_t N>
using Names = std::array<std::pair<Value, std::string_view>, N>;

inline constexpr Names<SetState, 4> kSetStates{{
    {SetState::Staged, "staged"},
    {SetState::Active, "active"},
    {SetState::Archived, "archived"},
    {SetState::Deleted, "deleted"},
}};

inline constexpr Names<IvRule, 4> kIvRules{{
    {IvRule::Caller, "caller"},
    {IvRule::TokenWrites, "token-writes"},
    {IvRule::TokenAppends, "token-appends"},
    {IvRule::TokenPrepends, "token-prepends"},
}};

inline constexpr Names<GcmParameters, 2> kGcmParameters{{
    {GcmParameters::WithIvBits, "with-iv-bits"},
    {GcmParameters::WithoutIvBits, "without-iv-bits"},
}};

}  // namespace hsmseal::core
