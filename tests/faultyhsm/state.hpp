#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <unistd.h>

#include "faultyhsm/faults.hpp"

namespace faulty {

using Bytes = std::vector<CK_BYTE>;

/// What C_EncryptInit or C_DecryptInit began.
struct Operation {
  CK_MECHANISM_TYPE mechanism = 0;  ///< the real one
  CK_OBJECT_HANDLE key = 0;         ///< the real one
  Bytes iv;                         ///< of GCM: the real one
  Bytes aad;
  CK_ULONG tag_bits = 0;
  CK_GCM_PARAMS* callers = nullptr;  ///< where the caller may be told of the IV
  bool altered = false;              ///< some fault of GCM is on
};

/// A session as the host knows it, under a number of its own.
struct Session {
  using Clock = std::chrono::steady_clock;

  CK_SESSION_HANDLE number = 0;
  CK_SESSION_HANDLE real = 0;
  CK_SLOT_ID slot = 0;  ///< the real one
  unsigned long member = 0;
  const pid_t opened_by = ::getpid();
  std::atomic<Clock::rep> last_use{Clock::now().time_since_epoch().count()};

  // Guarded by Tables' mutex.
  unsigned long threads = 0;
  bool ended = false;        ///< closed by the host
  bool real_closed = false;  ///< nothing is left to close
  CK_RV dead = CKR_OK;

  // Of the one thread that may be in it.
  Operation encryption;
  Operation decryption;
  bool finding = false;
  std::vector<CK_OBJECT_HANDLE> found;
  std::size_t next_found = 0;
};
using SessionPtr = std::shared_ptr<Session>;

/// An object that the host was given a number for, or would be.
struct Object {
  CK_OBJECT_HANDLE real = 0;
  std::string identity;  ///< what stays when numbers change; empty if nothing needs it
  bool handed_out = false;
};

/// When and where a key was made, while that matters (F19).
struct Birth {
  Session::Clock::time_point at;
  unsigned long finds = 0;
  unsigned long member = 0;
};

struct Slot {
  std::unordered_map<CK_OBJECT_HANDLE, Object> objects;
  std::unordered_map<CK_OBJECT_HANDLE, CK_OBJECT_HANDLE> numbers;  ///< by the real handle
  std::map<std::string, CK_OBJECT_HANDLE> previous;                ///< the numbers before the last renumbering
  std::map<std::string, Birth> births;
  CK_OBJECT_HANDLE next = 1;
  bool numbered = false;
  bool login_lost = false;
  unsigned long wrong_pins = 0;
  std::string pin;  ///< the last one that was right
};

/// The handles that are gone, and of which the host knows: it has ended them, or was told in an answer.
///
/// Thread safety: all members may be called by any thread.
class KnownGone {
 public:
  /// @param object  0 for the session itself.
  /// @returns whether the host knew it before.
  bool tell(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object = 0);
  /// The host named a handle that is gone, and is told so: counts it, and again if it knew.
  void named(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object = 0);
  /// The number is handed out for something new.
  void session_given(CK_SESSION_HANDLE session);
  void object_given(CK_OBJECT_HANDLE object);

 private:
  std::mutex mutex_;
  std::set<std::pair<CK_OBJECT_HANDLE, CK_SESSION_HANDLE>> gone_;
};

/// Who ended sessions: the host, which knows it then, or another.
enum class EndedBy { Host, Other };

/// Which sessions and objects there are.
///
/// Thread safety: all members may be called by any thread; `locked` gives the slots to one at a time.
class Tables {
 public:
  /// Takes a place for a session that is being opened, unless there are as many as there may be.
  [[nodiscard]] bool reserve(std::optional<unsigned long> most);
  void cancel_reservation();
  /// Takes the place that was reserved.
  SessionPtr open(CK_SESSION_HANDLE real, CK_SLOT_ID slot, unsigned long member);
  [[nodiscard]] SessionPtr find(CK_SESSION_HANDLE number);
  /// @returns whether another thread is in it.
  [[nodiscard]] bool enter(Session& session);
  void leave(const SessionPtr& session);
  void closed(Session& session);
  /// Forgets the sessions of one slot, or all, without closing them.
  void forget(std::optional<CK_SLOT_ID> slot, EndedBy by);
  /// Sessions for which `which` says so answer `rv` from now on; the real ones are closed when nobody is in them.
  void kill(CK_RV rv, const std::function<bool(const Session&)>& which);
  /// What a call in the session must answer, if it is dead.
  [[nodiscard]] std::optional<CK_RV> death_of(const Session& session);
  /// Whether a session with the slot is open.
  [[nodiscard]] bool is_used(CK_SLOT_ID slot);
  [[nodiscard]] unsigned long open_now();
  [[nodiscard]] unsigned long open_at_most();
  [[nodiscard]] CK_SESSION_HANDLE anchor();
  void restart_numbers();
  void forget_most();

  template <typename Work>
  auto locked(CK_SLOT_ID slot, const Work& work) {
    const std::lock_guard lock(mutex_);
    return work(slots_[slot]);
  }
  template <typename Work>
  void for_all_slots(const Work& work) {
    const std::lock_guard lock(mutex_);
    for (auto& [id, slot] : slots_) work(id, slot);
  }
  [[nodiscard]] std::mutex& mutex() { return mutex_; }

 private:
  [[nodiscard]] unsigned long alive() const;

  std::mutex mutex_;
  std::map<CK_SESSION_HANDLE, SessionPtr> sessions_;
  std::map<CK_SLOT_ID, Slot> slots_;
  CK_SESSION_HANDLE newest_ = 0;
  unsigned long opening_ = 0;
  unsigned long most_ = 0;
};

/// What forked children did, which their parent wants to know.
struct AcrossForks {
  std::atomic<unsigned long> calls{0};
  std::atomic<unsigned long> finalized{0};
  std::atomic<unsigned long> closed{0};
};

struct State {
  std::atomic<CK_FUNCTION_LIST*> real{nullptr};
  CK_FUNCTION_LIST list{};
  CK_FUNCTION_LIST complete_list{};
  std::array<std::atomic<unsigned long>, kFunctions> calls{};
  std::array<std::atomic<unsigned long>, kFunctions> last_sessions{};
  std::atomic<unsigned long> length_queries{0};
  std::atomic<unsigned long> other_ciphers{0};
  std::atomic<unsigned long> threads_in_one_session{0};
  std::atomic<unsigned long> threads_at_once{0};  ///< though the driver was not to be used so
  std::atomic<unsigned long> stale_handles{0};
  std::atomic<unsigned long> stale_again{0};
  std::atomic<unsigned long> wrong_pins{0};
  std::atomic<unsigned long> starts{0};

  std::atomic<bool> initialized{false};
  std::atomic<bool> real_initialized{false};
  std::atomic<bool> owns_real{false};
  std::atomic<bool> was_finalized{false};
  std::atomic<bool> finalizing{false};
  std::atomic<bool> may_thread{false};  ///< C_Initialize was told to lock
  std::atomic<bool> in_child{false};
  std::atomic<unsigned long> inside{0};
  std::atomic<unsigned long> device_dead{CKR_OK};
  std::atomic<bool> removed{false};
  std::atomic<unsigned long> slot_shift{0};
  std::atomic<unsigned long> turns{0};
  std::atomic<unsigned long> dead_member{~0UL};

  KnownGone known_gone;
  Tables tables;
  AcrossForks* across_forks = nullptr;
};

State& state();

[[nodiscard]] inline CK_FUNCTION_LIST& real() { return *state().real.load(); }

/// Ids of slots, as the host knows them and as the real driver does.
[[nodiscard]] inline CK_SLOT_ID shown(CK_SLOT_ID real_slot) { return real_slot + state().slot_shift; }
[[nodiscard]] inline CK_SLOT_ID real_slot(CK_SLOT_ID shown_slot) { return shown_slot - state().slot_shift; }

/// FAULTYHSM_SCRIPT. Aborts the process for a line that is no directive.
void read_script();
/// The same, if it is another file than at the last time; asks the file system every few milliseconds.
void read_changed_script();

}  // namespace faulty
