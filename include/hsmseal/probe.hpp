#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/token_binding.hpp>

namespace hsmseal {

/// One thing that was tried on a token.
struct ProbeCheck {
  /// How it ended.
  enum class Outcome {
    Passed,    ///< as hsmseal needs it
    Failed,    ///< not so; `detail` says what came instead
    NotTried,  ///< something before it failed, or it was left out on purpose; `detail` says which
  };
  std::string name;                     ///< stable, in lower case with dashes: `gcm-changed-tag`
  std::string title;                    ///< for people: `a changed tag is refused`
  Outcome outcome = Outcome::NotTried;  ///< how it ended
  std::string detail = {};              ///< CK_RV names and lengths, never key or PIN
};

/// One way to wrap, and how it went.
struct ProfileTrial {
  WrapProfile profile;                           ///< what was tried
  std::vector<ProbeCheck> checks;                ///< in the order in which they were made
  [[nodiscard]] HSMSEAL_API bool works() const;  ///< whether every check passed
};

/// How long a call took, over several.
struct CallTime {
  std::string function;                 ///< `C_Encrypt`, say, or `wrap` and `unwrap` for hsmseal's own
  std::chrono::nanoseconds median{0};   ///< half took less
  std::chrono::nanoseconds slowest{0};  ///< the worst
  unsigned calls = 0;                   ///< how many were made
};

/// What a probe of a token showed.
struct ProbeReport {
  ModuleInfo driver;                      ///< CK_INFO
  TokenInfo token;                        ///< CK_TOKEN_INFO
  std::vector<MechanismInfo> mechanisms;  ///< what the token says it can do
  std::vector<ProfileTrial> trials;       ///< in the order tried: those that `add` would try, and no more
  std::optional<WrapProfile> chosen;      ///< the one that `add` would take; absent: a set would be refused
  std::vector<ProbeCheck> sessions;       ///< login, sessions side by side, searches, errors: what recovery relies on
  std::vector<CallTime> times;            ///< with the chosen profile
};

/// What a probe may do.
struct ProbeOptions {
  std::optional<WrapAlgorithm> algorithm = {};  ///< as SetSpec::algorithm
  std::optional<GcmForm> gcm = {};              ///< as SetSpec::gcm
  unsigned timed_calls = 32;                    ///< of each kind; 0 to 10000
};

/// Tries on a token everything that hsmseal needs of it, with keys of its own that are gone afterwards: session objects,
/// or, where the token has no such keys, token objects that are destroyed again.
///
/// What add() does when it chooses a WrapProfile, without a ring. A check that fails is in the report; what throws is what
/// keeps anything from being tried.
///
/// @param token  the alias of a token bound on `host`.
/// @throws InvalidArgumentError  no such token is bound, or its driver cannot be loaded.
/// @throws TokenError            no such token is there, its login failed, or it makes no keys.
/// Thread safety: any thread; each call has sessions of its own.
/// Blocking: some hundred calls of the driver. One that hangs is left at Deadline::current(), with HangPolicy::Isolated.
[[nodiscard]] HSMSEAL_API ProbeReport probe_token(const Host& host, const std::string& token,
                                                  const ProbeOptions& options = {});

}  // namespace hsmseal
