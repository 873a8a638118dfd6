#include "core/names.hpp"

#include <algorithm>

namespace hsmseal {
namespace {

template <typename Value, std::size_t N>
std::string_view name_of(Value value, const core::Names<Value, N>& names) noexcept {
  const auto found = std::ranges::find(names, value, &core::Names<Value, N>::value_type::first);
  return found == names.end() ? "unknown" : found->second;  // which no reader of a ring takes
}

}  // namespace

std::string_view to_string(SetState state) noexcept { return name_of(state, core::kSetStates); }
std::string_view to_string(IvRule rule) noexcept { return name_of(rule, core::kIvRules); }
std::string_view to_string(GcmParameters parameters) noexcept { return name_of(parameters, core::kGcmParameters); }

}  // namespace hsmseal
