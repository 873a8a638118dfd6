#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/pkcs11_session.hpp>

#include "pkcs11/handle_watch.hpp"

namespace hsmseal::pkcs11 {

/// A secret key as a list shows it.
struct ListedKey {
  Bytes id;           ///< CKA_ID, 1 to 255 bytes
  std::string label;  ///< CKA_LABEL
};

/// What hsmseal does with a session and applications shall not by accident.
///
/// @throws from every function that calls the driver: TokenError.
struct SessionAccess {
  /// While it lives, every call in the session is about one key, and is not made (CKR_KEY_HANDLE_INVALID) once the
  /// handle may name another.
  class KeyUse {
   public:
    /// @param watch  must outlive this.
    KeyUse(Pkcs11Session& session, const HandleWatch& watch, KeyHandle key);
    KeyUse(const KeyUse&) = delete;
    KeyUse& operator=(const KeyUse&) = delete;
    ~KeyUse();

   private:
    Pkcs11Session& session_;
  };

  /// The secret keys whose labels are wanted. Left out: a key that vanishes while it is read, and one whose CKA_ID does
  /// not have 1 to 255 bytes.
  [[nodiscard]] static std::vector<ListedKey> list_keys(Pkcs11Session& session,
                                                        const std::function<bool(std::string_view)>& wanted);

  /// Checks that what was not found is not only invisible.
  /// @throws TokenError  the token wants a login and the process is not logged in.
  static void check_private_keys_visible(Pkcs11Session& session);

  /// generate_aes_key() and generate_mac_key() in two steps, for tokens that may not show a new key at once.
  [[nodiscard]] static KeyHandle generate_unchecked_key(Pkcs11Session& session, const KeyTemplate& key);
  /// @throws WrongKeyError  the token did not keep to the template; nothing is destroyed.
  static void check_made_as_asked(Pkcs11Session& session, KeyHandle made, const KeyTemplate& key);

  /// HMAC-SHA-256 in the token under a key that the caller knows too: a session object, gone afterwards.
  /// @returns nothing if the token takes no keys from outside.
  [[nodiscard]] static std::optional<Bytes> mac_with_known_key(Pkcs11Session& session, ByteView value, ByteView data);

  /// The CKA_ID behind a handle; nothing if the token does not tell.
  [[nodiscard]] static std::optional<Bytes> key_id(Pkcs11Session& session, KeyHandle key);

  /// What is held from the search for a key to its destruction: of two that destroy one key, the second must not come
  /// with a handle whose number the driver has given to another key meanwhile.
  [[nodiscard]] static std::unique_lock<std::mutex> one_destruction_at_a_time(const Pkcs11Session& session);

  /// Destroys a key of any age, for ever. The caller has found and proved it in this very session, and holds
  /// one_destruction_at_a_time().
  ///
  /// @param id  the CKA_ID that it was found by, read once more first.
  /// @throws WrongKeyError  the handle has become another key's, which was not destroyed.
  static void destroy_key(Pkcs11Session& session, KeyHandle key, const Bytes& id);

  /// For the keys that are looked up in this session from now on.
  [[nodiscard]] static HandleWatch watch_handles(const Pkcs11Session& session);

  /// Whether the process is logged in to the session's token.
  [[nodiscard]] static bool logged_in(Pkcs11Session& session);

  /// Whether the token has refused this PIN in this process.
  [[nodiscard]] static bool refused_before(Pkcs11Module& module, const TokenInfo& token, ByteView pin);

  /// Whether C_GetSessionInfo still answers.
  [[nodiscard]] static bool answers(Pkcs11Session& session);

  /// Uses the token a little, so that its connection does not look idle.
  static void keep_alive(Pkcs11Session& session);

  [[nodiscard]] static Driver& driver(const Pkcs11Module& module);
};

}  // namespace hsmseal::pkcs11
