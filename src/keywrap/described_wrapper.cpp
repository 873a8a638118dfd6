#include "keywrap/described_wrapper.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "keywrap/described_key.hpp"

namespace hsmseal::keywrap {

using pkcs11::Reaction;

namespace {

constexpr unsigned kMostPauses = 3;
constexpr std::chrono::milliseconds kFirstPause{20};
/// Between looks for a key that is not there: it may not have reached the member of a group that answers.
constexpr std::array<std::chrono::milliseconds, 3> kBetweenLooks{
    std::chrono::milliseconds{50}, std::chrono::milliseconds{100}, std::chrono::milliseconds{200}};

/// @returns false if there is not so much time left.
bool pause_for(std::chrono::milliseconds duration) {
  if (std::chrono::steady_clock::now() + duration >= Deadline::current()) return false;
  std::this_thread::sleep_for(duration);
  return true;
}

}  // namespace

/// A key that was found in one life of a connection, and proved if its description has a proof.
class DescribedWrapper::Found {
 public:
  Found(std::shared_ptr<Life> life, FoundKeys keys, const KeyDescription& key, Direction direction)
      : key_(life->shared_pool(), std::move(keys), key.profile, known_proof(key), direction), life_(std::move(life)) {}

  [[nodiscard]] Pkcs11Key& key() noexcept { return key_; }
  [[nodiscard]] const std::shared_ptr<Life>& life() const noexcept { return life_; }

  /// Whether the handles still stand for the keys.
  [[nodiscard]] bool current() const { return !forgotten_ && key_.current(); }
  /// The token does not know a handle, or another key answered to it.
  void forget() noexcept { forgotten_ = true; }

 private:
  [[nodiscard]] static std::optional<KnownProof> known_proof(const KeyDescription& key) {
    if (key.proof.wrapped.empty()) return std::nullopt;
    return KnownProof{key.kek_id, key.proof};
  }

  Pkcs11Key key_;
  const std::shared_ptr<Life> life_;
  std::atomic<bool> forgotten_ = false;
};

/// What one operation still may do about failures.
class DescribedWrapper::Retries {
 public:
  Retries(TokenConnection& token, Version version) : token_(token), version_(version) {}

  /// Recovers from a failure as the table says.
  /// @param found  the key that was used; null if the failure came before there was one.
  /// @returns whether to try again.
  [[nodiscard]] bool after(const TokenError& error, const std::shared_ptr<Life>& life, Found* found) {
    if (error.function().empty()) return false;  // no call failed: the time was over, while another thread goes on
    const Reaction reaction = pkcs11::reaction(error.function(), error.rv(), token_.attempt_in(life, failures_));
    switch (reaction) {
      case Reaction::Proceed:
      case Reaction::BadData:
      case Reaction::Refuse:
      case Reaction::AskOperator:
      case Reaction::GrowBuffer:
        return false;
      case Reaction::Shrink:
        life->pool().shrink();
        [[fallthrough]];
      case Reaction::Pause:
        if (pauses_ < kMostPauses) return pause_for(kFirstPause * (1U << pauses_++));
        return ++failures_ == 1 && after(error, life, found);  // busy for too long: something else is the matter
      case Reaction::FindKey:
        if (found != nullptr) found->forget();
        // Without a login private keys are not there.
        if (!life->well()) token_.lost(life, Reaction::NewLogin, error, version_);
        if (once()) return true;
        throw TokenUnavailableError({error.function(), error.rv(), error.rv_name(), true},
                                    fmt::format("{}; its key was looked up anew and was lost again", error.what()));
      case Reaction::NewSession:
        life->pool().close_idle();
        if (!life->well()) token_.lost(life, Reaction::NewLogin, error, version_);
        return once();
      case Reaction::Prove:
        if (!proved(error, found)) token_.lost(life, Reaction::NewLogin, error, version_);
        return once();
      case Reaction::NewLogin:
      case Reaction::NewSlot:
      case Reaction::Restart:
        token_.lost(life, reaction, error, version_);
        return once();
    }
    return false;
  }

  /// Another key answered, or the token refused the proof in passing: it is looked up and proved once more.
  [[nodiscard]] bool after_wrong_key(Found* found) {
    if (found != nullptr) found->forget();
    return once();
  }

 private:
  /// Whether the key works in another session. A decryption has shown before that it does not.
  [[nodiscard]] static bool proved(const TokenError& error, Found* found) {
    if (found == nullptr || error.function() == "C_Decrypt") return false;
    try {
      return found->key().answers();
    } catch (const Error&) {
      return false;
    }
  }

  [[nodiscard]] bool once() { return ++failures_ == 1 && std::chrono::steady_clock::now() < Deadline::current(); }

  TokenConnection& token_;
  const Version version_;
  unsigned failures_ = 0;
  unsigned pauses_ = 0;
};

DescribedWrapper::DescribedWrapper(std::shared_ptr<Tokens> tokens, KeyDescription key, Version version)
    : tokens_(std::move(tokens)),
      description_(std::move(key)),
      version_(version),
      memory_(std::make_unique<Memory>()) {}

Direction DescribedWrapper::direction() const noexcept {
  return description_.proof.wrapped.empty() ? Direction::UnwrapOnly : Direction::Both;
}

DescribedWrapper::Memory& DescribedWrapper::memory() {
  return memory_.get([](const Memory&) { return std::make_unique<Memory>(); });
}

std::shared_ptr<TokenConnection> DescribedWrapper::token() {
  tokens_->check_process(description_.token);
  Memory& mine = memory();
  const std::scoped_lock lock{mine.mutex};
  if (!mine.token) mine.token = tokens_->find(description_.token);
  return mine.token;
}

Bytes DescribedWrapper::wrap(ByteView key, ByteView aad) {
  if (direction() == Direction::UnwrapOnly) throw unwraps_only();
  return operate<Bytes>(&Pkcs11Key::wrap, key, aad);
}

SecretBytes DescribedWrapper::unwrap(ByteView wrapped, ByteView aad) {
  return operate<SecretBytes>(&Pkcs11Key::unwrap, wrapped, aad);
}

std::size_t DescribedWrapper::concurrency() const {
  return tokens_->find(description_.token)->binding().limits.max_sessions;
}

template <typename Result>
Result DescribedWrapper::operate(Result (Pkcs11Key::*use)(ByteView, ByteView), ByteView data, ByteView aad) {
  const auto token = this->token();
  if (token->hang_policy() == HangPolicy::Direct) {
    return token->operate(
        [&] { return with_key<Result>(*token, [&](Pkcs11Key& key) { return (key.*use)(data, aad); }); }, version_);
  }
  // The caller may leave, so nothing here is the caller's.
  return token->operate(
      [self = shared_from_this(), token, use, data = SecretBytes{data}, aad = Bytes(aad.begin(), aad.end())] {
        return self->with_key<Result>(*token, [&](Pkcs11Key& key) { return (key.*use)(data.view(), aad); });
      },
      version_);
}

/// Uses the key, recovers what was lost, and does not believe an outcome if the handle may have stood for another key.
template <typename Result>
Result DescribedWrapper::with_key(TokenConnection& token, const std::function<Result(Pkcs11Key&)>& use) {
  const TokenConnection::Identity expected{description_.token_label, description_.token_serial};
  Retries retries{token, version_};
  for (;;) {
    const auto life = token.connect(&expected, version_);
    std::shared_ptr<Found> found;
    const auto stale = [&] { return found && !found->current(); };
    try {
      found = found_in(life);
      Result result = use(found->key());
      if (!stale()) return result;
    } catch (const TokenError& error) {
      if (!stale() && !retries.after(error, life, found.get())) throw;
    } catch (const WrongKeyError&) {
      if (!stale() && !retries.after_wrong_key(found.get())) throw;
    } catch (const Error&) {
      if (!stale()) throw;
    }
    if (std::chrono::steady_clock::now() >= Deadline::current()) {
      throw TokenUnavailableError(pkcs11::failure("", CKR_TOKEN_NOT_PRESENT),
                                  fmt::format("no time was left for token '{}' after a recovery", token.alias()));
    }
  }
}

std::shared_ptr<DescribedWrapper::Found> DescribedWrapper::found_in(const std::shared_ptr<Life>& life) {
  Memory& mine = memory();
  std::shared_ptr<core::Flight> search;
  {
    std::unique_lock lock{mine.mutex};
    while (mine.search && mine.searched_in == life) {
      const auto others = mine.search;
      lock.unlock();
      const bool landed = others->wait(fmt::format(
          "a key on token '{}', which another thread looks for, was not found in time", description_.token));
      lock.lock();
      if (!landed && mine.search == others) mine.search.reset();
    }
    if (mine.key && mine.key->life() == life && mine.key->current()) return mine.key;
    search = mine.search = std::make_shared<core::Flight>();
    mine.searched_in = life;
  }
  try {
    auto found = find_and_prove(life);
    end_search(mine, search, life, found);
    search->land();
    return found;
  } catch (...) {
    end_search(mine, search, life, nullptr);
    search->fail(std::current_exception());
    throw;
  }
}

void DescribedWrapper::end_search(Memory& mine, const std::shared_ptr<core::Flight>& search,
                                  const std::shared_ptr<Life>& life, std::shared_ptr<Found> found) {
  const std::scoped_lock lock{mine.mutex};
  if (mine.searched_in != life) return;  // one in a later life has begun, or another of this one was faster
  mine.key.swap(found);                  // what it replaces, and perhaps its sessions, ends without the lock
  if (mine.search != search) return;     // another has begun since this one hung
  mine.search.reset();
  mine.searched_in.reset();
}

std::shared_ptr<DescribedWrapper::Found> DescribedWrapper::look_once(const std::shared_ptr<Life>& life,
                                                                     KeyPart& missing) const {
  const ShownKeys shown = look_up(*life->pool().acquire(), description_);  // the proof takes a session of its own
  const auto keys = shown.all(description_.profile.algorithm);
  missing = shown.kek ? KeyPart::Mac : KeyPart::Encryption;
  if (!keys) return nullptr;
  auto found = std::make_shared<Found>(life, *keys, description_, direction());
  if (direction() == Direction::Both) {
    Pkcs11Key unproved{life->shared_pool(), *keys, description_.profile};
    check_key_proof(unproved, description_.kek_id, description_.proof);
  }
  return found;
}

std::shared_ptr<DescribedWrapper::Found> DescribedWrapper::find_and_prove(const std::shared_ptr<Life>& life) const {
  const auto token = tokens_->find(description_.token);
  KeyPart missing{};
  auto found = look_once(life, missing);
  if (!found && token->logs_in() && !life->well()) {
    throw TokenError(pkcs11::failure("C_FindObjects", CKR_USER_NOT_LOGGED_IN),
                     fmt::format("keys on token '{}' are not visible: its login was lost", token->alias()));
  }
  // Without a login it will not become visible.
  if (!found && token->logs_in()) {
    for (const auto pause : kBetweenLooks) {
      if (found || !pause_for(pause)) break;
      life->pool().close_idle();
      found = look_once(life, missing);
    }
  }
  if (!found) throw no_such_key(*token, description_, missing);
  return found;
}

}  // namespace hsmseal::keywrap
