#include "keywrap/pkcs11_key.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "crypto/crypto.hpp"
#include "keywrap/key_proof.hpp"
#include "pkcs11/lock_until.hpp"
#include "pkcs11/reactions.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal::keywrap {

using KeyUse = pkcs11::SessionAccess::KeyUse;

namespace {

constexpr std::chrono::seconds kComparingTime{1};
constexpr std::size_t kIvBytes = crypto::kNonceBytes;
enum class Verdict {
  BadCiphertext,  ///< the token says that it does not open
  Unclear,        ///< the ciphertext, or the token
  Trouble,        ///< the token could not try
};

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

}  // namespace

Pkcs11Key::Pkcs11Key(std::shared_ptr<SessionPool> pool, KeyHandle handle, pkcs11::HandleWatch watch,
                     WrapProfile profile, std::optional<KnownProof> proof, Direction direction)
    : pool_(std::move(pool)),
      handle_(handle),
      watch_(std::move(watch)),
      profile_(profile),
      proof_(std::move(proof)),
      direction_(direction) {}

InvalidArgumentError unwraps_only() {
  return InvalidArgumentError("a key that is described without a proof only unwraps; nothing was encrypted");
}

Bytes Pkcs11Key::wrap_once(ByteView key, ByteView aad) const {
  const auto iv = crypto::random_array<kIvBytes>();
  Bytes wrapped(iv.begin(), iv.end());
  auto session = pool_->acquire();
  const KeyUse use{*session, watch_, handle_};
  const Bytes ciphertext = session->encrypt(handle_, {.iv = iv, .aad = aad}, key);
  wrapped.insert(wrapped.end(), ciphertext.begin(), ciphertext.end());
  return wrapped;
}

SecretBytes Pkcs11Key::unwrap_in(Pkcs11Session& session, KeyHandle handle, const pkcs11::HandleWatch& watch,
                                 ByteView wrapped, ByteView aad) {
  if (wrapped.size() < kIvBytes + crypto::kTagBytes) throw OpenError();
  const KeyUse use{session, watch, handle};
  return session.decrypt(handle, {.iv = wrapped.first(kIvBytes), .aad = aad}, wrapped.subspan(kIvBytes));
}

SecretBytes Pkcs11Key::unwrap_once(ByteView wrapped, ByteView aad) const {
  auto session = pool_->acquire();
  return unwrap_in(*session, handle_, watch_, wrapped, aad);
}

bool Pkcs11Key::round_trip_works() const {
  const SecretBytes sent = crypto::random_secret(crypto::kKeyBytes);
  const auto aad = crypto::random_array<16>();
  const Bytes wrapped = wrap_once(sent.view(), aad);
  try {
    return crypto::equal(unwrap_once(wrapped, aad).view(), sent.view());
  } catch (const TokenError& error) {
    if (verdict_on(error) == Verdict::Trouble) throw;
    return false;
  }
}

bool Pkcs11Key::is_shown() const {
  auto session = pool_->acquire();
  const KeyUse use{*session, watch_, handle_};
  return pkcs11::SessionAccess::key_id(*session, handle_).has_value();
}

void Pkcs11Key::compare_after_wrap() const {
  // Once may have been a fault in passing; a token that keeps to a wrong IV fails each time.
  if (round_trip_works() || round_trip_works()) return;
  // Unless it opens nothing at present: then this throws the token's error.
  if (proof_) static_cast<void>(unwrap_once(proof_->proof.wrapped, proof_aad(proof_->kek_id)));
  throw WrongKeyError(
      "the token does not open what it wrapped a moment ago; nothing was sealed; run its vendor's check, or add a set "
      "on another token");
}

bool Pkcs11Key::answers() const {
  try {
    if (!proof_) return direction_ == Direction::Both ? round_trip_works() : is_shown();
    const SecretBytes opened = unwrap_once(proof_->proof.wrapped, proof_aad(proof_->kek_id));
    if (crypto::equal(crypto::sha256(opened.view()), proof_->proof.digest)) return true;
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
  compare_once();
  return wrap_once(key, aad);
}

SecretBytes Pkcs11Key::unwrap(ByteView wrapped, ByteView aad) {
  Verdict verdict{};
  try {
    return unwrap_once(wrapped, aad);
  } catch (const TokenError& error) {
    verdict = verdict_on(error);
    const bool only_the_ciphertext = verdict == Verdict::BadCiphertext && !proof_;
    if (!only_the_ciphertext && (verdict == Verdict::Trouble || !answers())) {
      if (verdict != Verdict::BadCiphertext) throw;
      // Whether it was the ciphertext is not known: the caller may ask again.
      throw TokenUnavailableError({error.function(), error.rv(), error.rv_name(), true},
                                  fmt::format("{}; nor could the token open what it should; try again", error.what()));
    }
  }
  if (verdict == Verdict::BadCiphertext) throw OpenError();
  try {
    return unwrap_once(wrapped, aad);
  } catch (const TokenError& error) {
    if (verdict_on(error) == Verdict::Trouble) throw;
    throw OpenError();
  }
}

}  // namespace hsmseal::keywrap
