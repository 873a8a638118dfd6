#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "core/flight.hpp"
#include "keywrap/call_threads.hpp"
#include "keywrap/circuit.hpp"
#include "keywrap/life.hpp"
#include "pkcs11/reactions.hpp"

namespace hsmseal::keywrap {

/// One token of this host: its driver, and the way back to it when it was lost.
///
/// Thread safety: all members may run concurrently.
class TokenConnection {
 public:
  /// Touches nothing yet.
  TokenConnection(std::string alias, TokenBinding binding, DriverOptions driver, const Pkcs11Options& options);
  TokenConnection(const TokenConnection&) = delete;
  TokenConnection& operator=(const TokenConnection&) = delete;
  ~TokenConnection();

  /// What a credential set remembers of the token.
  struct Identity {
    std::string label, serial;
  };

  /// The present life of the connection. If there is none, one thread makes it, and those that come meanwhile share the
  /// outcome: loads the driver, opens the anchor and logs in, and climbs from milder means to stronger ones as long as the
  /// errors say that these may help. No PIN is tried twice.
  ///
  /// @param expected  what the token must be called; compared before any PIN is sent. Null: any.
  /// @param version   the set for whose sake, for events; 0: none.
  /// @throws WrongKeyError         it is another token.
  /// @throws InvalidArgumentError, TokenError  as Pkcs11Module::load(), Pkcs11Session and Pkcs11Session::login().
  [[nodiscard]] std::shared_ptr<Life> connect(const Identity* expected, Version version);

  /// connect() for what cannot be done twice: a life that is not well is given up first.
  [[nodiscard]] std::shared_ptr<Life> connect_well(const Identity* expected, Version version);

  /// Gives a life up, so that connect() begins another with what `reaction` says. Does nothing if that happened before.
  void lost(const std::shared_ptr<Life>& life, pkcs11::Reaction reaction, const TokenError& error, Version version);

  /// How often the token has failed since it last worked, counting this failure after so many in the same operation.
  [[nodiscard]] pkcs11::Attempt attempt(unsigned failures_before) const noexcept;
  /// The same for an operation that failed in `life`: if that is over, others count what they have seen of its end.
  [[nodiscard]] pkcs11::Attempt attempt_in(const std::shared_ptr<Life>& life, unsigned failures_before);

  /// Runs one operation as the binding's HangPolicy says, unless the circuit is open.
  ///
  /// @param work  owns everything it refers to; see CallThreads::run().
  template <typename Work>
  auto operate(Work work, Version version) {
    const Time began = std::chrono::steady_clock::now();
    check_time_left(began);
    const auto admission = circuit_.admit(options_.clock());
    try {
      auto result = run(std::move(work));
      worked(version);
      return result;
    } catch (const TokenError& error) {
      failed(error, admission, began, version);
      throw;
    } catch (const OpenError&) {
      worked(version);
      throw;
    } catch (const KeyNotFoundError&) {
      worked(version);
      throw;
    } catch (const WrongKeyError&) {
      worked(version);
      throw;
    } catch (...) {
      circuit_.neither_worked_nor_failed(admission);
      throw;
    }
  }

  /// The same for what operators do, whatever the circuit says.
  template <typename Work>
  auto run(Work work) {
    return threads_ ? threads_->run(std::move(work)) : work();
  }

  [[nodiscard]] const std::string& alias() const noexcept { return alias_; }
  [[nodiscard]] const TokenBinding& binding() const noexcept { return binding_; }
  [[nodiscard]] HangPolicy hang_policy() const noexcept { return binding_.hang_policy; }

  /// Whether the binding says how to log in.
  [[nodiscard]] bool logs_in() const noexcept { return binding_.pin.kind() != PinSource::Kind::None; }

 private:
  using Time = std::chrono::steady_clock::time_point;
  /// What outlives a connection.
  struct Grounds {
    std::shared_ptr<Pkcs11Module> module;
    std::uint64_t driver_life = 0;            ///< in which the last try was made
    std::optional<TokenInfo> refusing_token;  ///< what refused the PIN last
  };
  struct Loss {
    Time when;
    std::uint64_t rv;
  };

  void check_time_left(Time now) const;
  void check_identity(const TokenInfo& found, const Identity* expected) const;
  [[nodiscard]] std::shared_ptr<Life> climb(Grounds& grounds, const Identity* expected, pkcs11::Reaction rung,
                                            Version version);
  [[nodiscard]] std::shared_ptr<Life> begin_life(Grounds& grounds, const Identity* expected);
  [[nodiscard]] std::optional<SecretBytes> pin_after_refusal(const Grounds& grounds, const Identity* expected) const;
  /// @returns the next rung. @throws the error that is being handled, if there is none or no time for it.
  [[nodiscard]] pkcs11::Reaction next_rung(const TokenError& error, unsigned tries);
  /// @param cause  the CK_RV that led to it.
  /// @returns false if it may not be, or not yet. @throws TokenError  the driver does not start.
  bool restart(const Grounds& grounds, std::uint64_t cause, Version version);
  /// Ends a flight and keeps what it has led to, unless another one that started later was faster.
  void keep(const std::shared_ptr<core::Flight>& flight, Grounds grounds, const std::shared_ptr<Life>& life,
            Version version);
  void worked(Version version);
  void failed(const TokenError& error, Circuit::Admission admission, Time began, Version version);
  void tell(Event::Kind kind, Version version, std::uint64_t rv, std::chrono::steady_clock::duration duration,
            const std::string& reason) const;

  const std::string alias_;
  const TokenBinding binding_;
  const DriverOptions driver_;
  const Pkcs11Options options_;
  Circuit circuit_;
  std::atomic<unsigned> strikes_ = 0;     ///< failures since the token last worked
  std::mutex mutex_;                      ///< guards what follows; not held while the token is called
  std::shared_ptr<core::Flight> flight_;  ///< the one under way, if any
  std::shared_ptr<Life> life_;
  pkcs11::Reaction rung_ = pkcs11::Reaction::NewLogin;  ///< what the next flight begins with
  std::optional<Loss> loss_;
  Grounds grounds_;                       ///< what the next flight starts from
  std::unique_ptr<CallThreads> threads_;  ///< null with HangPolicy::Direct; the first to be destroyed
};

}  // namespace hsmseal::keywrap
