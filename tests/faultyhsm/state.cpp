#include "faultyhsm/state.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include <pthread.h>
#include <sys/mman.h>

#include "faultyhsm/call.hpp"

namespace faulty {
namespace {

void before_fork() {
  state().tables.mutex().lock();
  lock_faults();
}

void after_fork_in_parent() {
  unlock_faults();
  state().tables.mutex().unlock();
}

void after_fork_in_child() {
  after_fork_in_parent();
  state().in_child = true;
  state().inside = 0;
}

State* make_state() {
  auto* const made = new State;
  void* const memory = ::mmap(nullptr, sizeof(AcrossForks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  made->across_forks = memory != MAP_FAILED ? new (memory) AcrossForks : new AcrossForks;
  ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  return made;
}

}  // namespace

State& state() {
  // Never destroyed: the host's exit handlers may still call in, and drivers stay loaded to the end.
  static auto* const instance = make_state();
  return *instance;
}

CurrentCall& current_call() {
  thread_local CurrentCall call;
  return call;
}

CK_SESSION_HANDLE anchor_session() { return state().tables.anchor(); }

bool KnownGone::tell(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object) {
  const std::lock_guard lock(mutex_);
  return !gone_.emplace(object, session).second;
}

void KnownGone::named(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object) {
  ++state().stale_handles;
  if (tell(session, object)) ++state().stale_again;
}

void KnownGone::session_given(CK_SESSION_HANDLE session) {
  const std::lock_guard lock(mutex_);
  std::erase_if(gone_, [&](const auto& one) { return one.second == session; });
}

void KnownGone::object_given(CK_OBJECT_HANDLE object) {
  const std::lock_guard lock(mutex_);
  gone_.erase(gone_.lower_bound({object, 0}), gone_.lower_bound({object + 1, 0}));
}

bool Tables::reserve(std::optional<unsigned long> most) {
  const std::lock_guard lock(mutex_);
  if (most && alive() + opening_ >= *most) return false;
  ++opening_;
  return true;
}

void Tables::cancel_reservation() {
  const std::lock_guard lock(mutex_);
  --opening_;
}

SessionPtr Tables::open(CK_SESSION_HANDLE real, CK_SLOT_ID slot, unsigned long member) {
  const std::lock_guard lock(mutex_);
  --opening_;
  auto session = std::make_shared<Session>();
  session->number = ++newest_;
  session->real = real;
  session->slot = slot;
  session->member = member;
  sessions_[session->number] = session;
  state().known_gone.session_given(session->number);
  most_ = std::max(most_, alive());
  return session;
}

SessionPtr Tables::find(CK_SESSION_HANDLE number) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(number);
  return found != sessions_.end() ? found->second : nullptr;
}

bool Tables::enter(Session& session) {
  const std::lock_guard lock(mutex_);
  return session.threads++ != 0;
}

void Tables::leave(const SessionPtr& session) {
  {
    const std::lock_guard lock(mutex_);
    if (--session->threads != 0 || session->dead == CKR_OK || session->real_closed) return;
    session->real_closed = true;
  }
  if (state().real_initialized) real().C_CloseSession(session->real);
}

void Tables::closed(Session& session) {
  const std::lock_guard lock(mutex_);
  session.ended = true;
  state().known_gone.tell(session.number);
  sessions_.erase(session.number);
}

void Tables::forget(std::optional<CK_SLOT_ID> slot, EndedBy by) {
  const std::lock_guard lock(mutex_);
  for (auto at = sessions_.begin(); at != sessions_.end();) {
    const bool goes = !slot || at->second->slot == *slot;
    if (goes) at->second->ended = at->second->real_closed = true;
    if (goes && by == EndedBy::Host) state().known_gone.tell(at->first);
    at = goes ? sessions_.erase(at) : std::next(at);
  }
}

void Tables::kill(CK_RV rv, const std::function<bool(const Session&)>& which) {
  std::vector<CK_SESSION_HANDLE> to_close;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [number, session] : sessions_) {
      if (session->dead != CKR_OK || !which(*session)) continue;
      session->dead = rv;
      if (session->threads != 0 || session->real_closed) continue;  // leave() closes it
      session->real_closed = true;
      to_close.push_back(session->real);
    }
  }
  for (const auto session : to_close) real().C_CloseSession(session);
}

std::optional<CK_RV> Tables::death_of(const Session& session) {
  const std::lock_guard lock(mutex_);
  if (session.dead == CKR_OK) return std::nullopt;
  return session.dead;
}

unsigned long Tables::alive() const {
  return static_cast<unsigned long>(
      std::count_if(sessions_.begin(), sessions_.end(), [](const auto& one) { return one.second->dead == CKR_OK; }));
}

bool Tables::is_used(CK_SLOT_ID slot) {
  const std::lock_guard lock(mutex_);
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [&](const auto& one) { return one.second->slot == slot && one.second->dead == CKR_OK; });
}

unsigned long Tables::open_now() {
  const std::lock_guard lock(mutex_);
  return alive();
}

unsigned long Tables::open_at_most() {
  const std::lock_guard lock(mutex_);
  return most_;
}

CK_SESSION_HANDLE Tables::anchor() {
  const std::lock_guard lock(mutex_);
  for (const auto& [number, session] : sessions_) {
    if (session->dead == CKR_OK) return number;
  }
  return 0;
}

void Tables::restart_numbers() {
  const std::lock_guard lock(mutex_);
  newest_ = 0;
}

void Tables::forget_most() {
  const std::lock_guard lock(mutex_);
  most_ = alive();
}

}  // namespace faulty
