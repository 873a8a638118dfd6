#include <hsmseal/data_key_policy.hpp>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

namespace hsmseal {
namespace {

constexpr std::uint64_t kMostSecrets = std::uint64_t{1} << 32;
constexpr std::chrono::seconds kLongest = std::chrono::hours{24};

}  // namespace

DataKeyPolicy DataKeyPolicy::reuse(std::uint64_t max_secrets, std::chrono::seconds max_age) {
  if (max_secrets < 1 || max_secrets > kMostSecrets) {
    throw InvalidArgumentError(fmt::format("a data key seals 1 to 2^32 secrets, not {}", max_secrets));
  }
  if (max_age < std::chrono::seconds{1} || max_age > kLongest) {
    throw InvalidArgumentError(fmt::format("a data key is used for 1 second to 24 hours, not {} s", max_age.count()));
  }
  return DataKeyPolicy{max_secrets, max_age};
}

}  // namespace hsmseal
