#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "support/catch.hpp"
#include "support/faultyhsm.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using namespace std::chrono_literals;

namespace {

using SteadyClock = std::chrono::steady_clock;
using Random = std::mt19937_64;

constexpr std::chrono::milliseconds kDeadline{1'000};
constexpr std::chrono::milliseconds kRecoveredWithin{30'000};
constexpr std::size_t kSessions = 6;
constexpr std::size_t kThreads = 8;
constexpr std::size_t kKept = 100'000;
constexpr std::size_t kMostSets = 24;
constexpr long kMostGrowthMiB = 48;
/// So much faster than the world goes the clock of restarts and circuits: half a minute is 60 ms.
constexpr int kHaste = 500;

unsigned long number_from(const char* variable, unsigned long otherwise) {
  const char* const value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? std::strtoul(value, nullptr, 0) : otherwise;
}

std::chrono::seconds duration() {
  const unsigned long usual =
      number_from("HSMSEAL_SOAK", 0) != 0 ? 3'600 : (number_from("HSMSEAL_REQUIRE_ALL", 0) != 0 ? 120 : 60);
  return std::chrono::seconds{number_from("HSMSEAL_CHAOS_SECONDS", usual)};
}

SteadyClock::time_point hasty_clock() {
  static const auto begin = SteadyClock::now();
  return begin + kHaste * (SteadyClock::now() - begin);
}

long resident_mib() {
  std::ifstream file{"/proc/self/statm"};
  long pages = 0;
  file >> pages >> pages;
  return pages * 4 / 1024;
}

std::size_t threads_now() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, {}));
}

std::size_t below(Random& random, std::size_t limit) { return random() % limit; }

template <typename Choices>
const auto& one_of(Random& random, const Choices& choices) {
  return choices[below(random, std::size(choices))];
}

// --- what is sealed ----------------------------------------------------------------------------------------------------

/// A secret, and its context, follow from its number.
std::string secret_of(std::uint64_t number) { return fmt::format("secret {:016x}", number * 0x9E3779B97F4A7C15U); }
Context context_of(std::uint64_t number) { return Context{}.add("n", fmt::format("{}", number)); }

/// Envelopes that must open when all is over.
class Kept {
 public:
  struct One {
    std::uint64_t number = 0;
    Bytes envelope;
  };

  void put(std::uint64_t number, Bytes envelope, Random& random) {
    const std::scoped_lock lock{mutex_};
    if (all_.size() < kKept)
      all_.push_back({number, std::move(envelope)});
    else
      all_[below(random, kKept)] = {number, std::move(envelope)};
  }
  [[nodiscard]] One any(Random& random) const {
    const std::scoped_lock lock{mutex_};
    return one_of(random, all_);
  }
  [[nodiscard]] std::size_t size() const {
    const std::scoped_lock lock{mutex_};
    return all_.size();
  }
  /// When nobody puts any more.
  [[nodiscard]] const std::vector<One>& all() const { return all_; }

 private:
  mutable std::mutex mutex_;
  std::vector<One> all_;
};

// --- what came of it ---------------------------------------------------------------------------------------------------

/// What all threads note.
class Tally final : public Observer {
 public:
  void on_event(const Event& event) noexcept override {
    const std::scoped_lock lock{mutex_};
    ++events_[event.kind];
  }
  void note_success(SteadyClock::duration took) {
    ++succeeded_;
    last_success_ = SteadyClock::now().time_since_epoch().count();
    took_at_most(took);
  }
  void took_at_most(SteadyClock::duration took) {
    auto slowest = slowest_.load();
    while (slowest < took.count() && !slowest_.compare_exchange_weak(slowest, took.count())) {
    }
  }
  void note_retryable(const Error& error) {
    ++retryable_;
    note("retryable", error.what());
  }
  void note_refused() { ++refused_; }
  void note_explained(const std::string& kind) {
    const std::scoped_lock lock{mutex_};
    ++explained_[kind];
  }
  void note_otherwise(const std::string& kind, const std::string& what) {
    ++otherwise_;
    note("OTHERWISE " + kind, what);
  }
  void note_wrong(const std::string& what) {
    ++wrong_;
    note("WRONG", what);
  }

  [[nodiscard]] unsigned long succeeded() const { return succeeded_; }
  [[nodiscard]] unsigned long retryable() const { return retryable_; }
  [[nodiscard]] unsigned long refused() const { return refused_; }
  [[nodiscard]] unsigned long otherwise() const { return otherwise_; }
  [[nodiscard]] unsigned long wrong() const { return wrong_; }
  [[nodiscard]] unsigned long events(Event::Kind kind) {
    const std::scoped_lock lock{mutex_};
    return events_[kind];
  }
  [[nodiscard]] SteadyClock::duration since_success() const {
    return SteadyClock::now().time_since_epoch() - SteadyClock::duration{last_success_};
  }
  [[nodiscard]] SteadyClock::duration slowest() const { return SteadyClock::duration{slowest_}; }
  /// Kinds of failures, numbers in their texts left out, and how often.
  [[nodiscard]] std::string texts() {
    const std::scoped_lock lock{mutex_};
    std::string lines;
    for (const auto& [kind, times] : explained_) lines += fmt::format("  {:>7} explained: {}\n", times, kind);
    for (const auto& [text, times] : texts_) {
      if (!text.starts_with("retryable")) lines += fmt::format("  {:>7} {}\n", times, text);
    }
    std::vector<std::pair<unsigned long, std::string>> often;
    for (const auto& [text, times] : texts_) {
      if (text.starts_with("retryable")) often.emplace_back(times, text);
    }
    std::ranges::sort(often, std::greater{});
    for (std::size_t i = 0; i < std::min<std::size_t>(often.size(), 25); ++i) {
      lines += fmt::format("  {:>7} {}\n", often[i].first, often[i].second);
    }
    return lines;
  }

 private:
  void note(const std::string& kind, std::string text) {
    const std::scoped_lock lock{mutex_};
    std::string shown;
    for (const char c : text.substr(0, 300)) {
      const bool digit = c >= '0' && c <= '9';
      if (!digit)
        shown += c;
      else if (!shown.ends_with('#'))
        shown += '#';
    }
    shown = kind + ": " + shown;
    if (texts_.size() < 2'000 || texts_.contains(shown)) ++texts_[shown];
  }

  std::mutex mutex_;
  std::map<Event::Kind, unsigned long> events_;
  std::map<std::string, unsigned long> texts_, explained_;
  std::atomic<unsigned long> succeeded_ = 0, retryable_ = 0, refused_ = 0, otherwise_ = 0, wrong_ = 0;
  std::atomic<SteadyClock::rep> last_success_ = SteadyClock::now().time_since_epoch().count();
  std::atomic<SteadyClock::rep> slowest_ = 0;
};

// --- faults ------------------------------------------------------------------------------------------------------------

/// Calls that seal, open and recover. Not C_CloseSession: a session whose end fails stays open for ever, and is none of
/// hsmseal's.
constexpr std::array kFunctions{
    "C_EncryptInit",    "C_Encrypt",         "C_DecryptInit",      "C_Decrypt",      "C_OpenSession",
    "C_Login",          "C_FindObjectsInit", "C_FindObjects",      "C_GetTokenInfo", "C_FindObjectsFinal",
    "C_GetSessionInfo", "C_GetSlotList",     "C_GetAttributeValue"};
/// What comes and goes. Left out is what only a person can help with, such as CKR_PIN_INCORRECT, and that a session is not
/// there, which `kill` makes true.
constexpr std::array kValues{"CKR_GENERAL_ERROR",
                             "CKR_FUNCTION_FAILED",
                             "CKR_DEVICE_ERROR",
                             "CKR_DEVICE_MEMORY",
                             "CKR_HOST_MEMORY",
                             "CKR_DEVICE_REMOVED",
                             "CKR_TOKEN_NOT_PRESENT",
                             "CKR_USER_NOT_LOGGED_IN",
                             "CKR_OPERATION_ACTIVE",
                             "CKR_OPERATION_NOT_INITIALIZED",
                             "CKR_SESSION_COUNT",
                             "CKR_SLOT_ID_INVALID",
                             "CKR_CRYPTOKI_NOT_INITIALIZED",
                             "0x80000384",
                             "0x81000071",
                             "0x3E8",
                             "0x8000ABCD"};
/// From C_Login the others may be a verdict on the PIN, which is then not tried again: a person must help.
constexpr std::array kLoginValues{"CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT", "CKR_HOST_MEMORY"};
constexpr std::array kThrottled{"C_EncryptInit", "C_Encrypt",     "C_DecryptInit",
                                "C_Decrypt",     "C_OpenSession", "C_FindObjectsInit"};
constexpr std::array kBadTags{"CKR_ENCRYPTED_DATA_INVALID", "CKR_GENERAL_ERROR", "CKR_DEVICE_ERROR",
                              "CKR_FUNCTION_FAILED", "CKR_ENCRYPTED_DATA_LEN_RANGE"};

struct Directive {
  std::string kind;  ///< for the table
  std::vector<std::string> lines;
};

Directive random_directive(Random& random) {
  const auto number = [&](std::size_t least, std::size_t most) { return least + below(random, most - least + 1); };
  const std::string function = one_of(random, kFunctions);
  if (below(random, 40) == 0) {  // after which the driver must be restarted
    switch (below(random, 3)) {
      case 0:
        return {"foreign_finalize", {"foreign_finalize"}};
      case 1:
        return {"init_fails", {fmt::format("init_fails_after_finalize 0x80000384 times={}", number(1, 2))}};
      default:
        return {"init_lies", {"init_lies"}};
    }
  }
  switch (below(random, 18)) {
    case 0:
      return {"kill one", {fmt::format("kill one skip={}", number(0, 20))}};
    case 1:
      return {"kill all", {"kill all"}};
    case 2:
      return {"kill anchor", {"kill anchor CKR_SESSION_CLOSED"}};
    case 3:
      return {"lose_login", {"lose_login"}};
    case 4:
    case 5:
    case 6:
      return {"fail",
              {fmt::format("fail {} {} times={} skip={}", function,
                           function == "C_Login" ? one_of(random, kLoginValues) : one_of(random, kValues), number(1, 3),
                           number(0, 5))}};
    case 7: {
      Directive burst{"throttle", {}};
      for (const char* const throttled : kThrottled) {
        burst.lines.push_back(fmt::format("fail {} {} p=0.{} seed={} for={}", throttled,
                                          below(random, 2) == 0 ? "CKR_FUNCTION_FAILED" : "CKR_DEVICE_MEMORY",
                                          number(1, 6), number(1, 1'000'000), number(10, 150)));
      }
      return burst;
    }
    case 8:
      return {"delay", {fmt::format("delay {} {} times={}", function, number(1'000, 300'000), number(1, 3))}};
    case 9:
      return {"hang", {fmt::format("hang {} {} times={}", function, number(200, 1'800), number(1, 2))}};
    case 10:
      return {"removed", {fmt::format("removed for={}", number(10, 100))}};
    case 11:
      return {"token_absent", {fmt::format("token_absent for={}", number(10, 100))}};
    case 12:
      return {"slots_renumber", {below(random, 2) == 0 ? "slots_renumber now" : "slots_renumber reinit"}};
    case 13:
      return {"slots_empty", {fmt::format("slots_empty times={}", number(1, 3))}};
    case 14:
      return {"session_limit", {fmt::format("session_limit {} for={}", number(2, 5), number(20, 200))}};
    case 15:
      return {"gcm_bad_tag", {fmt::format("gcm_bad_tag {}", one_of(random, kBadTags))}};
    case 16:
      return {"lag", {below(random, 2) == 0 ? fmt::format("lag_ms {}", number(10, 250)) : "lag_finds 3"}};
    default:
      return {"stays_active", {"stays_active"}};
  }
}

/// Injects faults into two drivers until it is told to stop, and then ends those that last.
class Injector {
 public:
  Injector(const FaultyHsm& a, const FaultyHsm& b, std::uint64_t seed) : drivers_{&a, &b}, random_(seed) {}

  void run_until(const std::atomic<bool>& over) {
    while (!over) {
      const auto& driver = *drivers_.at(below(random_, 2));
      const Directive directive = random_directive(random_);
      for (const std::string& line : directive.lines) driver.apply(line);
      ++injected_[directive.kind];
      // Mostly in quick succession, and sometimes time to recover in.
      std::this_thread::sleep_for(std::chrono::milliseconds{below(random_, 10) == 0 ? 400 : 5 + below(random_, 80)});
    }
  }
  /// All but that handles are renumbered, whose end would renumber them once more.
  void end() const {
    std::set<std::string> lines{
        "kill off",           "lose_login off",  "removed off",          "token_absent off",
        "slots_renumber off", "slots_empty off", "foreign_finalize off", "init_fails_after_finalize off",
        "session_limit off",  "gcm_bad_tag off", "lag_ms off",           "lag_finds off",
        "stays_active off",   "init_lies off"};
    for (const char* const function : kFunctions) {
      for (const char* const word : {"fail", "delay", "hang"}) lines.insert(fmt::format("{} {} off", word, function));
    }
    for (const auto* const driver : drivers_) {
      for (const std::string& line : lines) driver->apply(line);
      driver->apply("release");
    }
  }
  [[nodiscard]] unsigned long fired(const std::string& word) const {
    return drivers_[0]->fired(word) + drivers_[1]->fired(word);
  }
  /// Failures of one call, which may make an envelope that opens look as if it did not.
  [[nodiscard]] unsigned long failures() const { return fired("fail") + fired("stays_active") + fired("removed"); }
  [[nodiscard]] std::string table() const {
    std::string lines;
    for (const auto& [kind, times] : injected_) {
      const std::string word = kind.starts_with("kill") ? "kill" : kind == "throttle" ? "fail" : kind;
      const unsigned long acted = word == "lag" ? fired("lag_ms") + fired("lag_finds")
                                                : fired(word == "init_fails" ? "init_fails_after_finalize" : word);
      lines += fmt::format("  {:<17} injected {:>6}, '{}' fired {}\n", kind, times, word, acted);
    }
    return lines;
  }

 private:
  std::array<const FaultyHsm*, 2> drivers_;
  Random random_;
  std::map<std::string, unsigned long> injected_;
};

// --- who works ---------------------------------------------------------------------------------------------------------

/// One ring over two tokens, each behind a driver of its own.
class Chaos {
 public:
  explicit Chaos(std::uint64_t seed) : seed_(seed), injector_(a_, b_, seed) {
    a_.apply("renumber");
    b_.apply("renumber");
    const RingOptions options{.observer = tally_, .deadline = kDeadline};
    ring_ = std::make_unique<KeyRing>(
        KeyRing::create(memory_ring_store(), provider(host()), {.token = "one"}, RingPin::in_process(), options));
    vault_ = std::make_unique<EnvelopeEncryptor>(*ring_, EnvelopeOptions{.deadline = kDeadline});
    Random random{seed};
    for (std::uint64_t n = 0; n < 1'500; ++n) {
      if (n == 500) ring_->add({.token = "two"});
      if (n == 1'000) ring_->add({.token = "one"});
      seal(n, random);
    }
  }

  void run(std::chrono::seconds time);
  void recover();
  void open_all();
  void check();

 private:
  [[nodiscard]] Host host() const {
    Host host;
    host.driver("a", a_.driver()).driver("b", b_.driver());
    const auto bind = [&](const char* token, const char* driver) {
      TokenBinding binding = a_.tokens().binding(token);
      binding.driver = driver;
      binding.limits.max_sessions = kSessions;
      binding.limits.idle_check = 20ms;
      host.token(token, binding);
    };
    bind("one", "a");
    bind("two", "b");
    return host;
  }
  [[nodiscard]] std::shared_ptr<KeyProvider> provider(const Host& host) const {
    return pkcs11_provider(host, {.observer = tally_, .clock = hasty_clock});
  }

  void seal(std::uint64_t number, Random& random) {
    const std::string secret = secret_of(number);
    kept_.put(number, vault_->seal(ByteView{std::as_bytes(std::span{secret})}, context_of(number)), random);
  }
  void open(const Kept::One& one) const {
    const auto opened = vault_->open(one.envelope, context_of(one.number));
    if (opened.text() != secret_of(one.number)) tally_->note_wrong(fmt::format("envelope {}", one.number));
  }
  void open_corrupted(Kept::One one, Random& random) const;
  void one_operation(std::uint64_t& number, Random& random);
  void work(std::size_t thread);
  void tinker();
  void try_wrong_pin(Random& random);
  void add_set(Random& random);
  template <typename Work>
  void noting(const std::string& what, const Work& work);
  void note_unclear(const std::string& what, unsigned long failures, const Error& error) const;

  const std::uint64_t seed_;
  FaultyHsm a_{std::vector<std::string>{"one", "two", "pins"}};
  FaultyHsm b_{a_.shared_tokens()};
  std::shared_ptr<Tally> tally_ = std::make_shared<Tally>();
  Injector injector_;
  std::unique_ptr<KeyRing> ring_;
  std::unique_ptr<EnvelopeEncryptor> vault_;
  Kept kept_;
  std::atomic<bool> over_ = false;
  std::set<std::string> wrong_pins_;
  std::size_t sets_added_ = 0, threads_at_most_ = 0;
  long early_mib_ = 0, late_mib_ = 0;
  SteadyClock::duration longest_pause_{}, recovery_{};
};

/// A token that fails at the envelope or the proof and works in between cannot be told from one that says that it does
/// not open.
/// @param failures  of calls, before the operation.
void Chaos::note_unclear(const std::string& what, unsigned long failures, const Error& error) const {
  if (injector_.failures() - failures >= 2)
    tally_->note_explained(what + ", beside failures of calls");
  else
    tally_->note_otherwise(what, error.what());
}

/// Does something that may fail for a while, and for no other reason than the faults.
template <typename Work>
void Chaos::noting(const std::string& what, const Work& work) {
  const unsigned long failures = injector_.failures();
  const auto began = SteadyClock::now();
  try {
    work();
    tally_->note_success(SteadyClock::now() - began);
    return;
  } catch (const TokenError& error) {
    if (error.retryable())
      tally_->note_retryable(error);
    else
      tally_->note_otherwise(what, error.what());
  } catch (const OpenError& error) {
    note_unclear(what + ": no opening", failures, error);
  } catch (const WrongKeyError& error) {
    note_unclear(what + ": a wrong key", failures, error);
  } catch (const std::exception& error) {
    tally_->note_otherwise(what, error.what());
  }
  tally_->took_at_most(SteadyClock::now() - began);
}

void Chaos::open_corrupted(Kept::One one, Random& random) const {
  const bool context = below(random, 4) == 0;
  if (context)
    ++one.number;
  else
    one.envelope[below(random, one.envelope.size())] ^= std::byte{1} << below(random, 8);
  const unsigned long failures = injector_.failures();
  const auto began = SteadyClock::now();
  try {
    static_cast<void>(vault_->open(one.envelope, context_of(one.number)));
    tally_->note_wrong(fmt::format("a corrupted envelope opened ({})", context ? "context" : "bit"));
  } catch (const OpenError&) {
    tally_->note_refused();
  } catch (const FormatError&) {
    tally_->note_refused();
  } catch (const WrongRingError&) {
    tally_->note_refused();
  } catch (const UnknownVersionError&) {
    tally_->note_refused();
  } catch (const TokenError& error) {
    if (error.retryable())
      tally_->note_retryable(error);
    else
      tally_->note_otherwise("corrupted", error.what());
  } catch (const WrongKeyError& error) {
    note_unclear("corrupted: a wrong key", failures, error);
  } catch (const std::exception& error) {
    tally_->note_otherwise("corrupted", error.what());
  }
  tally_->took_at_most(SteadyClock::now() - began);
}

void Chaos::one_operation(std::uint64_t& number, Random& random) {
  switch (below(random, 10)) {
    case 0:
    case 1:
    case 2:
      return noting("seal", [&] { seal(++number, random); });
    case 3:
      return open_corrupted(kept_.any(random), random);
    case 4:
    case 5:
      return noting("rewrap", [&] {
        auto one = kept_.any(random);
        kept_.put(one.number, vault_->rewrap(one.envelope), random);
      });
    default:
      return noting("open", [&] { open(kept_.any(random)); });
  }
}

void Chaos::work(std::size_t thread) {
  Random random{seed_ + thread + 1};
  std::uint64_t number = (thread + 1) << 40U;
  while (!over_) {
    one_operation(number, random);
    std::this_thread::sleep_for(std::chrono::microseconds{below(random, 4'000)});  // so that an hour is not all CPU
  }
}

/// Another provider of the same process, with a PIN that is none.
void Chaos::try_wrong_pin(Random& random) {
  const std::string pin = fmt::format("wrong {}", below(random, 4));
  wrong_pins_.insert(pin);
  TokenBinding binding = a_.tokens().binding("pins");
  binding.driver = "a";
  binding.limits.max_sessions = 1;
  binding.low_pin_count = LowPinCount::TryOnce;
  binding.pin =
      PinSource::callback([pin](const TokenSelector&) { return SecretBytes{ByteView{std::as_bytes(std::span{pin})}}; });
  Host host;
  host.driver("a", a_.driver()).token("pins", binding);
  try {
    const Deadline deadline{kDeadline};
    static_cast<void>(provider(host)->find_keys(ring_->id(), "pins"));
    tally_->note_wrong("a wrong PIN was accepted");
  } catch (const TokenLoginError&) {
    tally_->note_refused();
  } catch (const TokenError& error) {
    if (error.retryable())
      tally_->note_retryable(error);
    else
      tally_->note_otherwise("wrong PIN", error.what());
  } catch (const std::exception& error) {
    tally_->note_otherwise("wrong PIN", error.what());
  }
}

void Chaos::add_set(Random& random) {
  const auto later = below(random, 2) == 0 ? Activation::Later : Activation::Now;
  noting("add", [&] {
    const Version version = ring_->add({.token = below(random, 2) == 0 ? "one" : "two"}, later);
    ++sets_added_;
    if (later == Activation::Now) return;
    for (int tries = 0; ring_->active().version != version; ++tries) {
      try {
        ring_->activate(version);
      } catch (const TokenError& error) {
        if (!error.retryable() || tries == 5) throw;
      }
    }
  });
}

/// What operators do.
void Chaos::tinker() {
  Random random{seed_ + 1'000};
  for (unsigned round = 0; !over_; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds{50 + below(random, 300)});
    if (round % 3 == 0)
      try_wrong_pin(random);
    else if (sets_added_ < kMostSets && round % 8 == 1)
      add_set(random);
  }
}

void Chaos::run(std::chrono::seconds time) {
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { work(i); });
  threads.emplace_back([this] { tinker(); });
  threads.emplace_back([this] { injector_.run_until(over_); });
  const auto began = SteadyClock::now();
  while (SteadyClock::now() - began < time) {
    std::this_thread::sleep_for(50ms);
    threads_at_most_ = std::max(threads_at_most_, threads_now());
    longest_pause_ = std::max(longest_pause_, tally_->since_success());
    if (early_mib_ == 0 && SteadyClock::now() - began > time / 4) early_mib_ = resident_mib();
  }
  late_mib_ = resident_mib();
  over_ = true;
}

/// Ends the faults, and waits until every set seals or opens again and again.
void Chaos::recover() {
  injector_.end();
  const auto began = SteadyClock::now();
  Random random{seed_};
  std::string last = "nothing failed";
  for (std::size_t in_a_row = 0; in_a_row < 500; ++in_a_row) {
    try {
      if (in_a_row % 2 == 0)
        open(kept_.any(random));
      else
        seal(in_a_row, random);
    } catch (const Error& error) {
      in_a_row = 0;
      last = error.what();
      std::this_thread::sleep_for(20ms);
      recovery_ = SteadyClock::now() - began;
    }
    INFO(last);
    REQUIRE(SteadyClock::now() - began < kRecoveredWithin);
  }
}

void Chaos::open_all() {
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, i] {
      for (std::size_t at = i; at < kept_.size(); at += kThreads) {
        try {
          open(kept_.all()[at]);
        } catch (const std::exception& error) {
          tally_->note_wrong(fmt::format("does not open in the end: {}", error.what()));
        }
      }
    });
  }
}

void Chaos::check() {
  const auto ms = [](SteadyClock::duration d) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
  };
  using Kind = Event::Kind;
  std::string figures;
  for (const auto& [name, hsm] : {std::pair{"a", &a_}, std::pair{"b", &b_}}) {
    figures += fmt::format(
        "driver {}: {} calls, {} starts, {} C_Login, sessions open {} and at most {}, stale handles {} of which known {}, "
        "threads in one session {}, wrong PINs {}\n",
        name, hsm->calls_total(), hsm->counter("starts"), hsm->calls("C_Login"), hsm->open_sessions(),
        hsm->counter("open_sessions_at_most"), hsm->counter("stale_handles"), hsm->counter("stale_again"),
        hsm->threads_in_one_session(), hsm->counter("wrong_pins"));
  }
  WARN(fmt::format(
      "{}{}operations: {} succeeded, {} failed retryable, {} failed otherwise, {} refused, {} wrong\n"
      "token lost {}, recovered {}, restarts {}, circuits opened {} and closed {}, calls hung {}, PINs refused {}\n"
      "envelopes {}, sets added {}, slowest operation {} ms, longest without a success {} ms, recovered after {} ms\n"
      "threads at most {}, memory {} MiB after a quarter, {} MiB at the end\n{}",
      injector_.table(), figures, tally_->succeeded(), tally_->retryable(), tally_->otherwise(), tally_->refused(),
      tally_->wrong(), tally_->events(Kind::TokenLost), tally_->events(Kind::TokenRecovered),
      tally_->events(Kind::DriverRestarted), tally_->events(Kind::CircuitOpened), tally_->events(Kind::CircuitClosed),
      tally_->events(Kind::CallHung), tally_->events(Kind::PinRefused), kept_.size(), sets_added_,
      ms(tally_->slowest()), ms(longest_pause_), ms(recovery_), threads_at_most_, early_mib_, late_mib_,
      tally_->texts()));
  CHECK(tally_->wrong() == 0);
  CHECK(tally_->otherwise() == 0);
  CHECK(tally_->succeeded() > 1'000);
  CHECK(tally_->refused() > 10);
  CHECK(tally_->slowest() < kDeadline + 1s);
  CHECK(a_.counter("wrong_pins") <= wrong_pins_.size());
  CHECK(b_.counter("wrong_pins") == 0);
  CHECK(late_mib_ - early_mib_ < kMostGrowthMiB);
  // This one, those that work, tinker and inject, and for each token those that call it and as many that hang; of the
  // provider with the wrong PIN some are on their way out.
  CHECK(threads_at_most_ <= 1 + kThreads + 2 + 2 * 2 * (kSessions + 1) + 8);
  for (const auto* const hsm : {&a_, &b_}) {
    // Who comes first after a loss cannot know that a handle is void.
    CHECK(hsm->counter("stale_again") == 0);
    CHECK(hsm->threads_in_one_session() == 0);
    CHECK(hsm->calls("C_Logout") == 0);
    CHECK(hsm->counter("starts") > 1);
    CHECK(hsm->counter("open_sessions_at_most") <= 2 * kSessions + 1 + (hsm == &a_ ? 2 : 0));
    CHECK(hsm->open_sessions() <= kSessions + 1);
  }
}

}  // namespace

TEST_CASE("nothing is lost or mistaken while two drivers fail in every way") {
  const std::uint64_t seed = number_from("HSMSEAL_CHAOS_SEED", std::random_device{}());
  WARN(fmt::format("HSMSEAL_CHAOS_SEED={} HSMSEAL_CHAOS_SECONDS={}", seed, duration().count()));
  Chaos chaos{seed};
  chaos.run(duration());
  chaos.recover();
  chaos.open_all();
  chaos.check();
}
