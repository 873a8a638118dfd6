#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "faultyhsm/functions.hpp"

namespace faulty {

// Every directive: its word, the faults of README.md it is about, its arguments, and how often it acts unless `times=`
// says otherwise (0: until it is switched off). Of the arguments, `a|b` is one of these words, `?` may be left out.
#define FAULTYHSM_DIRECTIVES(X)                                                                 \
  X(Fail, "fail", "F3 F25 F29", "function rv", 0)                                               \
  X(FailAfter, "fail_after", "F22 F29", "function rv", 0)                                       \
  X(Renumber, "renumber", "F1", "", 0)                                                          \
  X(Kill, "kill", "F3", "all|anchor|one rv?", 1)                                                \
  X(LoseLogin, "lose_login", "F4", "", 1)                                                       \
  X(PinTries, "pin_tries", "F5", "number", 0)                                                   \
  X(PinFlagsNever, "pin_flags_never", "F5", "", 0)                                              \
  X(PinWrongRv, "pin_wrong_rv", "F5", "rv", 0)                                                  \
  X(Pin, "pin", "F5", "text text?", 0)                                                          \
  X(LoginAlready, "login_already", "F6", "", 0)                                                 \
  X(ProtectedPath, "protected_path", "F6", "text number?", 0)                                   \
  X(GcmIv, "gcm_iv", "F7", "writeback|append12|append16|prepend|replace|zeroed|null|longer", 0) \
  X(GcmNoAad, "gcm_no_aad", "F7", "", 0)                                                        \
  X(GcmNoTag, "gcm_no_tag", "F7", "", 0)                                                        \
  X(GcmPlain, "gcm_plain", "F7", "", 0)                                                         \
  X(GcmSame, "gcm_same", "F7", "", 0)                                                           \
  X(GcmIvs, "gcm_ivs", "F7", "counted|repeated", 0)                                             \
  X(GcmLayout, "gcm_layout", "F8", "five|bits", 0)                                              \
  X(GcmMechanism, "gcm_mechanism", "F8", "mechanism", 0)                                        \
  X(GcmBadTag, "gcm_bad_tag", "F9", "rv", 0)                                                    \
  X(CbcPadGarbage, "cbc_pad_garbage", "F10", "", 0)                                             \
  X(CbcPadRv, "cbc_pad_rv", "F10", "rv", 0)                                                     \
  X(CbcGarbage, "cbc_garbage", "F10", "", 0)                                                    \
  X(CbcRv, "cbc_rv", "F10", "rv", 0)                                                            \
  X(CbcPlain, "cbc_plain", "F10", "", 0)                                                        \
  X(Mac, "mac", "F10", "same|drawn|other", 0)                                                   \
  X(UnwrapLength, "unwrap_length", "F11", "needs|rejects", 0)                                   \
  X(KwpMechanism, "kwp_mechanism", "F11", "mechanism", 0)                                       \
  X(LengthQuery, "length_query", "F12", "over|under|zero|consumes|too_small", 0)                \
  X(TooSmall, "too_small", "F12", "number?", 1)                                                 \
  X(ExactRefused, "exact_refused", "F12", "", 0)                                                \
  X(StaysActive, "stays_active", "F13", "rv?", 1)                                               \
  X(InitMixes, "init_mixes", "F13", "", 0)                                                      \
  X(Output, "output", "F14", "function short|long|untouched|overrun", 0)                        \
  X(Random, "random", "F15", "limits|first8|zeros|repeated", 0)                                 \
  X(GenerateRejects, "generate_rejects", "F16", "attribute", 0)                                 \
  X(GenerateSets, "generate_sets", "F16", "attribute number", 0)                                \
  X(Attribute, "attribute", "F17", "attribute unknown|minus_one|empty|wrong", 0)                \
  X(Find, "find", "F18", "duplicates|zero_one_two|stays_active|twins", 0)                       \
  X(FindLimit, "find_limit", "F18", "number", 0)                                                \
  X(LagMs, "lag_ms", "F19", "number", 0)                                                        \
  X(LagFinds, "lag_finds", "F19", "number", 0)                                                  \
  X(LagUnusable, "lag_unusable", "F19", "number", 0)                                            \
  X(Members, "members", "F19", "per_session|per_call", 0)                                       \
  X(MemberDies, "member_dies", "F19", "number rv?", 1)                                          \
  X(SlotsRenumber, "slots_renumber", "F20", "now|reinit", 0)                                    \
  X(SlotsEmpty, "slots_empty", "F20", "", 1)                                                    \
  X(SlotsGrow, "slots_grow", "F20", "", 1)                                                      \
  X(SwapLabels, "swap_labels", "F20", "text text", 0)                                           \
  X(OtherSerial, "other_serial", "F20", "text", 0)                                              \
  X(TokenAbsent, "token_absent", "F20", "", 0)                                                  \
  X(Removed, "removed", "F21", "rv?", 0)                                                        \
  X(InitFailsAfterFinalize, "init_fails_after_finalize", "F22", "rv", 1)                        \
  X(ForeignFinalize, "foreign_finalize", "F23", "", 1)                                          \
  X(AlreadyInitialized, "already_initialized", "F23", "", 1)                                    \
  X(InitLies, "init_lies", "F23", "", 1)                                                        \
  X(SessionLimit, "session_limit", "F24", "number", 0)                                          \
  X(SessionMax, "session_max", "F24", "number", 0)                                              \
  X(RefuseRo, "refuse_ro", "F24", "rv?", 0)                                                     \
  X(Delay, "delay", "F26", "function number", 0)                                                \
  X(Hang, "hang", "F26", "function number", 0)                                                  \
  X(IdleDies, "idle_dies", "F26", "number rv?", 0)                                              \
  X(Checker, "checker", "F27", "abort", 0)                                                      \
  X(NotThreadSafe, "not_thread_safe", "F27", "", 0)                                             \
  X(Fork, "fork", "F28", "not_initialized", 0)                                                  \
  X(Missing, "missing", "F30", "function", 0)                                                   \
  X(MechanismRefused, "mechanism_refused", "F31", "mechanism", 0)                               \
  X(GarbageOut, "garbage_out", "F31", "", 0)                                                    \
  X(NulPadded, "nul_padded", "F31", "", 0)

// clang-format off
enum class Fault : std::size_t {
#define FAULTYHSM_ENUMERATOR(id, word, numbers, arguments, times) id,
  FAULTYHSM_DIRECTIVES(FAULTYHSM_ENUMERATOR)
#undef FAULTYHSM_ENUMERATOR
};
// clang-format on

// The words of a directive, in the order of the table.
enum class Killed : unsigned long { All, Anchor, One };
enum class GcmIv : unsigned long { Writeback, Append12, Append16, Prepend, Replace, Zeroed, Null, Longer };
enum class GcmIvs : unsigned long { Counted, Repeated };
enum class Mac : unsigned long { Same, Drawn, Other };
enum class GcmLayout : unsigned long { Five, Bits };
enum class UnwrapLength : unsigned long { Needs, Rejects };
enum class LengthQuery : unsigned long { Over, Under, Zero, Consumes, TooSmall };
enum class Output : unsigned long { Short, Long, Untouched, Overrun };
enum class Random : unsigned long { Limits, First8, Zeros, Repeated };
enum class ReadAs : unsigned long { Unknown, MinusOne, Empty, Wrong };
enum class Find : unsigned long { Duplicates, ZeroOneTwo, StaysActive, Twins };
enum class Members : unsigned long { PerSession, PerCall };
enum class SlotsRenumber : unsigned long { Now, Reinit };

/// What a directive has switched on, and when it acts.
///
/// Thread safety: any thread may use it. An unarmed one costs one read of memory.
class Trigger {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr unsigned long kForever = ~0UL;

  struct Setting {
    std::array<unsigned long, 2> numbers{};
    std::array<std::string, 2> texts;
    unsigned long skip = 0;
    unsigned long times = kForever;
    double probability = 1;
    unsigned long seed = 1;
    std::chrono::milliseconds after{0};
    std::chrono::milliseconds lasts{0};  ///< zero: to the end
    CK_SESSION_HANDLE session = 0;       ///< zero: any
    bool anchor = false;                 ///< only the oldest session that is open
    std::optional<Function> in;          ///< only in calls of this function
  };

  void arm(const Setting& setting);
  void disarm();
  [[nodiscard]] bool armed() const { return armed_.load(std::memory_order_acquire); }
  /// Whether it is on at this time; neither counts nor consumes. For what is a state and not an event.
  [[nodiscard]] bool on();
  /// Whether it acts on this call; counts, and consumes one of its times.
  [[nodiscard]] bool fires();
  /// Counts that a state had an effect.
  void note() { fired_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] unsigned long number(std::size_t argument = 0) const { return numbers_.at(argument); }
  [[nodiscard]] std::string text(std::size_t argument = 0) const;
  [[nodiscard]] unsigned long fired() const { return fired_.load(std::memory_order_relaxed); }
  void forget_fired() { fired_ = 0; }

 private:
  [[nodiscard]] bool in_time() const;

  std::atomic<bool> armed_{false};
  std::atomic<bool> anchored_{false};
  std::atomic<unsigned long> fired_{0};
  std::array<std::atomic<unsigned long>, 2> numbers_{};
  Setting setting_;
  Clock::time_point armed_at_;
  std::minstd_rand random_;
};

/// The one trigger of a directive; of one that names a function, that function's.
[[nodiscard]] Trigger& trigger(Fault fault);
[[nodiscard]] Trigger& trigger(Fault fault, Function function);

[[nodiscard]] inline bool on(Fault fault) {
  auto& one = trigger(fault);
  return one.armed() && one.on();
}

[[nodiscard]] inline bool fires(Fault fault) {
  auto& one = trigger(fault);
  return one.armed() && one.fires();
}

/// The trigger if it acts on this call: the function's own, or the one of all functions (`*`).
[[nodiscard]] Trigger* firing(Fault fault, Function function);

/// A word that was an argument.
template <typename Word>
[[nodiscard]] Word word(Fault fault, std::size_t argument = 0) {
  return static_cast<Word>(trigger(fault).number(argument));
}

enum class Applied { Done, UnknownDirective, BadArgument };

/// One line of the grammar in README.md.
[[nodiscard]] Applied apply(std::string_view line);

/// Switches every fault off.
void clear();

void forget_fired();

/// By a directive's word or by a fault's number such as "F4"; nothing for another name.
[[nodiscard]] std::optional<unsigned long> fired(std::string_view name);

/// A number, or a name that begins with CKR_, CKA_ or CKM_ and is known here.
[[nodiscard]] std::optional<unsigned long> value_of(const std::string& text);

/// While a fork copies the process nobody may hold what guards the triggers.
void lock_faults();
void unlock_faults();

/// Ends hangs: of all calls that hang now.
void release_hanging();
void hang_for(std::chrono::milliseconds time);

}  // namespace faulty
