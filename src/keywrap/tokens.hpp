#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "keywrap/token_connection.hpp"
#include "pkcs11/driver.hpp"
#include "platform/per_process.hpp"

namespace hsmseal::keywrap {

/// The tokens of a host, connected when they are first used, and anew in a forked child if it may.
///
/// Thread safety: all members may run concurrently.
class Tokens {
 public:
  Tokens(Host host, Pkcs11Options options)
      : host_(std::move(host)), options_(std::move(options)), opened_(std::make_unique<Opened>()) {}

  /// @throws InvalidArgumentError  no such token is bound on this host.
  /// @throws TokenError            this process was forked, and ForkPolicy::Refuse.
  [[nodiscard]] std::shared_ptr<TokenConnection> find(const std::string& alias) {
    check_process(alias);
    const TokenBinding& binding = host_.binding(alias);
    Opened& opened = opened_.get([](const Opened&) { return std::make_unique<Opened>(); });
    const std::scoped_lock lock{opened.mutex};
    auto& connection = opened.connections[alias];
    if (!connection) {
      connection = std::make_shared<TokenConnection>(alias, binding, host_.driver_for(binding), options_);
    }
    return connection;
  }

  /// All of them, sorted by their aliases.
  /// @throws InvalidArgumentError  there is none.
  [[nodiscard]] std::vector<std::shared_ptr<TokenConnection>> all() {
    std::vector<std::shared_ptr<TokenConnection>> tokens;
    for (const std::string& alias : host_.token_aliases()) tokens.push_back(find(alias));
    if (tokens.empty()) throw InvalidArgumentError("no token is bound on this host; add one with Host::token()");
    return tokens;
  }

  /// @throws TokenError  this process was forked, and ForkPolicy::Refuse.
  void check_process(const std::string& alias) const {
    if (options_.after_fork == ForkPolicy::Refuse && opened_.inherited()) pkcs11::throw_forked(alias);
  }

 private:
  struct Opened {
    std::mutex mutex;
    std::map<std::string, std::shared_ptr<TokenConnection>> connections;
  };

  const Host host_;
  const Pkcs11Options options_;
  platform::PerProcess<Opened> opened_;
};

}  // namespace hsmseal::keywrap
