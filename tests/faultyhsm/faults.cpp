#include "faultyhsm/faults.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>

#include "faultyhsm/call.hpp"

namespace faulty {
namespace {

std::mutex& mutex() {
  static auto* const instance = new std::mutex;
  return *instance;
}

constexpr std::string_view kArguments[] = {
#define FAULTYHSM_ARGUMENTS(id, word, numbers, arguments, times) arguments,
    FAULTYHSM_DIRECTIVES(FAULTYHSM_ARGUMENTS)
#undef FAULTYHSM_ARGUMENTS
};
constexpr std::size_t kDirectives = std::size(kArguments);
constexpr std::size_t kAllFunctions = kFunctions;

/// Those of functions follow one another; the last is for all functions.
struct Triggers {
  std::array<std::deque<Trigger>, kDirectives> of;

  Triggers() {
    for (std::size_t directive = 0; directive < kDirectives; ++directive)
      of.at(directive).resize(kArguments[directive].starts_with("function") ? kFunctions + 1 : 1);
  }
};

Triggers& triggers() {
  // Never destroyed: the host's exit handlers may still call in.
  static auto* const instance = new Triggers;
  return *instance;
}

struct Hanging {
  std::mutex mutex;
  std::condition_variable released;
  unsigned long releases = 0;
};

Hanging& hanging() {
  static auto* const instance = new Hanging;
  return *instance;
}

}  // namespace

void Trigger::arm(const Setting& setting) {
  const std::lock_guard lock(mutex());
  setting_ = setting;
  anchored_ = setting.anchor;
  for (std::size_t i = 0; i < numbers_.size(); ++i) numbers_.at(i) = setting.numbers.at(i);
  random_.seed(static_cast<std::minstd_rand::result_type>(setting.seed));
  armed_at_ = Clock::now();
  armed_ = setting.times != 0;
}

void Trigger::disarm() { armed_ = false; }

bool Trigger::in_time() const {
  if (setting_.after.count() == 0 && setting_.lasts.count() == 0) return true;
  const auto since = Clock::now() - armed_at_;
  return since >= setting_.after && (setting_.lasts.count() == 0 || since < setting_.after + setting_.lasts);
}

bool Trigger::on() {
  const std::lock_guard lock(mutex());
  return armed_ && in_time();
}

bool Trigger::fires() {
  const auto& call = current_call();
  const auto anchor = anchored_ ? anchor_session() : 0;  // not under the lock: it asks the tables
  const std::lock_guard lock(mutex());
  if (!armed_ || !in_time()) return false;
  if (setting_.in && *setting_.in != call.function) return false;
  if (setting_.session != 0 && setting_.session != call.session) return false;
  if (setting_.anchor && (call.session == 0 || call.session != anchor)) return false;
  if (setting_.skip != 0) {
    --setting_.skip;
    return false;
  }
  if (setting_.probability < 1 && std::uniform_real_distribution{}(random_) >= setting_.probability) return false;
  if (setting_.times != kForever && --setting_.times == 0) armed_ = false;
  note();
  return true;
}

std::string Trigger::text(std::size_t argument) const {
  const std::lock_guard lock(mutex());
  return setting_.texts.at(argument);
}

Trigger& trigger(Fault fault) { return triggers().of.at(static_cast<std::size_t>(fault)).front(); }

Trigger& trigger(Fault fault, Function function) {
  return triggers().of.at(static_cast<std::size_t>(fault)).at(index_of(function));
}

Trigger* firing(Fault fault, Function function) {
  auto& of_functions = triggers().of.at(static_cast<std::size_t>(fault));
  for (const std::size_t index : {index_of(function), kAllFunctions}) {
    auto& one = of_functions.at(index);
    if (one.armed() && one.fires()) return &one;
  }
  return nullptr;
}

Trigger& trigger_at(std::size_t directive, std::size_t index) { return triggers().of.at(directive).at(index); }

unsigned long fired_of(std::size_t directive) {
  unsigned long sum = 0;
  for (const auto& one : triggers().of.at(directive)) sum += one.fired();
  return sum;
}

void clear() {
  for (auto& directive : triggers().of) {
    for (auto& one : directive) one.disarm();
  }
  release_hanging();
}

void forget_fired() {
  for (auto& directive : triggers().of) {
    for (auto& one : directive) one.forget_fired();
  }
}

void lock_faults() { mutex().lock(); }

void unlock_faults() { mutex().unlock(); }

void release_hanging() {
  auto& all = hanging();
  const std::lock_guard lock(all.mutex);
  ++all.releases;
  all.released.notify_all();
}

void hang_for(std::chrono::milliseconds time) {
  auto& all = hanging();
  std::unique_lock lock(all.mutex);
  const auto releases = all.releases;
  all.released.wait_for(lock, time, [&] { return all.releases != releases; });
}

}  // namespace faulty
