#include "keywrap/host_tokens.hpp"

#include <functional>
#include <map>

namespace hsmseal::keywrap {
namespace {

using BoundTokens = std::map<std::string, TokenBinding, std::less<>>;

const BoundTokens& bound_tokens(const Host& host);

/// Host does not tell which tokens are bound. An explicit instantiation may name its private member (C++20
/// [temp.spec.general]/6), which keeps the public header as it is; a Host::tokens() would replace this file.
template <BoundTokens Host::*Member>
struct Bound {
  friend const BoundTokens& bound_tokens(const Host& host) { return host.*Member; }
};

template struct Bound<&Host::tokens_>;

}  // namespace

std::vector<std::string> token_aliases(const Host& host) {
  std::vector<std::string> aliases;
  for (const auto& [alias, binding] : bound_tokens(host)) aliases.push_back(alias);
  return aliases;
}

}  // namespace hsmseal::keywrap
