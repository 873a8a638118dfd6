#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>

namespace hsmseal {

/// Something that happened, for metrics and audit. Holds no secret.
struct Event {
  /// What happened, and what `version` means then.
  enum class Kind {
    Sealed,           ///< a secret was sealed under `version`
    Opened,           ///< an envelope of `version` was opened
    OpenRefused,      ///< an envelope of `version` was altered, or asked for with another context
    Rewrapped,        ///< an envelope was rewrapped to `version`; Rewrapper: also for others of its data key
    SetAdded,         ///< `version` was added
    SetActivated,     ///< `version` is the active set now
    SetAmended,       ///< how `version` is reached, or its description, was changed
    SetRemoved,       ///< `version` was removed; it can be restored
    SetRestored,      ///< `version` was restored
    SetPurged,        ///< the record of `version` was erased
    KeyDestroyed,     ///< the key of `version` was destroyed in its token
    RingChanged,      ///< this host now works with another generation of the ring
    RingStale,        ///< the store could not be read in time, or shows a record that is refused; at most once a second
    UsageNearLimit,   ///< the wraps under the key of `version` are past RingSettings::usage_soft_limit: add a set
    UsageNotCounted,  ///< wraps under the key of `version` are made without being counted: the store does not do it
    PinNotSaved,      ///< the pin's file could not be written; it is tried again with the next generation
    TokenLost,        ///< sessions, login or the token itself were lost while `version` was used
    TokenRecovered,   ///< the token is logged in to again, `duration` after the loss
    DriverRestarted,  ///< C_Finalize and C_Initialize were called, which took `duration`; `rv` is what the latter returned
    CallHung,         ///< a call did not return for `duration`; it was left, its session written off
    CircuitOpened,  ///< the token failed again and again: it is left alone for a while
    CircuitClosed,  ///< the token works again
    PinRefused,     ///< no login: the token refused the PIN, or hsmseal did, to keep the token from locking
  };
  Kind kind;                ///< what happened
  RingId ring = {};         ///< which ring it happened to; zero for what concerns a token (from TokenLost on)
  Version version = 0;      ///< the set, see Kind; of RingChanged the active one; otherwise 0
  std::string token = {};   ///< the alias of the set's token; empty for what concerns the ring as a whole
  std::string reason = {};  ///< of RingStale, PinNotSaved and what concerns tokens: the error's message
  std::uint64_t rv = 0;     ///< of what concerns tokens: the CK_RV that led to it
  std::chrono::milliseconds duration{0};  ///< see Kind
};

/// The name of a kind in texts, for ever the same: "set-added" for Event::Kind::SetAdded.
[[nodiscard]] HSMSEAL_API std::string_view to_string(Event::Kind kind) noexcept;

/// Receives events.
struct HSMSEAL_API Observer {
  Observer() = default;
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  virtual ~Observer();

  /// Called on the thread that did the work, after it was done.
  ///
  /// Thread safety: may be called concurrently.
  /// Blocking: the operation waits for it, so it should be quick. It must not call back into the ring or the encryptor.
  virtual void on_event(const Event& event) noexcept = 0;
};

/// An observer that passes each event on to several, one after the other: metrics and an audit log, for example.
///
/// @param observers  those that are null are left out.
[[nodiscard]] HSMSEAL_API std::shared_ptr<Observer> observe_all(std::vector<std::shared_ptr<Observer>> observers);

}  // namespace hsmseal
