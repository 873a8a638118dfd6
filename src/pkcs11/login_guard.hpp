#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include <hsmseal/secret_bytes.hpp>

#include "pkcs11/call_gate.hpp"

namespace hsmseal::pkcs11 {

/// Whether a token answers when it is asked for something simple.
enum class TokenState { Well, Ill };

/// What is known of the PINs of one token: tokens lock after a few wrong ones, so none is tried twice.
///
/// PINs are kept as HMAC-SHA-256 under a key that lives as long as the process: a copy of this memory without that key
/// does not let anybody search for a short PIN.
///
/// Thread safety: the caller holds `mutex` from the first question to the last answer, C_Login included, so that
/// threads that come with the same PIN cause one C_Login.
class LoginGuard {
 public:
  using PinDigest = std::array<std::byte, 32>;

  std::mutex mutex;

  [[nodiscard]] static PinDigest digest(ByteView pin);

  [[nodiscard]] bool refused_before(const PinDigest& pin) const { return refused_.contains(pin); }
  [[nodiscard]] bool another_is_in(const PinDigest& pin) const { return accepted_ && *accepted_ != pin; }

  void accepted(const PinDigest& pin) {
    accepted_ = pin;
    doubts_.clear();
    refused_.erase(pin);
  }
  /// Whether a failure that may mean a wrong PIN is rather the token's. Never more than two tries of a PIN that was not
  /// accepted before are given up to it, since tokens lock after three; one that was is tried again as long as the token
  /// is ill, and once if it is well.
  [[nodiscard]] bool give_benefit_of_doubt(const PinDigest& pin, TokenState state) {
    const bool known = accepted_ == pin;
    if (state == TokenState::Ill && known) return true;
    if (state == TokenState::Well && !known) return false;
    return ++doubts_[pin] <= (known ? 1U : 2U);
  }
  void refused(const PinDigest& pin) { refused_.insert(pin); }
  /// For a forked child, which is not logged in.
  void inherit(const LoginGuard& from) { refused_ = from.refused_; }

  /// Raised before and after each C_Login of hsmseal, so odd while one is under way: object handles may be numbered anew
  /// by each.
  std::atomic<std::uint64_t> logins = 0;
  /// Entered by calls that name a key; C_Login waits for them.
  CallGate key_uses;

 private:
  std::optional<PinDigest> accepted_;
  std::map<PinDigest, unsigned> doubts_;
  std::set<PinDigest> refused_;
};

}  // namespace hsmseal::pkcs11
