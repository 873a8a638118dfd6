#include "faultyhsm/call.hpp"

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

using Clock = Session::Clock;

[[noreturn]] void give_up(const char* why) {
  std::fprintf(stderr, "faultyhsm: %s\n", why);
  std::abort();
}

bool is_one_of(Function function, std::initializer_list<Function> functions) {
  return std::find(functions.begin(), functions.end(), function) != functions.end();
}

/// Calls that do not run in the driver's own state, or wait for the host.
bool is_outside(Function function) {
  return is_one_of(function, {Function::C_GetFunctionList, Function::C_WaitForSlotEvent});
}

/// What needs a login, once it is lost (F4).
bool uses_keys(Function function) {
  return function >= Function::C_EncryptInit && function < Function::C_SeedRandom &&
         !(function >= Function::C_DigestInit && function <= Function::C_DigestFinal);
}

CK_RV number_or(Fault fault, CK_RV otherwise, std::size_t argument = 0) {
  const CK_RV rv = trigger(fault).number(argument);
  return rv != CKR_OK ? rv : otherwise;
}

/// Calls to which something happens first, whoever makes them.
void happen() {
  auto& shared = state();
  auto& tables = shared.tables;
  if (fires(Fault::Kill)) {
    const auto which = word<Killed>(Fault::Kill);
    const auto number = which == Killed::One ? current_call().session : tables.anchor();
    tables.kill(number_or(Fault::Kill, CKR_SESSION_HANDLE_INVALID, 1),
                [&](const Session& one) { return which == Killed::All || one.number == number; });
    forget_objects_of_closed();
  }
  if (fires(Fault::LoseLogin)) lose_logins();
  if (fires(Fault::MemberDies)) {
    shared.dead_member = trigger(Fault::MemberDies).number();
    const CK_RV rv = number_or(Fault::MemberDies, CKR_DEVICE_REMOVED, 1);
    tables.kill(rv, [&](const Session& one) { return one.member == shared.dead_member; });
  }
  if (fires(Fault::ForeignFinalize)) {
    shared.initialized = false;
    shared.was_finalized = true;
    tables.kill(CKR_CRYPTOKI_NOT_INITIALIZED, [](const Session&) { return true; });
    tables.forget(std::nullopt, EndedBy::Other);
    forget_all_objects();
  }
}

std::optional<CK_RV> stopped_in_child(const CurrentCall& call) {
  auto& shared = state();
  ++shared.across_forks->calls;
  if (call.function == Function::C_Finalize) ++shared.across_forks->finalized;
  if (call.function == Function::C_CloseSession) {
    const auto session = shared.tables.find(call.session);
    if (session && session->opened_by != ::getpid()) ++shared.across_forks->closed;
  }
  if (!on(Fault::Fork) || call.function == Function::C_GetFunctionList) return std::nullopt;
  trigger(Fault::Fork).note();
  if (call.function != Function::C_Initialize) return CKR_CRYPTOKI_NOT_INITIALIZED;
  shared.in_child = false;  // a process of its own from here on
  shared.initialized = false;
  shared.tables.forget(std::nullopt, EndedBy::Other);
  forget_all_objects();
  return std::nullopt;
}

/// F21: the token is away, and what comes back knows nothing of what was.
std::optional<CK_RV> stopped_by_removal() {
  auto& shared = state();
  if (fires(Fault::Removed)) {
    shared.removed = true;
    return number_or(Fault::Removed, CKR_TOKEN_NOT_PRESENT);
  }
  // A trigger that passes this call over is still there.
  if (shared.removed && !on(Fault::Removed) && shared.removed.exchange(false)) {
    shared.tables.kill(CKR_SESSION_HANDLE_INVALID, [](const Session&) { return true; });
    forget_all_objects();
  }
  return std::nullopt;
}

/// F26: a device that gives up on a session that was idle, and with it on every other until it is started again.
std::optional<CK_RV> stopped_by_idleness(Session& session) {
  auto& shared = state();
  const auto now = Clock::now().time_since_epoch().count();
  const auto idle = Clock::duration(now - session.last_use.exchange(now));
  if (!on(Fault::IdleDies)) return std::nullopt;
  if (idle > std::chrono::milliseconds(trigger(Fault::IdleDies).number()))
    shared.device_dead = number_or(Fault::IdleDies, CKR_DEVICE_ERROR, 1);
  if (shared.device_dead == CKR_OK) return std::nullopt;
  trigger(Fault::IdleDies).note();
  return shared.device_dead.load();
}

}  // namespace

Call::Call(Function function, Scope scope, CK_SESSION_HANDLE session)
    : before_(std::exchange(current_call(), {function, session, nullptr})), scope_(scope) {
  auto& shared = state();
  ++shared.calls[index_of(function)];
  if (scope == Scope::InSession) shared.last_sessions[index_of(function)] = session;
}

Call::~Call() {
  auto& call = current_call();
  if (call.entered) state().tables.leave(call.entered);
  if (call.function == Function::C_Finalize) state().finalizing = false;
  if (inside_) --state().inside;
  call = std::move(before_);
}

void Call::check_threads() {
  auto& shared = state();
  const auto function = current_call().function;
  inside_ = true;
  const bool alone = ++shared.inside == 1;
  if (shared.finalizing) give_up("a call was made while C_Finalize ran");
  if (function == Function::C_Finalize) {
    if (!alone) give_up("C_Finalize was called while another call ran");
    shared.finalizing = true;
  }
  if (alone || !shared.initialized) return;
  const bool unsafe = on(Fault::NotThreadSafe);
  if (!unsafe && shared.may_thread) return;
  if (unsafe) trigger(Fault::NotThreadSafe).note();
  ++shared.threads_at_once;
  if (on(Fault::Checker)) give_up("two threads were in a driver that is for one");
}

std::optional<CK_RV> Call::stopped() {
  auto& shared = state();
  const auto& call = current_call();
  read_changed_script();
  if (shared.in_child) {
    if (const auto rv = stopped_in_child(call)) return rv;
  }
  if (!is_outside(call.function)) check_threads();
  if (auto* const delay = firing(Fault::Delay, call.function))
    std::this_thread::sleep_for(std::chrono::microseconds(delay->number()));
  if (auto* const hang = firing(Fault::Hang, call.function)) {
    constexpr unsigned long kLongest = 1'000'000'000;  // what a clock can still add
    hang_for(std::chrono::milliseconds(std::min(hang->number(), kLongest)));
  }
  if (const auto rv = stopped_by_fault()) return rv;
  if (is_one_of(call.function, {Function::C_GetFunctionList, Function::C_Initialize})) return std::nullopt;
  if (!shared.initialized) return CKR_CRYPTOKI_NOT_INITIALIZED;
  return stopped_by_session();
}

std::optional<CK_RV> Call::stopped_by_fault() {
  const auto function = current_call().function;
  if (auto* const fail = firing(Fault::Fail, function)) return fail->number();
  if (is_one_of(function, {Function::C_GetFunctionList, Function::C_Initialize, Function::C_Finalize})) return {};
  if (!state().initialized) return std::nullopt;
  happen();
  if (function == Function::C_GetInfo || function == Function::C_GetSlotList) return std::nullopt;
  return stopped_by_removal();
}

std::optional<CK_RV> Call::stopped_by_session() {
  if (scope_ != Scope::InSession) return std::nullopt;
  auto& shared = state();
  auto& call = current_call();
  auto session = shared.tables.find(call.session);
  if (session == nullptr) {
    shared.known_gone.named(call.session);
    return CKR_SESSION_HANDLE_INVALID;
  }
  const bool shares = shared.tables.enter(*session);
  call.entered = session;
  if (shares) {
    ++shared.threads_in_one_session;
    if (on(Fault::Checker)) give_up("two threads were in one session");
  }
  const bool closes = call.function == Function::C_CloseSession;
  if (const auto rv = shared.tables.death_of(*session)) {
    const bool knew = shared.known_gone.tell(session->number);
    if (knew) ++shared.stale_handles;
    // A session that failed in another way than by being unknown may still be closed.
    if (knew && (!closes || rv == CKR_SESSION_HANDLE_INVALID)) ++shared.stale_again;
    if (closes) shared.tables.closed(*session);
    return rv;
  }
  if (!closes) {
    if (const auto rv = stopped_by_idleness(*session)) return rv;
  }
  if (uses_keys(call.function) && login_is_lost(session->slot)) {
    trigger(Fault::LoseLogin).note();
    return CKR_USER_NOT_LOGGED_IN;
  }
  return std::nullopt;
}

CK_RV Call::answer(CK_RV rv) {
  if (auto* const fail = firing(Fault::FailAfter, current_call().function)) return fail->number();
  return rv;
}

}  // namespace faulty
