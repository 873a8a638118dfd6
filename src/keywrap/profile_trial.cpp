#include "keywrap/profile_trial.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "keywrap/profile_choice.hpp"
#include "pkcs11/reactions.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal {

bool ProfileTrial::works() const {
  return !checks.empty() && std::ranges::all_of(checks, [](const ProbeCheck& check) {
    return check.outcome == ProbeCheck::Outcome::Passed;
  });
}

}  // namespace hsmseal

namespace hsmseal::keywrap {
namespace {

using Finding = Trial::Finding;
using Outcome = ProbeCheck::Outcome;

constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kTokenIvs = 8;
/// Two IVs that are nearer to each other than this were counted, not drawn.
constexpr std::size_t kNearBytes = 4;

/// What a check came to.
struct Result {
  Finding finding = Finding::Works;
  std::string detail = {};
};

Result other_way(std::string detail) { return {Finding::OtherWay, std::move(detail)}; }
Result unsafe(std::string detail) { return {Finding::Unsafe, std::move(detail)}; }

/// The keys, and what was wrapped under them so far.
struct Bench {
  std::shared_ptr<SessionPool> pool;
  FoundKeys keys;
  WrapProfile& profile;
  SecretBytes secret = crypto::random_secret(kSecretBytes);
  std::array<std::byte, 24> aad = crypto::random_array<24>();
  Bytes first = {}, second = {};

  [[nodiscard]] Bytes wrap(ByteView bytes) const { return wrap_in(*pool->acquire(), keys, profile, bytes, aad); }
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped) const {
    return unwrap_in(*pool->acquire(), keys, profile, wrapped, aad);
  }
  [[nodiscard]] std::size_t iv_bytes() const { return core::iv_bytes(profile); }
  [[nodiscard]] ByteView first_iv() const { return ByteView{first}.first(iv_bytes()); }
  [[nodiscard]] ByteView ciphertext(const Bytes& wrapped) const {
    return ByteView{wrapped}.subspan(iv_bytes(), kSecretBytes);
  }
};

// --- both algorithms ---------------------------------------------------------------------------------------------------

Result wraps(Bench& bench) {
  bench.first = bench.wrap(bench.secret.view());
  bench.second = bench.wrap(bench.secret.view());
  const std::size_t due = kSecretBytes + core::overhead(bench.profile);
  for (const Bytes* one : {&bench.first, &bench.second}) {
    if (one->size() != due) return other_way(fmt::format("{} bytes came out where {} were due", one->size(), due));
  }
  return {};
}

Result wraps_anew(Bench& bench) {
  if (std::ranges::equal(bench.first_iv(), ByteView{bench.second}.first(bench.iv_bytes()))) {
    return unsafe("the same IV was used twice");
  }
  if (std::ranges::equal(bench.ciphertext(bench.first), bench.ciphertext(bench.second))) {
    return unsafe("the same bytes came to the same ciphertext under two IVs");
  }
  return {};
}

Result hides(Bench& bench) {
  // Half of it would be enough: no eight bytes of random ones are there by chance.
  constexpr std::size_t kPiece = 8;
  for (std::size_t at = 0; at + kPiece <= kSecretBytes; at += kPiece) {
    const ByteView piece = bench.secret.view().subspan(at, kPiece);
    const auto found = std::search(bench.first.begin(), bench.first.end(), piece.begin(), piece.end());
    if (found != bench.first.end()) return unsafe("the plaintext is in the ciphertext");
  }
  return {};
}

Result comes_back(Bench& bench) {
  try {
    if (crypto::equal(bench.unwrap(bench.first).view(), bench.secret.view())) return {};
  } catch (const TokenError& error) {
    if (verdict_on(error) == Verdict::Trouble) throw;
    return other_way(error.what());
  }
  return other_way("other bytes came out than went in");
}

Result refuses_changed_byte(Bench& bench, std::size_t at) {
  Bytes changed = bench.first;
  changed.at(at) ^= std::byte{1};
  try {
    Pkcs11Key key{bench.pool, bench.keys, bench.profile};
    const SecretBytes opened = key.unwrap(changed, bench.aad);
  } catch (const OpenError&) {
    return {};
  }
  return unsafe("it was opened");
}

Result refuses_changed_iv(Bench& bench) { return refuses_changed_byte(bench, 0); }
Result refuses_changed_ciphertext(Bench& bench) { return refuses_changed_byte(bench, bench.iv_bytes()); }
Result refuses_changed_tag(Bench& bench) { return refuses_changed_byte(bench, bench.first.size() - 1); }

Result refuses_other_aad(Bench& bench) {
  auto other = bench.aad;
  other[0] ^= std::byte{1};
  try {
    Pkcs11Key key{bench.pool, bench.keys, bench.profile};
    const SecretBytes opened = key.unwrap(bench.first, other);
  } catch (const OpenError&) {
    return {};
  }
  return unsafe("it was opened");
}

/// Lowers the ceiling until it fits.
Result takes_the_most(Bench& bench) {
  std::string seen;
  for (std::uint32_t size = bench.profile.max_plaintext; size >= kSecretBytes; size /= 2) {
    bench.profile.max_plaintext = size;
    try {
      const SecretBytes sent = crypto::random_secret(size);
      if (crypto::equal(bench.unwrap(bench.wrap(sent.view())).view(), sent.view())) {
        return {Finding::Works, fmt::format("{} bytes", size)};
      }
      return other_way(fmt::format("{} bytes did not come back", size));
    } catch (const TokenError& error) {
      if (error.retryable() || pkcs11::lost_sight(error)) throw;
      seen = error.what();
    }
  }
  return other_way(seen);
}

// --- AES-GCM -----------------------------------------------------------------------------------------------------------

/// Whether the difference of two numbers of this size, the first byte the highest, is small.
bool near(std::span<const std::byte> one, std::span<const std::byte> other) {
  Bytes difference(one.size());
  unsigned borrow = 0;
  for (std::size_t i = one.size(); i-- > 0;) {
    const unsigned low = std::to_integer<unsigned>(other[i]) + borrow;
    const auto high = std::to_integer<unsigned>(one[i]);
    difference[i] = static_cast<std::byte>(high - low);
    borrow = high < low ? 1 : 0;
  }
  const auto high_bytes = std::span{difference}.first(difference.size() - kNearBytes);
  const auto all = [&](std::byte value) {
    return std::ranges::all_of(high_bytes, [=](std::byte one_byte) { return one_byte == value; });
  };
  return all(std::byte{0}) || all(std::byte{0xff});
}

Result draws_ivs(Bench& bench) {
  std::vector<Bytes> ivs;
  for (std::size_t i = 0; i < kTokenIvs; ++i) {
    const Bytes wrapped = bench.wrap(bench.secret.view());
    ivs.emplace_back(wrapped.begin(), wrapped.begin() + static_cast<std::ptrdiff_t>(bench.iv_bytes()));
  }
  for (std::size_t i = 0; i < ivs.size(); ++i) {
    if (std::find(ivs.begin(), ivs.begin() + static_cast<std::ptrdiff_t>(i), ivs[i]) !=
        ivs.begin() + static_cast<std::ptrdiff_t>(i)) {
      return unsafe(fmt::format("of {} IVs two are the same", ivs.size()));
    }
    if (i == 0) continue;
    const Bytes turned{ivs[i].rbegin(), ivs[i].rend()}, turned_before{ivs[i - 1].rbegin(), ivs[i - 1].rend()};
    if (near(ivs[i], ivs[i - 1]) || near(turned, turned_before)) return unsafe("the IVs are counted, not drawn");
  }
  return {};
}

// --- CBC and HMAC ------------------------------------------------------------------------------------------------------

/// C = E(IV xor P): a change of both leaves the first block of the ciphertext as it was, a change of one does not.
Result is_cbc(Bench& bench) {
  auto session = bench.pool->acquire();
  const pkcs11::SessionAccess::KeyUse use{*session, bench.keys.watch, bench.keys.kek};
  auto iv = crypto::random_array<core::kCbcIvBytes>();
  SecretBytes text{bench.secret.view()};
  const Bytes before = session->encrypt(bench.keys.kek, AesCbc{iv}, text.view());
  iv[0] ^= std::byte{0x55};
  const Bytes other_iv = session->encrypt(bench.keys.kek, AesCbc{iv}, text.view());
  text.writable()[0] ^= std::byte{0x55};
  const Bytes after = session->encrypt(bench.keys.kek, AesCbc{iv}, text.view());
  if (before == other_iv) return unsafe("the IV changes nothing");
  return before == after ? Result{} : other_way("the IV is not used as CBC does");
}

Result makes_macs(Bench& bench) {
  auto session = bench.pool->acquire();
  const pkcs11::SessionAccess::KeyUse use{*session, bench.keys.watch, bench.keys.mac};
  auto data = bench.aad;
  const auto mac = [&] { return session->sign(bench.keys.mac, MacMechanism::HmacSha256, data); };
  const Bytes before = mac();
  if (mac() != before) return other_way("two MACs of the same bytes differ");
  data.back() ^= std::byte{1};
  return mac() == before ? unsafe("bytes that differ have the same MAC") : Result{};
}

Result is_hmac(Bench& bench) {
  const SecretBytes key = crypto::random_secret(crypto::kKeyBytes);
  const auto mac = pkcs11::SessionAccess::mac_with_known_key(*bench.pool->acquire(), key.view(), bench.aad);
  if (!mac) return {Finding::Works, "not compared with the host's: the token takes no key from outside"};
  return crypto::equal(*mac, crypto::hmac_sha256(key.view(), bench.aad)) ? Result{}
                                                                         : other_way("the host makes another MAC");
}

Result refuses_on_host(Bench& bench, ByteView wrapped, ByteView aad) {
  try {
    const SecretBytes opened = unwrap_in(*bench.pool->acquire(), bench.keys, bench.profile, wrapped, aad);
  } catch (const OpenError&) {
    return {};  // which a token does not throw
  }
  return unsafe("it was opened");
}

Result host_refuses_changed_byte(Bench& bench, std::size_t at) {
  Bytes changed = bench.first;
  changed.at(at) ^= std::byte{1};
  return refuses_on_host(bench, changed, bench.aad);
}

Result host_refuses_changed_iv(Bench& bench) { return host_refuses_changed_byte(bench, 0); }
Result host_refuses_changed_ciphertext(Bench& bench) { return host_refuses_changed_byte(bench, bench.iv_bytes()); }
Result host_refuses_changed_mac(Bench& bench) { return host_refuses_changed_byte(bench, bench.first.size() - 1); }

Result host_refuses_other_aad(Bench& bench) {
  auto other = bench.aad;
  other[0] ^= std::byte{1};
  return refuses_on_host(bench, bench.first, other);
}

// --- the lists ---------------------------------------------------------------------------------------------------------

struct Check {
  std::string_view name, title;
  Result (*run)(Bench&);
};

constexpr std::string_view kDrawsIvs = "gcm-fresh-ivs";

constexpr auto kGcm = std::to_array<Check>({
    {"gcm-wraps", "bytes are encrypted in this form", wraps},
    {"gcm-hides", "the ciphertext does not show the plaintext", hides},
    {"gcm-wraps-anew", "the same bytes have another IV and another ciphertext each time", wraps_anew},
    {kDrawsIvs, "the IVs that the token makes differ and are not counted", draws_ivs},
    {"gcm-comes-back", "what was encrypted is decrypted to the same", comes_back},
    {"gcm-changed-iv", "a changed IV is refused", refuses_changed_iv},
    {"gcm-changed-ciphertext", "a changed ciphertext is refused", refuses_changed_ciphertext},
    {"gcm-changed-tag", "a changed tag is refused", refuses_changed_tag},
    {"gcm-changed-aad", "changed associated data are refused", refuses_other_aad},
    {"gcm-most", "as many bytes as one call may have come back", takes_the_most},
});

constexpr auto kCbcHmac = std::to_array<Check>({
    {"cbc-chains", "whole blocks are encrypted, and the IV is used as in CBC", is_cbc},
    {"mac-made", "MACs are of the bytes that they are made of", makes_macs},
    {"mac-is-hmac", "the host makes the same MAC under a key that both know", is_hmac},
    {"cbc-hmac-wraps", "bytes are encrypted and have a MAC", wraps},
    {"cbc-hmac-hides", "the ciphertext does not show the plaintext", hides},
    {"cbc-hmac-wraps-anew", "the same bytes have another ciphertext each time", wraps_anew},
    {"cbc-hmac-comes-back", "what was encrypted is decrypted to the same", comes_back},
    {"cbc-hmac-changed-iv", "a changed IV is refused before the token decrypts", host_refuses_changed_iv},
    {"cbc-hmac-changed-ciphertext", "a changed ciphertext is refused before the token decrypts",
     host_refuses_changed_ciphertext},
    {"cbc-hmac-changed-mac", "a changed MAC is refused before the token decrypts", host_refuses_changed_mac},
    {"cbc-hmac-changed-aad", "changed associated data are refused before the token decrypts", host_refuses_other_aad},
    {"cbc-hmac-most", "as many bytes as one call may have come back", takes_the_most},
});

std::span<const Check> checks_of(WrapAlgorithm algorithm) {
  if (algorithm == WrapAlgorithm::Aes256Gcm) return kGcm;
  return kCbcHmac;
}

Result made_once(const Check& check, Bench& bench) {
  try {
    return check.run(bench);
  } catch (const OpenError&) {
    return other_way("the token did not make its own MAC again");
  } catch (const TokenError& error) {
    if (error.retryable() || pkcs11::lost_sight(error)) throw;
    return other_way(error.what());
  }
}

Result result_of(const Check& check, Bench& bench) {
  Result result = made_once(check, bench);
  // Once may have been a fault in passing, which must not decide what a set wraps with for ever.
  return result.finding == Finding::OtherWay ? made_once(check, bench) : result;
}

}  // namespace

void try_profile(Trial& trial, const std::shared_ptr<SessionPool>& pool, const FoundKeys& keys) {
  trial.shown.checks.clear();
  trial.finding = Finding::Works;
  Bench bench{pool, keys, trial.shown.profile};
  for (const Check& check : checks_of(trial.shown.profile.algorithm)) {
    const bool token_makes_iv = trial.shown.profile.gcm.iv_rule != IvRule::Caller;
    if (check.name == kDrawsIvs && !token_makes_iv) continue;
    ProbeCheck& shown = trial.shown.checks.emplace_back();
    shown.name = check.name;
    shown.title = check.title;
    if (trial.finding != Finding::Works) {
      shown.detail = "a check before it failed";
      continue;
    }
    Result result = result_of(check, bench);
    shown.outcome = result.finding == Finding::Works ? Outcome::Passed : Outcome::Failed;
    shown.detail = std::move(result.detail);
    trial.finding = result.finding;
  }
}

std::string describe_failure(const ProfileTrial& trial) {
  const auto failed = std::ranges::find(trial.checks, Outcome::Failed, &ProbeCheck::outcome);
  if (failed == trial.checks.end()) return fmt::format("{}: not tried", describe(trial.profile));
  return fmt::format("{}: {} ({}) failed: {}", describe(trial.profile), failed->name, failed->title, failed->detail);
}

}  // namespace hsmseal::keywrap
