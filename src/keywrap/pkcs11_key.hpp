#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include <hsmseal/error.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "keywrap/session_pool.hpp"
#include "pkcs11/handle_watch.hpp"

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

/// What is thrown when a key that only unwraps is to wrap.
[[nodiscard]] InvalidArgumentError unwraps_only();

/// A key found in a token: wraps and unwraps in sessions of a pool.
///
/// Thread safety: as KeyWrapper says.
class Pkcs11Key final : public KeyWrapper {
 public:
  /// @param proof  absent for a key that was just made or found, and for one that only unwraps.
  /// @param watch  taken before the key was made or found.
  Pkcs11Key(std::shared_ptr<SessionPool> pool, KeyHandle handle, pkcs11::HandleWatch watch, WrapProfile profile,
            std::optional<KnownProof> proof = std::nullopt, Direction direction = Direction::Both);

  /// Before the first one, what this token wraps is unwrapped again and compared: a token that uses another IV than the
  /// caller's would seal what nobody can open.
  /// @throws InvalidArgumentError  the key is there to unwrap only.
  [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override;

  /// Drivers answer a wrong tag with errors that also mean a broken device. The proof, which is known to be right,
  /// shows which of the two it is: if it opens, and the original still does not, it was the ciphertext. A key that only
  /// unwraps may have none; then it was the ciphertext if it fails again though the token still shows the key.
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override;

  /// Whether the handle still stands for the key that was found.
  [[nodiscard]] bool current() const { return watch_.still_names(handle_); }

  /// Whether the token and the key work, shown by what is known.
  /// @throws WrongKeyError  another key answers.
  [[nodiscard]] bool answers() const;

  /// Unwraps in a given session with a handle found in it, with the token's own error.
  [[nodiscard]] static SecretBytes unwrap_in(Pkcs11Session& session, KeyHandle handle, const pkcs11::HandleWatch& watch,
                                             ByteView wrapped, ByteView aad);

 private:
  [[nodiscard]] Bytes wrap_once(ByteView key, ByteView aad) const;
  [[nodiscard]] SecretBytes unwrap_once(ByteView wrapped, ByteView aad) const;
  [[nodiscard]] bool round_trip_works() const;
  [[nodiscard]] bool is_shown() const;
  /// @throws WrongKeyError  the token unwraps to something else.
  void compare_after_wrap() const;
  /// The same until it succeeds. Not std::call_once, which some systems leave locked when an exception comes out of it.
  void compare_once();

  const std::shared_ptr<SessionPool> pool_;
  const KeyHandle handle_;
  const pkcs11::HandleWatch watch_;
  const WrapProfile profile_;
  const std::optional<KnownProof> proof_;
  const Direction direction_;
  std::mutex comparing_;
  std::atomic<bool> compared_ = false;
};

}  // namespace hsmseal::keywrap
