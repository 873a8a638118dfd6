#include "keywrap/pkcs11_key.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"
#include "keywrap/key_proof.hpp"
#include "pkcs11/driver.hpp"
#include "pkcs11/lock_until.hpp"
#include "pkcs11/reactions.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {

namespace {

constexpr std::chrono::seconds kComparingTime{1};

}  // namespace

Verdict verdict_on(const TokenError& error) {
  if (error.function() != "C_Decrypt") return Verdict::Trouble;
  switch (pkcs11::reaction("C_Decrypt", error.rv(), pkcs11::Attempt::First)) {
    case pkcs11::Reaction::BadData:
      return Verdict::BadCiphertext;
    case pkcs11::Reaction::Prove:
      return Verdict::Unclear;
    default:
      return Verdict::Trouble;
  }
}

Pkcs11Key::Pkcs11Key(std::shared_ptr<SessionPool> pool, FoundKeys keys, WrapProfile profile,
                     std::optional<KnownProof> proof, Direction direction)
    : pool_(std::move(pool)),
      keys_(std::move(keys)),
      profile_(profile),
      proof_(std::move(proof)),
      direction_(direction) {}

InvalidArgumentError unwraps_only() {
  return InvalidArgumentError("a key that is described without a proof only unwraps; nothing was encrypted");
}

Bytes Pkcs11Key::wrap_once(ByteView key, ByteView aad) const {
  auto session = pool_->acquire();
  return wrap_in(*session, keys_, profile_, key, aad);
}

SecretBytes Pkcs11Key::unwrap_once(ByteView wrapped, ByteView aad) const {
  auto session = pool_->acquire();
  return unwrap_in(*session, keys_, profile_, wrapped, aad);
}

bool Pkcs11Key::round_trip_works() const {
  const SecretBytes sent = crypto::random_secret(crypto::kKeyBytes);
  const auto aad = crypto::random_array<16>();
  const Bytes wrapped = wrap_once(sent.view(), aad);
  try {
    return crypto::equal(unwrap_once(wrapped, aad).view(), sent.view());
  } catch (const OpenError&) {
    return false;
  } catch (const TokenError& error) {
    if (verdict_on(error) == Verdict::Trouble) throw;
    return false;
  }
}

bool Pkcs11Key::is_shown() const {
  auto session = pool_->acquire();
  for (const KeyHandle key : {keys_.kek, keys_.mac}) {
    if (key.value == 0) continue;
    const pkcs11::SessionAccess::KeyUse use{*session, keys_.watch, key};
    if (!pkcs11::SessionAccess::key_id(*session, key)) return false;
  }
  return true;
}

bool Pkcs11Key::proof_opens() const {
  try {
    const SecretBytes opened = unwrap_once(proof_->proof.wrapped, proof_aad(proof_->kek_id));
    return crypto::equal(crypto::sha256(opened.view()), proof_->proof.digest);
  } catch (const OpenError&) {
    return false;
  }
}

void Pkcs11Key::compare_after_wrap() const {
  // Once may have been a fault in passing; a token that keeps to a wrong IV fails each time.
  if (round_trip_works() || round_trip_works()) return;
  // Unless it opens nothing at present: then this throws the token's error.
  if (proof_) static_cast<void>(proof_opens());
  throw WrongKeyError(
      "the token does not open what it wrapped a moment ago; nothing was sealed; run its vendor's check, or add a set "
      "on another token");
}

bool Pkcs11Key::answers() const {
  try {
    if (!proof_) return direction_ == Direction::Both ? round_trip_works() : is_shown();
    if (proof_opens()) return true;
  } catch (const TokenError& error) {
    if (!proof_ || verdict_on(error) != Verdict::BadCiphertext) return false;
  }
  throw wrong_key(proof_->kek_id);
}

void Pkcs11Key::compare_once() {
  if (compared_) return;
  const auto lock =
      pkcs11::lock_until(comparing_, std::min(Deadline::current(), std::chrono::steady_clock::now() + kComparingTime));
  if (compared_) return;
  compare_after_wrap();  // also if another thread hangs in it
  compared_ = true;
}

Bytes Pkcs11Key::wrap(ByteView key, ByteView aad) {
  if (direction_ == Direction::UnwrapOnly) throw unwraps_only();
  if (key.size() > profile_.max_plaintext) {
    throw InvalidArgumentError(fmt::format("{} bytes to encrypt in the token, where at most {} are allowed", key.size(),
                                           profile_.max_plaintext));
  }
  if (!core::can_wrap(profile_, key.size())) {
    throw InvalidArgumentError(
        fmt::format("{} bytes to encrypt in the token with AES-CBC, which takes whole blocks of 16", key.size()));
  }
  compare_once();
  return wrap_once(key, aad);
}

SecretBytes Pkcs11Key::unwrap(ByteView wrapped, ByteView aad) {
  if (!can_be_wrapped(profile_, wrapped.size())) throw OpenError();
  // Whether it was the ciphertext is not known: the caller may ask again.
  const auto nor_the_proof = [](const TokenFailure& failure, std::string_view what) {
    return TokenUnavailableError({failure.function, failure.rv, failure.rv_name, true},
                                 fmt::format("{}; nor could the token open what it should; try again", what));
  };
  try {
    return unwrap_once(wrapped, aad);
  } catch (const OpenError&) {
    if (proof_ && !answers()) {
      throw nor_the_proof(pkcs11::failure("C_Sign", CKR_OK), "a MAC that the token made differs");
    }
  } catch (const TokenError& error) {
    const Verdict verdict = verdict_on(error);
    if (verdict == Verdict::BadCiphertext && !proof_) throw OpenError();
    if (verdict == Verdict::Trouble) throw;
    if (!answers()) {
      if (verdict != Verdict::BadCiphertext) throw;
      throw nor_the_proof({error.function(), error.rv(), error.rv_name(), true}, error.what());
    }
    if (verdict == Verdict::BadCiphertext) throw OpenError();
  }
  try {
    return unwrap_once(wrapped, aad);
  } catch (const TokenError& error) {
    if (verdict_on(error) == Verdict::Trouble) throw;
    throw OpenError();
  }
}

}  // namespace hsmseal::keywrap
