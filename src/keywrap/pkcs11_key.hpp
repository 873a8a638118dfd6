#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include <hsmseal/error.hpp>
#include <hsmseal/key_wrapper.hpp>

#include "keywrap/session_pool.hpp"
#include "keywrap/wrapping.hpp"

namespace hsmseal::keywrap {

/// What a key must open to be the one that is meant.
struct KnownProof {
  KekId kek_id;
  KeyProof proof;
};

/// What a key is there for.
enum class Direction {
  Both,
  UnwrapOnly,  ///< nothing is known of it but its CKA_ID, so it encrypts nothing, not even to see whether the token works
};

/// What a failed unwrapping says.
enum class Verdict {
  BadCiphertext,  ///< the token says that it does not open
  Unclear,        ///< the ciphertext, or the token
  Trouble,        ///< the token could not try
};
[[nodiscard]] Verdict verdict_on(const TokenError& error);

/// What is thrown when a key that only unwraps is to wrap.
[[nodiscard]] InvalidArgumentError unwraps_only();

/// A set's key, or two, found in a token: wraps and unwraps in sessions of a pool.
///
/// Thread safety: as KeyWrapper says.
class Pkcs11Key final : public KeyWrapper {
 public:
  /// @param proof  absent for a key that was just made or found, and for one that only unwraps.
  Pkcs11Key(std::shared_ptr<SessionPool> pool, FoundKeys keys, WrapProfile profile,
            std::optional<KnownProof> proof = std::nullopt, Direction direction = Direction::Both);

  /// Before the first one, what this token wraps is unwrapped again and compared: a token that uses another IV than the
  /// caller's would seal what nobody can open.
  /// @throws InvalidArgumentError  the key is there to unwrap only.
  [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override;

  /// Drivers answer a wrong tag with errors that also mean a broken device, and a MAC that differs may come from a wrong
  /// key. The proof, which is known to be right, shows which of the two it is: if it opens, and the original still does
  /// not, it was the ciphertext. A key that only unwraps may have none; then it was the ciphertext if it fails again
  /// though the token still shows the key.
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override;

  /// Whether the handles still stand for the keys that were found.
  [[nodiscard]] bool current() const { return keys_.current(); }

  /// Whether the token and the key work, shown by what is known.
  /// @throws WrongKeyError  another key answers.
  [[nodiscard]] bool answers() const;

 private:
  [[nodiscard]] Bytes wrap_once(ByteView key, ByteView aad) const;
  [[nodiscard]] SecretBytes unwrap_once(ByteView wrapped, ByteView aad) const;
  [[nodiscard]] bool round_trip_works() const;
  [[nodiscard]] bool is_shown() const;
  /// Whether the proof opens, and to what it should.
  [[nodiscard]] bool proof_opens() const;
  /// @throws WrongKeyError  the token unwraps to something else.
  void compare_after_wrap() const;
  /// The same until it succeeds. Not std::call_once, which some systems leave locked when an exception comes out of it.
  void compare_once();

  const std::shared_ptr<SessionPool> pool_;
  const FoundKeys keys_;
  const WrapProfile profile_;
  const std::optional<KnownProof> proof_;
  const Direction direction_;
  std::mutex comparing_;
  std::atomic<bool> compared_ = false;
};

}  // namespace hsmseal::keywrap
