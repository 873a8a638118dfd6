#include "keywrap/token_connection.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "pkcs11/session_access.hpp"
#include "platform/platform.hpp"

namespace hsmseal::keywrap {

using pkcs11::Attempt;
using pkcs11::Driver;
using pkcs11::Reaction;

namespace {

constexpr std::chrono::milliseconds kFirstPause{20};
constexpr unsigned kMostTries = 6;
constexpr std::chrono::seconds kLockPatience{2};

Attempt attempt_after(unsigned failures) noexcept {
  if (failures == 0) return Attempt::First;
  return failures == 1 ? Attempt::Second : Attempt::Later;
}

/// Processes that start on one driver at the same moment disturb each other: SoftHSM 2.6.1 misses tokens in C_Initialize
/// while another process is in C_Login. A lock that is not to be had is no reason not to start.
std::optional<platform::PathLock> one_start_at_a_time(const std::filesystem::path& driver) {
  try {
    const auto patience = std::min<std::chrono::steady_clock::duration>(
        kLockPatience, Deadline::current() - std::chrono::steady_clock::now());
    return std::optional<platform::PathLock>{std::in_place, driver,
                                             std::chrono::duration_cast<std::chrono::milliseconds>(patience)};
  } catch (const InvalidArgumentError&) {
    return std::nullopt;
  }
}

}  // namespace

TokenConnection::TokenConnection(std::string alias, TokenBinding binding, DriverOptions driver,
                                 const Pkcs11Options& options)
    : alias_(std::move(alias)),
      binding_(std::move(binding)),
      driver_(std::move(driver)),
      options_(options),
      circuit_(alias_, options.circuit) {
  if (binding_.hang_policy == HangPolicy::Direct) return;
  // One more than sessions, for who looks whether the token is back.
  threads_ = std::make_unique<CallThreads>(alias_, binding_.limits.max_sessions + 1);
}

TokenConnection::~TokenConnection() {
  if (!threads_ || !life_) return;
  // Closing sessions calls the driver, which may hang.
  try {
    const Deadline patience{std::chrono::seconds{2}};
    threads_->run([life = std::move(life_)]() mutable {
      life.reset();
      return true;
    });
  } catch (...) {
    // They are closed when the driver lets go of them.
  }
}

void TokenConnection::tell(Event::Kind kind, Version version, std::uint64_t rv,
                           std::chrono::steady_clock::duration duration, const std::string& reason) const {
  if (!options_.observer) return;
  options_.observer->on_event(
      {kind, {}, version, alias_, reason, rv, std::chrono::duration_cast<std::chrono::milliseconds>(duration)});
}

/// No operation begins after its deadline, nor does it count against the token.
void TokenConnection::check_time_left(Time now) const {
  if (now < Deadline::current()) return;
  throw TokenUnavailableError(pkcs11::failure("", CKR_SESSION_COUNT),
                              fmt::format("the deadline was over before token '{}' was asked", alias_));
}

std::shared_ptr<Life> TokenConnection::connect_well(const Identity* expected, Version version) {
  auto life = connect(expected, version);
  if (life->well()) return life;
  lost(life, Reaction::NewLogin,
       TokenError(pkcs11::failure("C_GetSessionInfo", CKR_USER_NOT_LOGGED_IN),
                  fmt::format("token '{}' was lost while it was not used", alias_)),
       version);
  return connect(expected, version);
}

void TokenConnection::check_identity(const TokenInfo& found, const Identity* expected) const {
  if (expected == nullptr || (expected->label == found.label && expected->serial == found.serial)) return;
  throw WrongKeyError(
      fmt::format("token '{}' is '{}' (serial {}) on this host, but the set names '{}' (serial {}); its key is not "
                  "looked for there; correct the binding",
                  alias_, found.label, found.serial, expected->label, expected->serial));
}

// --- one flight for all who need a connection ------------------------------------------------------------------------

std::shared_ptr<Life> TokenConnection::connect(const Identity* expected, Version version) {
  std::shared_ptr<core::Flight> mine;
  Reaction rung{};
  Grounds grounds;
  {
    std::unique_lock lock{mutex_};
    for (;;) {
      if (life_ && !life_->current()) life_.reset();  // another token's connection has restarted the driver
      if (life_) {
        check_identity(life_->token(), expected);
        return life_;
      }
      if (!flight_) break;
      const auto others = flight_;
      lock.unlock();
      const bool landed = others->wait(
          fmt::format("the connection to token '{}', which another thread is making, was not there in time", alias_));
      lock.lock();
      if (!landed && flight_ == others) flight_.reset();
    }
    mine = flight_ = std::make_shared<core::Flight>();
    rung = std::exchange(rung_, Reaction::NewLogin);
    grounds = grounds_;
  }
  try {
    auto life = climb(grounds, expected, rung, version);
    keep(mine, std::move(grounds), life, version);
    mine->land();
    return life;
  } catch (const WrongKeyError&) {
    keep(mine, std::move(grounds), nullptr, version);
    mine->land();  // another set may expect this very token
    throw;
  } catch (...) {
    keep(mine, std::move(grounds), nullptr, version);
    mine->fail(std::current_exception());
    throw;
  }
}

void TokenConnection::keep(const std::shared_ptr<core::Flight>& flight, Grounds grounds,
                           const std::shared_ptr<Life>& life, Version version) {
  std::optional<Loss> over;
  {
    const std::scoped_lock lock{mutex_};
    if (flight_ == flight) {
      flight_.reset();
      grounds_ = std::move(grounds);
    }
    if (life_ || !life) return;
    over = std::exchange(loss_, std::nullopt);
    life_ = life;
  }
  if (over) tell(Event::Kind::TokenRecovered, version, over->rv, options_.clock() - over->when, "");
}

void TokenConnection::lost(const std::shared_ptr<Life>& life, Reaction reaction, const TokenError& error,
                           Version version) {
  std::shared_ptr<Life> over;  // its sessions are closed without the lock
  {
    const std::scoped_lock lock{mutex_};
    if (life_ != life) return;
    over = std::exchange(life_, nullptr);
    rung_ = reaction;
    ++strikes_;
    if (!loss_) loss_ = Loss{options_.clock(), error.rv()};
  }
  tell(Event::Kind::TokenLost, version, error.rv(), {}, error.what());
  over->retire();
}

Attempt TokenConnection::attempt(unsigned failures_before) const noexcept {
  return attempt_after(strikes_ + failures_before);
}

Attempt TokenConnection::attempt_in(const std::shared_ptr<Life>& life, unsigned failures_before) {
  const std::scoped_lock lock{mutex_};
  return attempt_after(life == life_ ? strikes_ + failures_before : failures_before);
}

// --- the ladder --------------------------------------------------------------------------------------------------------

std::shared_ptr<Life> TokenConnection::climb(Grounds& grounds, const Identity* expected, Reaction rung,
                                             Version version) {
  const std::optional<platform::PathLock> alone = one_start_at_a_time(driver_.library);
  if (rung == Reaction::Restart && grounds.module) {
    std::uint64_t cause = CKR_GENERAL_ERROR;
    {
      const std::scoped_lock lock{mutex_};
      if (loss_) cause = loss_->rv;
    }
    restart(grounds, cause, version);  // or not: then a new login may do
  }
  for (unsigned tries = 1;; ++tries) {
    try {
      return begin_life(grounds, expected);
    } catch (const TokenLoginError& error) {
      tell(Event::Kind::PinRefused, version, error.rv(), {}, error.what());
      throw;
    } catch (const TokenError& error) {
      if (next_rung(error, tries) == Reaction::Restart && !restart(grounds, error.rv(), version)) throw;
    }
  }
}

Reaction TokenConnection::next_rung(const TokenError& error, unsigned tries) {
  // A login that failed for the token's sake says what any other first call would.
  const bool login = error.function() == "C_Login";
  const Reaction rung = pkcs11::reaction(login ? "C_OpenSession" : error.function(), error.rv(), attempt(0));
  ++strikes_;
  if (!pkcs11::is_rung(rung)) throw;
  if (login) {
    // Not again in this flight: should the PIN be wrong after all, each try counts.
    const std::scoped_lock lock{mutex_};
    rung_ = rung;
    throw;
  }
  const auto pause = kFirstPause * (1U << (tries - 1));
  if (tries == kMostTries || std::chrono::steady_clock::now() + pause >= Deadline::current()) throw;
  std::this_thread::sleep_for(pause);
  return rung;
}

bool TokenConnection::restart(const Grounds& grounds, std::uint64_t cause, Version version) {
  if (!grounds.module) return false;  // the driver did not even start: the next try loads it again
  Driver& driver = pkcs11::SessionAccess::driver(*grounds.module);
  const auto urgency = cause == CKR_CRYPTOKI_NOT_INITIALIZED ? Driver::Urgency::AllLost : Driver::Urgency::TokenMissing;
  const auto began = options_.clock();
  try {
    if (driver.restart(grounds.driver_life, urgency, this, began) != Driver::Restarted::Yes) return false;
  } catch (const TokenError& error) {
    ++strikes_;
    tell(Event::Kind::DriverRestarted, version, error.rv(), options_.clock() - began, error.what());
    throw;
  }
  tell(Event::Kind::DriverRestarted, version, CKR_OK, options_.clock() - began, "");
  return true;
}

std::optional<SecretBytes> TokenConnection::pin_after_refusal(const Grounds& grounds, const Identity* expected) const {
  if (!grounds.refusing_token || !grounds.module || binding_.pin.kind() != PinSource::Kind::Pin) return std::nullopt;
  check_identity(*grounds.refusing_token, expected);
  SecretBytes pin = binding_.pin.read(binding_.select);
  if (!pkcs11::SessionAccess::refused_before(*grounds.module, *grounds.refusing_token, pin.view())) return pin;
  throw TokenLoginError(pkcs11::failure("C_Login", CKR_PIN_INCORRECT),
                        fmt::format("no login to token '{}': it refused this PIN before; C_Login is not called again "
                                    "until the PIN changes",
                                    grounds.refusing_token->label));
}

std::shared_ptr<Life> TokenConnection::begin_life(Grounds& grounds, const Identity* expected) {
  const std::optional<SecretBytes> changed_pin = pin_after_refusal(grounds, expected);
  if (!grounds.module) grounds.module = Pkcs11Module::load(driver_);
  grounds.driver_life = pkcs11::SessionAccess::driver(*grounds.module).life();
  Pkcs11Session anchor{grounds.module, binding_.select};
  const TokenInfo found = anchor.token();
  check_identity(found, expected);
  const std::size_t most = pool_limit(binding_.limits.max_sessions, found.max_sessions);
  if (most == 0) {
    throw InvalidArgumentError(
        fmt::format("token '{}' allows one session only; hsmseal needs one for the login and one to work", alias_));
  }
  try {
    const PinSource pin =
        changed_pin ? PinSource::callback([&](const TokenSelector&) { return SecretBytes{changed_pin->view()}; })
                    : binding_.pin;
    anchor.login(pin, binding_.low_pin_count);
    grounds.refusing_token.reset();
  } catch (const TokenLoginError&) {
    grounds.refusing_token = found;
    throw;
  }
  // From here on it is this very token, even if another takes over its label or its slot.
  const TokenSelector exactly{
      .label = found.label, .serial = found.serial, .model = found.model, .manufacturer = found.manufacturer};
  auto pool = std::make_shared<SessionPool>(
      alias_,
      [module = grounds.module, exactly] {
        return Pkcs11Session{module, exactly};
      },
      most, binding_.limits);
  auto life = std::make_shared<Life>(grounds.module, grounds.driver_life, std::move(anchor),
                                     logs_in() ? Life::Login::Made : Life::Login::NotNeeded, std::move(pool));
  life->begin(this, binding_.limits.keep_alive);
  return life;
}

// --- the circuit -------------------------------------------------------------------------------------------------------

void TokenConnection::worked(Version version) {
  if (strikes_ != 0) strikes_ = 0;
  if (circuit_.worked() == Circuit::Change::Closed) tell(Event::Kind::CircuitClosed, version, CKR_OK, {}, "");
}

void TokenConnection::failed(const TokenError& error, Circuit::Admission admission, Time began, Version version) {
  const bool in_no_call = error.function().empty();
  if (in_no_call && error.rv() == CKR_FUNCTION_CANCELED) {
    tell(Event::Kind::CallHung, version, error.rv(), std::chrono::steady_clock::now() - began, error.what());
  }
  // Too many callers at once, or a person's fault: the token is well.
  const bool no_room = in_no_call && error.rv() == CKR_SESSION_COUNT;
  if (!error.retryable() || no_room) return circuit_.neither_worked_nor_failed(admission);
  if (circuit_.failed(admission, options_.clock(), error.what()) == Circuit::Change::Opened) {
    tell(Event::Kind::CircuitOpened, version, error.rv(), {}, error.what());
  }
}

}  // namespace hsmseal::keywrap
