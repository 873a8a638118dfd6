#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "pkcs11/driver.hpp"
#include "pkcs11/handle_watch.hpp"
#include "pkcs11/reactions.hpp"

namespace hsmseal {

namespace pkcs11 {

inline CK_ULONG size_of(ByteView bytes) noexcept { return static_cast<CK_ULONG>(bytes.size()); }

inline CK_BYTE_PTR start_of(Bytes& buffer) noexcept { return out(buffer); }
inline CK_BYTE_PTR start_of(SecretBytes& buffer) noexcept { return out(buffer.writable()); }

inline CK_ATTRIBUTE attribute(CK_ATTRIBUTE_TYPE type, ByteView value) { return {type, in(value), size_of(value)}; }

template <typename Value>
CK_ATTRIBUTE attribute(CK_ATTRIBUTE_TYPE type, const Value& value) {
  return attribute(type, std::as_bytes(std::span{&value, 1}));
}

}  // namespace pkcs11

/// What is behind a session: its calls are in session.cpp, those about keys in session_keys.cpp.
struct Pkcs11Session::State {
  std::shared_ptr<pkcs11::Driver> driver;
  TokenSelector selector;
  TokenInfo token;
  CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
  std::uint64_t life = 0;  ///< of the driver, in which the session was opened
  pkcs11::OpenSessions::Lost lost;
  pkcs11::LoginGuard* guard = nullptr;  ///< the token's; lives as long as the process
  struct KeyUse {
    const pkcs11::HandleWatch& watch;
    KeyHandle key;
  };
  std::optional<KeyUse> key_use;  ///< the key that calls are about, if it is watched
  bool open = false;
  bool spent = false;

  template <typename Function, typename... Arguments>
  CK_RV call(Function CK_FUNCTION_LIST::*function, Arguments... arguments) {
    if (*lost) return CKR_SESSION_HANDLE_INVALID;
    const auto call_now = [&] {
      const CK_RV rv = driver->call_in_life(life, function, handle, arguments...);
      // Its number may belong to another session by now, which must be neither used nor closed.
      if (rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED) *lost = true;
      return rv;
    };
    if (!key_use) return call_now();
    const pkcs11::CallGate::Visit visit{guard->key_uses};
    if (!visit.inside() || !key_use->watch.still_names(key_use->key)) return CKR_KEY_HANDLE_INVALID;
    return call_now();
  }

  /// Gives the session up after a failed call: it may be left in an operation that cannot be ended.
  [[noreturn]] void fail(std::string_view name, CK_RV rv) {
    spent = true;
    pkcs11::throw_failure(name, rv, token.label);
  }

  /// Calls, and gives the session up if the call fails.
  template <typename Function, typename... Arguments>
  void must(std::string_view name, Function CK_FUNCTION_LIST::*function, Arguments... arguments) {
    if (const CK_RV rv = call(function, arguments...); rv != CKR_OK) fail(name, rv);
  }

  void check_usable() const {
    if (driver->forked()) pkcs11::throw_forked(token.label);
    if (!open) throw InvalidArgumentError(fmt::format("the session with token '{}' is closed", token.label));
    if (spent) {
      throw InvalidArgumentError(
          fmt::format("a call failed in this session with token '{}'; open a new session", token.label));
    }
  }

  [[noreturn]] void broken_promise(std::string_view function, std::string_view what) {
    spent = true;
    throw TokenError(
        pkcs11::failure(function, CKR_OK),
        fmt::format("{} on token '{}' returned CKR_OK but {}; nothing was used", function, token.label, what));
  }

  /// Calls with a buffer for the result, and once more with a larger one if the driver wants that: the operation is
  /// still active then (PKCS#11 2.40 section 5.2).
  template <typename Buffer, typename Function>
  CK_ULONG must_fill(std::string_view name, Function CK_FUNCTION_LIST::*function, ByteView data, Buffer& buffer) {
    auto size = static_cast<CK_ULONG>(buffer.size());
    const auto fill = [&] {
      return call(function, pkcs11::in(data), pkcs11::size_of(data), pkcs11::start_of(buffer), &size);
    };
    CK_RV rv = fill();
    if (pkcs11::reaction(name, rv, pkcs11::Attempt::First) == pkcs11::Reaction::GrowBuffer) {
      buffer = Buffer(std::clamp<std::size_t>(size, 2 * buffer.size(), 16 * buffer.size()));
      size = static_cast<CK_ULONG>(buffer.size());
      rv = fill();
    }
    if (rv != CKR_OK) fail(name, rv);
    return size;
  }

  bool logged_in();
  CK_RV call_login(CK_BYTE_PTR pin, CK_ULONG size);
  bool token_is_well();
  void refuse_risky_login(LowPinCount low_pin_count);
  void login(ByteView pin, LowPinCount low_pin_count);
  void login_at_token(LowPinCount low_pin_count);

  /// The objects that match, the first `most` of them at most. The caller holds `object_store`.
  std::vector<CK_OBJECT_HANDLE> search(std::vector<CK_ATTRIBUTE> pattern, std::size_t most);

  /// One attribute with the call's own result.
  struct Read {
    CK_RV rv = CKR_OK;
    std::optional<Bytes> value = {};  ///< absent also where the token does not tell, or tells more than `most` bytes
  };
  Read try_read(KeyHandle key, CK_ATTRIBUTE_TYPE type, std::size_t most);
  std::optional<Bytes> read_attribute(KeyHandle key, CK_ATTRIBUTE_TYPE type, std::size_t most);
  template <typename Value>
  std::optional<Value> fixed_attribute(KeyHandle key, CK_ATTRIBUTE_TYPE type);
  std::optional<bool> flag(KeyHandle key, CK_ATTRIBUTE_TYPE type);

  /// The caller holds `object_store`.
  KeyHandle generate(const KeyTemplate& key);
  /// C_DecryptInit and C_Decrypt, until it is clear that the token has filled the buffer.
  /// @param begin  makes the mechanism anew. @param due  how many bytes must come out.
  SecretBytes decrypt(KeyHandle key, const std::function<CK_MECHANISM*()>& begin, ByteView ciphertext, std::size_t due);
  /// Destroys the key that was made a moment ago, unless its handle may be another's by now.
  /// @returns why it was not destroyed; empty if it was.
  std::string destroy_made(KeyHandle made, ByteView id);
};

}  // namespace hsmseal
