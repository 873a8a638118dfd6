#pragma once

#include <cstdint>
#include <string_view>

#include <hsmseal/error.hpp>

namespace hsmseal::pkcs11 {

/// What the outcome of a driver's call leads to, from the mildest to the last resort.
enum class Reaction {
  Proceed,      ///< no failure: it is so already
  BadData,      ///< the bytes do not open, or have a size that the key does not take; the token works
  Refuse,       ///< the key, the mechanism, the template or the configuration is at fault: only a person can help
  AskOperator,  ///< the PIN or the user's rights: no C_Login until the PIN changes
  GrowBuffer,   ///< the same call again with a larger buffer; the operation is still active
  Pause,        ///< the token is busy: another session, after a while
  Shrink,       ///< the token has no more room: fewer sessions, wait for one of them
  NewSession,   ///< this session is spent: another one, after a look at the one that keeps the login
  Prove,        ///< the data or the token: opening known bytes in another session tells which
  FindKey,      ///< the handle is stale: look the key up by its CKA_ID and prove it again
  NewLogin,     ///< all sessions are lost: open them anew, log in, look keys up again
  NewSlot,      ///< the slot is empty: look for the token in all slots, then as NewLogin
  Restart,      ///< C_Finalize and C_Initialize, if hsmseal may; then as NewSlot
};

/// Whether it is a means of recovery, and nothing for the caller or the operator to do.
[[nodiscard]] constexpr bool is_rung(Reaction reaction) noexcept { return reaction > Reaction::GrowBuffer; }

/// How often it went wrong without a success in between.
enum class Attempt { First, Second, Later };

/// The reaction to one return value of one C_ function. Total: any function and any number have one.
///
/// One table for the whole library, from which retryable() is derived too. Only calls that change nothing in the token
/// are made again: for C_GenerateKey and C_DestroyObject the reaction says what is to be done before the next call.
///
/// Thread safety: any thread.
[[nodiscard]] Reaction reaction(std::string_view function, std::uint64_t rv, Attempt attempt) noexcept;

/// Whether the same call may succeed later with nothing changed, once a new session, a new login or a device that is
/// back makes it possible.
///
/// Never true for a PIN, nor for what the caller's key, mechanism, template or data is at fault for: of C_Login's
/// failures only for those that say that it did not come to judge the PIN.
///
/// Thread safety: any thread.
[[nodiscard]] bool retryable(std::string_view function, std::uint64_t rv) noexcept;

/// Whether the handle of a key was not known: the key is to be looked up anew.
///
/// Thread safety: any thread.
[[nodiscard]] bool lost_sight(const TokenError& error) noexcept;

/// "NewLogin" and so on.
[[nodiscard]] std::string_view name_of(Reaction reaction) noexcept;

}  // namespace hsmseal::pkcs11
