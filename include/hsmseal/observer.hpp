#pragma once

#include <string>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>

namespace hsmseal {

/// Something that happened, for metrics and audit. Holds no secret.
struct Event {
  enum class Kind {
    Sealed,        ///< a secret was sealed under `version`
    Opened,        ///< an envelope of `version` was opened
    OpenRefused,   ///< an envelope of `version` was altered, or asked for with another context
    Rewrapped,     ///< an envelope was rewrapped to `version`
    SetAdded,      ///< `version` was added
    SetActivated,  ///< `version` is the active set now
    RingChanged,   ///< this host now works with another generation of the ring
  };
  Kind kind;
  RingId ring = {};
  Version version = 0;
  std::string token = {};  ///< the alias of the set's token; empty for RingChanged
};

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

}  // namespace hsmseal
