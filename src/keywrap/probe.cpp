#include <hsmseal/probe.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/vendors.hpp>

#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"
#include "keywrap/made_key.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "keywrap/profile_choice.hpp"
#include "keywrap/profile_trial.hpp"
#include "keywrap/tokens.hpp"
#include "pkcs11/reactions.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal {
namespace {

using keywrap::FoundKeys;
using keywrap::Life;
using keywrap::MadeKey;
using keywrap::Pkcs11Key;
using keywrap::Trial;
using pkcs11::SessionAccess;
using Outcome = ProbeCheck::Outcome;

constexpr unsigned kMostTimedCalls = 10'000;
constexpr const char* kLabel = "hsmseal-probe";

TokenSelector exactly(const TokenInfo& token) {
  return {.label = token.label, .serial = token.serial, .model = token.model, .manufacturer = token.manufacturer};
}

/// Keys for one profile, gone with this object unless destroy() was called before.
class ProbeKeys {
 public:
  ProbeKeys(const Life& life, WrapAlgorithm algorithm, KeyLifetime lifetime)
      : pool_(life.shared_pool()), maker_(life.module(), exactly(life.token())) {
    try {
      make(KeyUse::EncryptDecrypt, lifetime);
      if (algorithm == WrapAlgorithm::Aes256CbcHmac) make(KeyUse::Mac, lifetime);
    } catch (...) {
      static_cast<void>(destroy());
      throw;
    }
  }
  ProbeKeys(const ProbeKeys&) = delete;
  ProbeKeys& operator=(const ProbeKeys&) = delete;
  ~ProbeKeys() {
    try {
      static_cast<void>(destroy());
    } catch (...) {
      // Session objects go with their session, others are told of by destroy().
    }
  }

  [[nodiscard]] FoundKeys found() const {
    return {made_.front().handle, made_.size() > 1 ? made_.back().handle : KeyHandle{}, made_.front().watch};
  }
  [[nodiscard]] const Bytes& id() const { return made_.front().as.id; }

  /// @returns what is to be said of keys that stay behind.
  [[nodiscard]] std::string destroy() { return keywrap::destroy_unused(*pool_, std::exchange(made_, {})); }

 private:
  void make(KeyUse use, KeyLifetime lifetime) {
    made_.push_back(keywrap::make_key(maker_, kLabel, use, lifetime));
    const SessionAccess::KeyUse fenced{maker_, made_.back().watch, made_.back().handle};
    SessionAccess::check_made_as_asked(maker_, made_.back().handle, made_.back().as);
  }

  const std::shared_ptr<keywrap::SessionPool> pool_;
  Pkcs11Session maker_;  ///< in which session objects live
  std::vector<MadeKey> made_;
};

/// The probe of one token, step by step.
class Prober {
 public:
  Prober(keywrap::TokenConnection& token, const ProbeOptions& options)
      : token_(token), options_(options), life_(token.connect_well(nullptr, 0)) {}

  ProbeReport run() {
    report_.token = life_->token();
    report_.driver = life_->module()->info();
    report_.mechanisms = life_->module()->mechanisms(exactly(report_.token));
    const SetSpec wishes{.algorithm = options_.algorithm, .gcm = options_.gcm};
    for (const WrapProfile& profile : keywrap::profiles_to_try(wishes, find_vendor(token_.binding().driver))) {
      const Trial::Finding finding = try_one(profile);
      if (finding != Trial::Finding::OtherWay) break;
    }
    check_sessions();
    check("keys-destroyed", "the keys of the probe are gone", [&] {
      if (keys_) left_behind_ += keys_->destroy();
      return left_behind_;
    });
    return std::move(report_);
  }

 private:
  /// @param work  returns what is wrong; empty: nothing.
  void check(std::string name, std::string title, const std::function<std::string()>& work) {
    ProbeCheck& made = report_.sessions.emplace_back();
    made.name = std::move(name);
    made.title = std::move(title);
    try {
      made.detail = work();
    } catch (const Error& error) {
      made.detail = error.what();
      if (made.detail.empty()) made.detail = "failed";
    }
    made.outcome = made.detail.empty() ? Outcome::Passed : Outcome::Failed;
    if (made.outcome == Outcome::Passed) made.detail = std::exchange(seen_, {});
  }
  void leave_out(std::string name, std::string title, std::string why) {
    report_.sessions.push_back({std::move(name), std::move(title), Outcome::NotTried, std::move(why)});
  }

  /// With session objects, or with token objects if those do not do.
  Trial::Finding try_one(const WrapProfile& profile) {
    Trial trial;
    for (const KeyLifetime lifetime : {KeyLifetime::Session, KeyLifetime::Token}) {
      trial = {};
      trial.shown.profile = profile;
      if (try_with(trial, lifetime)) break;
    }
    if (trial.shown.works()) {
      report_.chosen = trial.shown.profile;
    } else if (keys_) {
      left_behind_ += keys_->destroy();
      keys_.reset();
    }
    report_.trials.push_back(std::move(trial.shown));
    return report_.chosen ? Trial::Finding::Works : trial.finding;
  }

  /// @returns false if keys of another lifetime may do better.
  bool try_with(Trial& trial, KeyLifetime lifetime) {
    const auto failed = [&](const Error& error) {
      trial.finding = Trial::Finding::OtherWay;
      auto& checks = trial.shown.checks;
      if (checks.empty()) checks.push_back({"keys-made", "keys are made as asked for", Outcome::Failed, {}});
      checks.back().outcome = Outcome::Failed;
      checks.back().detail = error.what();
      return lifetime == KeyLifetime::Token;
    };
    try {
      keys_.reset();
      keys_ = std::make_unique<ProbeKeys>(*life_, trial.shown.profile.algorithm, lifetime);
      keywrap::try_profile(trial, life_->shared_pool(), keys_->found());
      return true;
    } catch (const TokenError& error) {
      const bool needs_no_second_key = trial.shown.profile.algorithm == WrapAlgorithm::Aes256Gcm;
      if (lifetime == KeyLifetime::Token && error.function() == "C_GenerateKey" && needs_no_second_key) throw;
      return failed(error);
    } catch (const WrongKeyError& error) {
      return failed(error);
    }
  }

  void check_sessions() {
    const auto pool = life_->shared_pool();
    check("login", "the token is logged in, if its binding says so", [&]() -> std::string {
      if (!token_.logs_in()) {
        seen_ = "its binding has no PIN";
        return "";
      }
      return life_->well() ? "" : "the session that holds the login is not logged in";
    });
    check("login-shared", "a second session is logged in with the first", [&]() -> std::string {
      Pkcs11Session second{life_->module(), exactly(report_.token)};
      return !token_.logs_in() || SessionAccess::logged_in(second) ? "" : "it is not";
    });
    check("sessions-side-by-side", "as many sessions as the binding allows are open side by side",
          [&] { return open_sessions(); });
    check("random", "the token draws random numbers", [&]() -> std::string {
      auto session = pool->acquire();
      return crypto::equal(session->random(32).view(), session->random(32).view()) ? "two draws are the same" : "";
    });
    if (!report_.chosen) {
      leave_out("key-found", "a key that is looked up twice has one handle", "no way to wrap was found");
      leave_out("failed-decryption", "a failed decryption leaves other sessions working", "no way to wrap was found");
      leave_out("wrong-tag", "the answer to a wrong tag is not that of a lost token", "no way to wrap was found");
      return;
    }
    check("key-found", "a key that is looked up twice has one handle", [&]() -> std::string {
      auto session = pool->acquire();
      const auto once = session->find_key({.id = keys_->id()}), again = session->find_key({.id = keys_->id()});
      if (!once || !again) return "it is not found";
      return once == again ? "" : "it has two";
    });
    check_failed_decryption();
    time_calls();
  }

  std::string open_sessions() {
    const std::size_t wanted = token_.binding().limits.max_sessions;
    std::vector<Pkcs11Session> open;
    std::string why;
    try {
      while (open.size() + life_->pool().open_sessions() < wanted) {
        open.emplace_back(life_->module(), exactly(report_.token));
      }
    } catch (const TokenError& error) {
      why = error.what();
    }
    const std::size_t there = open.size() + life_->pool().open_sessions();
    seen_ = fmt::format("{} sessions beside the one that holds the login", there);
    return why.empty() ? "" : fmt::format("{} of {}: {}", there, wanted, why);
  }

  void check_failed_decryption() {
    const WrapProfile& profile = *report_.chosen;
    const std::string working = "a failed decryption leaves other sessions working";
    const std::string answer = "the answer to a wrong tag is not that of a lost token";
    if (profile.algorithm != WrapAlgorithm::Aes256Gcm) {
      leave_out("failed-decryption", working, "MACs are checked on the host; the token does not see a wrong one");
      leave_out("wrong-tag", answer, "MACs are checked on the host; the token does not see a wrong one");
      return;
    }
    const auto pool = life_->shared_pool();
    std::string rv_name;
    keywrap::Verdict verdict{};
    check("failed-decryption", working, [&]() -> std::string {
      const SecretBytes secret = crypto::random_secret(32);
      auto other = pool->acquire();
      Bytes wrapped = keywrap::wrap_in(*other, keys_->found(), profile, secret.view(), {});
      wrapped.back() ^= std::byte{1};
      try {
        Pkcs11Session failing{life_->module(), exactly(report_.token)};
        static_cast<void>(keywrap::unwrap_in(failing, keys_->found(), profile, wrapped, {}));
        return "a wrong tag was opened";
      } catch (const TokenError& error) {
        rv_name = fmt::format("{} ({})", error.rv_name(), error.function());
        verdict = keywrap::verdict_on(error);
      }
      wrapped.back() ^= std::byte{1};
      const SecretBytes opened = keywrap::unwrap_in(*other, keys_->found(), profile, wrapped, {});
      return crypto::equal(opened.view(), secret.view()) ? "" : "another session then decrypted to something else";
    });
    check("wrong-tag", answer, [&]() -> std::string {
      if (rv_name.empty()) return "a wrong tag was not refused";
      seen_ = rv_name;
      return verdict == keywrap::Verdict::Trouble ? rv_name : "";
    });
  }

  void time_call(std::string function, const std::function<void()>& call) {
    std::vector<std::chrono::nanoseconds> took;
    for (unsigned i = 0; i < options_.timed_calls; ++i) {
      const auto began = std::chrono::steady_clock::now();
      call();
      took.push_back(std::chrono::steady_clock::now() - began);
    }
    if (took.empty()) return;
    std::ranges::sort(took);
    report_.times.push_back({std::move(function), took[took.size() / 2], took.back(), options_.timed_calls});
  }

  void time_calls() {
    check("timed", "calls can be timed", [&]() -> std::string {
      const auto pool = life_->shared_pool();
      Pkcs11Key key{pool, keys_->found(), *report_.chosen};
      const SecretBytes secret = crypto::random_secret(32);
      const Bytes wrapped = key.wrap(secret.view(), {});
      time_call("wrap", [&] { static_cast<void>(key.wrap(secret.view(), {})); });
      time_call("unwrap", [&] { static_cast<void>(key.unwrap(wrapped, {})); });
      time_call("C_GenerateRandom", [&] { static_cast<void>(pool->acquire()->random(32)); });
      time_call("C_FindObjects", [&] { static_cast<void>(pool->acquire()->find_key({.id = keys_->id()})); });
      time_call("C_OpenSession", [&] { Pkcs11Session{life_->module(), exactly(report_.token)}.close(); });
      seen_ = fmt::format("{} of each kind", options_.timed_calls);
      return "";
    });
  }

  keywrap::TokenConnection& token_;
  const ProbeOptions options_;
  const std::shared_ptr<Life> life_;
  ProbeReport report_;
  std::unique_ptr<ProbeKeys> keys_;  ///< of the trial under way, then of the chosen profile
  std::string left_behind_;
  std::string seen_;  ///< what a check that passes has to tell
};

}  // namespace

ProbeReport probe_token(const Host& host, const std::string& token, const ProbeOptions& options) {
  if (options.timed_calls > kMostTimedCalls) {
    throw InvalidArgumentError(fmt::format("at most {} calls of each kind are timed", kMostTimedCalls));
  }
  keywrap::Tokens tokens{host, {}};
  const auto connection = tokens.find(token);
  return connection->run([connection, options] { return Prober{*connection, options}.run(); });
}

}  // namespace hsmseal
