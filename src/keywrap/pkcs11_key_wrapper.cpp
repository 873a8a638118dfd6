#include <hsmseal/pkcs11_key_wrapper.hpp>

#include <exception>
#include <future>
#include <map>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
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
    const TokenBinding& binding = host_.binding(alias);
    const std::scoped_lock lock{mutex_};
    auto& connection = connections_[alias];
    if (!connection) connection = std::make_shared<TokenConnection>(alias, binding, host_.driver_for(binding));
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
    return proved_key()->unwrap(wrapped, aad);
  }

 private:
  using Search = std::shared_future<std::shared_ptr<Pkcs11Key>>;

  [[nodiscard]] std::shared_ptr<Pkcs11Key> proved_key() {
    {
      const std::scoped_lock lock{mutex_};
      if (key_) return key_;
    }
    return search_once();
  }

  /// Threads that come while the key is being looked for wait for that search, and share its failure: a PIN is not
  /// asked for again for each of them.
  [[nodiscard]] std::shared_ptr<Pkcs11Key> search_once() {
    std::promise<std::shared_ptr<Pkcs11Key>> mine;
    Search others;
    {
      const std::scoped_lock lock{mutex_};
      if (key_) return key_;
      others = search_;
      if (!others.valid()) search_ = mine.get_future().share();
    }
    if (others.valid()) return others.get();
    try {
      auto found = find_and_prove();
      end_search(found);
      mine.set_value(found);
      return found;
    } catch (...) {
      end_search(nullptr);
      mine.set_exception(std::current_exception());
      throw;
    }
  }

  void end_search(std::shared_ptr<Pkcs11Key> found) {
    const std::scoped_lock lock{mutex_};
    key_ = std::move(found);
    search_ = {};
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
    Pkcs11Key candidate{pool, *handle, description_.profile};
    check_key_proof(candidate, description_.kek_id, description_.proof);
    return std::make_shared<Pkcs11Key>(pool, *handle, description_.profile,
                                       keywrap::KnownProof{description_.kek_id, description_.proof});
  }

  const std::shared_ptr<Tokens> tokens_;
  const KeyDescription description_;
  std::mutex mutex_;
  std::shared_ptr<Pkcs11Key> key_;
  Search search_;  ///< the one under way, if any
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

  [[nodiscard]] std::vector<FoundKey> find_keys(const RingId&, const std::string&) override { return {}; }
  void destroy(const KeyDescription&) override {}

 private:
  std::shared_ptr<Tokens> tokens_;
};

}  // namespace

std::shared_ptr<KeyProvider> pkcs11_provider(Host host) { return std::make_shared<Pkcs11Provider>(std::move(host)); }

}  // namespace hsmseal
