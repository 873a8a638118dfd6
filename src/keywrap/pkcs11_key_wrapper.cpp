#include <hsmseal/pkcs11_key_wrapper.hpp>

#include <cstdint>
#include <exception>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include <hsmseal/error.hpp>

#include "keywrap/described_key.hpp"
#include "keywrap/key_destroyer.hpp"
#include "keywrap/key_finder.hpp"
#include "keywrap/key_maker.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "keywrap/token_connection.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal {
namespace {

using keywrap::Direction;
using keywrap::Pkcs11Key;
using keywrap::SessionPool;
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

  /// All of them, sorted by their aliases.
  /// @throws InvalidArgumentError  there is none.
  [[nodiscard]] std::vector<std::shared_ptr<TokenConnection>> all() {
    std::vector<std::shared_ptr<TokenConnection>> tokens;
    for (const std::string& alias : host_.token_aliases()) tokens.push_back(find(alias));
    if (tokens.empty()) throw InvalidArgumentError("no token is bound on this host; add one with Host::token()");
    return tokens;
  }

 private:
  const Host host_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<TokenConnection>> connections_;
};

/// A key that was found, and proved if its description has a proof, and whether its handle still stands for it.
class RememberedKey {
 public:
  /// @param destroyed_before  the count of destructions when the search began.
  RememberedKey(std::shared_ptr<SessionPool> pool, KeyHandle handle, const KeyDescription& description,
                const pkcs11::Destructions& destructions, std::uint64_t destroyed_before)
      : key_(std::move(pool), handle, description.profile, known_proof(description), direction(description)),
        handle_(handle),
        destructions_(destructions),
        destroyed_before_(destroyed_before) {}

  [[nodiscard]] Pkcs11Key& get() noexcept { return key_; }

  /// False once hsmseal has destroyed this key in this process: its handle may name another key by now.
  [[nodiscard]] bool current() const { return !destructions_.happened_to(handle_.value, destroyed_before_); }

  [[nodiscard]] static Direction direction(const KeyDescription& key) {
    return key.proof.wrapped.empty() ? Direction::UnwrapOnly : Direction::Both;
  }

 private:
  [[nodiscard]] static std::optional<keywrap::KnownProof> known_proof(const KeyDescription& key) {
    if (key.proof.wrapped.empty()) return std::nullopt;
    return keywrap::KnownProof{key.kek_id, key.proof};
  }

  Pkcs11Key key_;
  const KeyHandle handle_;
  const pkcs11::Destructions& destructions_;  ///< lives as long as the process
  const std::uint64_t destroyed_before_;
};

/// The wrapper of one described key: finds and proves the key when it is first used.
class Pkcs11KeyWrapper final : public KeyWrapper {
 public:
  Pkcs11KeyWrapper(std::shared_ptr<Tokens> tokens, KeyDescription key)
      : tokens_(std::move(tokens)), description_(std::move(key)) {}

  [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override {
    if (RememberedKey::direction(description_) == Direction::UnwrapOnly) throw keywrap::unwraps_only();
    return with_key([&](Pkcs11Key& proved) { return proved.wrap(key, aad); });
  }

  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
    return with_key([&](Pkcs11Key& proved) { return proved.unwrap(wrapped, aad); });
  }

 private:
  using Search = std::shared_future<std::shared_ptr<RememberedKey>>;

  /// Uses the key, and does not believe the outcome if the key was destroyed meanwhile: another may have answered.
  template <typename Use>
  [[nodiscard]] std::invoke_result_t<Use, Pkcs11Key&> with_key(const Use& use) {
    for (;;) {
      const auto key = remembered_key();
      try {
        auto result = use(key->get());
        if (key->current()) return result;
      } catch (const Error&) {
        if (key->current()) throw;
      }
    }
  }

  [[nodiscard]] std::shared_ptr<RememberedKey> remembered_key() {
    {
      const std::scoped_lock lock{mutex_};
      if (key_ && key_->current()) return key_;
    }
    return search_once();
  }

  /// Threads that come while the key is being looked for wait for that search, and share its failure: a PIN is not
  /// asked for again for each of them.
  [[nodiscard]] std::shared_ptr<RememberedKey> search_once() {
    std::promise<std::shared_ptr<RememberedKey>> mine;
    Search others;
    {
      const std::scoped_lock lock{mutex_};
      if (key_ && key_->current()) return key_;
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

  void end_search(std::shared_ptr<RememberedKey> found) {
    const std::scoped_lock lock{mutex_};
    key_ = std::move(found);
    search_ = {};
  }

  [[nodiscard]] std::shared_ptr<RememberedKey> find_and_prove() const {
    const auto token = tokens_->find(description_.token);
    const auto pool = keywrap::connect_described(*token, description_);
    auto session = std::make_optional(pool->acquire());
    const pkcs11::Destructions& destructions = pkcs11::SessionAccess::destructions(**session);
    const std::uint64_t destroyed_before = destructions.count();
    const auto handle = (*session)->find_key({.id = description_.key_id});
    session.reset();  // the proof takes one of its own
    if (!handle) throw keywrap::no_such_key(*token, description_);
    if (RememberedKey::direction(description_) == Direction::Both) {
      Pkcs11Key candidate{pool, *handle, description_.profile};
      check_key_proof(candidate, description_.kek_id, description_.proof);
    }
    return std::make_shared<RememberedKey>(pool, *handle, description_, destructions, destroyed_before);
  }

  const std::shared_ptr<Tokens> tokens_;
  const KeyDescription description_;
  std::mutex mutex_;
  std::shared_ptr<RememberedKey> key_;
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

  [[nodiscard]] std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
    return keywrap::find_ring_keys(token.empty() ? tokens_->all() : std::vector{tokens_->find(token)}, ring);
  }

  void destroy(const KeyDescription& key) override { keywrap::destroy_described_key(*tokens_->find(key.token), key); }

 private:
  std::shared_ptr<Tokens> tokens_;
};

}  // namespace

std::shared_ptr<KeyProvider> pkcs11_provider(Host host) { return std::make_shared<Pkcs11Provider>(std::move(host)); }

}  // namespace hsmseal
