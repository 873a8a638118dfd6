#include <hsmseal/pkcs11_key_wrapper.hpp>

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "keywrap/key_maker.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "keywrap/token_connection.hpp"

namespace hsmseal {
namespace {

using keywrap::Pkcs11Key;
using keywrap::TokenConnection;

/// The tokens of a host, connected when they are first used.
class Tokens {
 public:
  explicit Tokens(Host host) : host_(std::move(host)) {}

  [[nodiscard]] std::shared_ptr<TokenConnection> find(const std::string& alias) {
    const std::scoped_lock lock{mutex_};
    auto& connection = connections_[alias];
    if (!connection) {
      const TokenBinding& binding = host_.binding(alias);
      connection = std::make_shared<TokenConnection>(alias, binding, host_.driver_for(binding));
    }
    return connection;
  }

 private:
  const Host host_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<TokenConnection>> connections_;
};

/// The wrapper of one described key: finds and proves the key when it is first used.
class Pkcs11KeyWrapper final : public KeyWrapper {
 public:
  Pkcs11KeyWrapper(std::shared_ptr<Tokens> tokens, KeyDescription key)
      : tokens_(std::move(tokens)), description_(std::move(key)) {}

  [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override { return proved_key()->wrap(key, aad); }

  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    const auto key = proved_key();
    try {
      return key->unwrap(wrapped, aad);
    } catch (const OpenError&) {
      // Before the envelope is blamed, the key is asked for its proof: behind a handle another may have appeared.
      check_key_proof(*key, description_.kek_id, description_.proof);
      throw;
    }
  }

 private:
  [[nodiscard]] std::shared_ptr<Pkcs11Key> proved_key() {
    {
      const std::scoped_lock lock{key_mutex_};
      if (key_) return key_;
    }
    // The lock is held over token calls, but only until the key has been found once: threads wait for one search
    // instead of each making their own.
    const std::scoped_lock one_search{search_mutex_};
    {
      const std::scoped_lock lock{key_mutex_};
      if (key_) return key_;
    }
    auto found = find_and_prove();
    const std::scoped_lock lock{key_mutex_};
    return key_ = std::move(found);
  }

  [[nodiscard]] std::shared_ptr<Pkcs11Key> find_and_prove() const {
    const TokenConnection::Identity expected{description_.token_label, description_.token_serial};
    const auto token = tokens_->find(description_.token);
    const auto pool = token->connect(&expected);
    const auto handle = pool->acquire()->find_key({.id = description_.key_id});
    if (!handle) {
      throw KeyNotFoundError(fmt::format("no key with CKA_ID {} (made as '{}') on token '{}'; {}",
                                         core::to_hex(description_.key_id), description_.key_label, description_.token,
                                         token->logs_in()
                                             ? "if the token is one of a group, the key may not have reached it yet"
                                             : "its binding has no PIN, and keys may be invisible without a login"));
    }
    auto key = std::make_shared<Pkcs11Key>(pool, *handle, description_.profile);
    check_key_proof(*key, description_.kek_id, description_.proof);
    return key;
  }

  const std::shared_ptr<Tokens> tokens_;
  const KeyDescription description_;
  std::mutex search_mutex_;
  std::mutex key_mutex_;
  std::shared_ptr<Pkcs11Key> key_;
};

class Pkcs11Provider final : public KeyProvider {
 public:
  explicit Pkcs11Provider(Host host) : tokens_(std::make_shared<Tokens>(std::move(host))) {}

  [[nodiscard]] KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
    return keywrap::make_or_adopt_key(*tokens_->find(spec.token), spec, ring, version);
  }

  [[nodiscard]] std::shared_ptr<KeyWrapper> connect(const KeyDescription& key) override {
    return std::make_shared<Pkcs11KeyWrapper>(tokens_, key);
  }

 private:
  std::shared_ptr<Tokens> tokens_;
};

}  // namespace

std::shared_ptr<KeyProvider> pkcs11_provider(Host host) { return std::make_shared<Pkcs11Provider>(std::move(host)); }

}  // namespace hsmseal
