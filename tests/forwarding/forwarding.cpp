#include "forwarding.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

namespace {

// Every function of CK_FUNCTION_LIST 2.40, in its order, and whether its first argument is a session.
#define HSMSEAL_FORWARDED(X)          \
  X(C_Initialize, NoSession)          \
  X(C_Finalize, NoSession)            \
  X(C_GetInfo, NoSession)             \
  X(C_GetFunctionList, NoSession)     \
  X(C_GetSlotList, NoSession)         \
  X(C_GetSlotInfo, NoSession)         \
  X(C_GetTokenInfo, NoSession)        \
  X(C_GetMechanismList, NoSession)    \
  X(C_GetMechanismInfo, NoSession)    \
  X(C_InitToken, NoSession)           \
  X(C_InitPIN, InSession)             \
  X(C_SetPIN, InSession)              \
  X(C_OpenSession, NoSession)         \
  X(C_CloseSession, InSession)        \
  X(C_CloseAllSessions, NoSession)    \
  X(C_GetSessionInfo, InSession)      \
  X(C_GetOperationState, InSession)   \
  X(C_SetOperationState, InSession)   \
  X(C_Login, InSession)               \
  X(C_Logout, InSession)              \
  X(C_CreateObject, InSession)        \
  X(C_CopyObject, InSession)          \
  X(C_DestroyObject, InSession)       \
  X(C_GetObjectSize, InSession)       \
  X(C_GetAttributeValue, InSession)   \
  X(C_SetAttributeValue, InSession)   \
  X(C_FindObjectsInit, InSession)     \
  X(C_FindObjects, InSession)         \
  X(C_FindObjectsFinal, InSession)    \
  X(C_EncryptInit, InSession)         \
  X(C_Encrypt, InSession)             \
  X(C_EncryptUpdate, InSession)       \
  X(C_EncryptFinal, InSession)        \
  X(C_DecryptInit, InSession)         \
  X(C_Decrypt, InSession)             \
  X(C_DecryptUpdate, InSession)       \
  X(C_DecryptFinal, InSession)        \
  X(C_DigestInit, InSession)          \
  X(C_Digest, InSession)              \
  X(C_DigestUpdate, InSession)        \
  X(C_DigestKey, InSession)           \
  X(C_DigestFinal, InSession)         \
  X(C_SignInit, InSession)            \
  X(C_Sign, InSession)                \
  X(C_SignUpdate, InSession)          \
  X(C_SignFinal, InSession)           \
  X(C_SignRecoverInit, InSession)     \
  X(C_SignRecover, InSession)         \
  X(C_VerifyInit, InSession)          \
  X(C_Verify, InSession)              \
  X(C_VerifyUpdate, InSession)        \
  X(C_VerifyFinal, InSession)         \
  X(C_VerifyRecoverInit, InSession)   \
  X(C_VerifyRecover, InSession)       \
  X(C_DigestEncryptUpdate, InSession) \
  X(C_DecryptDigestUpdate, InSession) \
  X(C_SignEncryptUpdate, InSession)   \
  X(C_DecryptVerifyUpdate, InSession) \
  X(C_GenerateKey, InSession)         \
  X(C_GenerateKeyPair, InSession)     \
  X(C_WrapKey, InSession)             \
  X(C_UnwrapKey, InSession)           \
  X(C_DeriveKey, InSession)           \
  X(C_SeedRandom, InSession)          \
  X(C_GenerateRandom, InSession)      \
  X(C_GetFunctionStatus, InSession)   \
  X(C_CancelFunction, InSession)      \
  X(C_WaitForSlotEvent, NoSession)

enum class Scope { NoSession, InSession };

// clang-format off
enum class Function : std::size_t {
#define HSMSEAL_ENUMERATOR(name, scope) name,
  HSMSEAL_FORWARDED(HSMSEAL_ENUMERATOR)
#undef HSMSEAL_ENUMERATOR
};

constexpr std::string_view kNames[] = {
#define HSMSEAL_NAME(name, scope) #name,
  HSMSEAL_FORWARDED(HSMSEAL_NAME)
#undef HSMSEAL_NAME
};
// clang-format on

constexpr std::size_t kFunctions = std::size(kNames);
static_assert(kFunctions == 68);
static_assert(sizeof(CK_FUNCTION_LIST) == sizeof(void*) * (kFunctions + 1));

constexpr std::size_t index_of(Function function) { return static_cast<std::size_t>(function); }

std::optional<std::size_t> index_of(const char* name) {
  const auto found = std::find(std::begin(kNames), std::end(kNames), std::string_view(name != nullptr ? name : ""));
  if (found == std::end(kNames)) return std::nullopt;
  return static_cast<std::size_t>(found - std::begin(kNames));
}

/// Which sessions are open, and which threads are in them.
///
/// A driver may give a number out again as soon as it has closed a session, before the closing thread is back here. So
/// what a thread knows about a session is the number and the generation of its opening.
class Sessions {
 public:
  struct Visit {
    CK_SESSION_HANDLE handle;
    unsigned long generation;
  };

  /// Takes a place for a session that is being opened, unless there are as many as there may be.
  bool reserve(unsigned long most) {
    const std::lock_guard lock(mutex_);
    if (most != 0 && open_ + opening_ >= most) return false;
    ++opening_;
    return true;
  }

  void cancel_reservation() {
    const std::lock_guard lock(mutex_);
    --opening_;
  }

  void opened(CK_SESSION_HANDLE handle, CK_SLOT_ID slot) {
    const std::lock_guard lock(mutex_);
    --opening_;
    erase(handle);
    known_[handle] = {++newest_, slot, 0, true};
    ++open_;
  }

  /// @returns whether another thread is in the session.
  [[nodiscard]] bool enter(CK_SESSION_HANDLE handle, Visit& visit) {
    const std::lock_guard lock(mutex_);
    auto& session = known_[handle];  // also a number that was never opened: two threads must not share that either
    visit = {handle, session.generation};
    return session.threads++ != 0;
  }

  void leave(const Visit& visit) {
    const std::lock_guard lock(mutex_);
    const auto found = find(visit);
    if (found == known_.end()) return;
    if (--found->second.threads == 0 && !found->second.open) known_.erase(found);
  }

  void closed(const Visit& visit) {
    const std::lock_guard lock(mutex_);
    const auto found = find(visit);
    if (found == known_.end() || !found->second.open) return;
    found->second.open = false;  // leave() forgets it
    --open_;
  }

  [[nodiscard]] unsigned long newest() {
    const std::lock_guard lock(mutex_);
    return newest_;
  }

  /// Ends the sessions with one slot, or with all, that were open at a time.
  void all_closed(std::optional<CK_SLOT_ID> slot, unsigned long newest) {
    const std::lock_guard lock(mutex_);
    for (auto entry = known_.begin(); entry != known_.end();) {
      const auto& session = entry->second;
      const bool ended = session.open && session.generation <= newest && (!slot || session.slot == *slot);
      if (ended) --open_;
      entry = ended ? known_.erase(entry) : std::next(entry);
    }
  }

  [[nodiscard]] unsigned long open() {
    const std::lock_guard lock(mutex_);
    return open_;
  }

 private:
  struct Session {
    unsigned long generation = 0;
    CK_SLOT_ID slot = 0;
    unsigned long threads = 0;
    bool open = false;
  };
  using Known = std::unordered_map<CK_SESSION_HANDLE, Session>;

  Known::iterator find(const Visit& visit) {
    const auto found = known_.find(visit.handle);
    return found != known_.end() && found->second.generation == visit.generation ? found : known_.end();
  }

  void erase(CK_SESSION_HANDLE handle) {
    const auto found = known_.find(handle);
    if (found == known_.end()) return;
    if (found->second.open) --open_;
    known_.erase(found);
  }

  std::mutex mutex_;
  Known known_;
  unsigned long open_ = 0;
  unsigned long opening_ = 0;
  unsigned long newest_ = 0;
};

struct Failure {
  std::atomic<unsigned long> rv{0};
  std::atomic<unsigned long> left{0};

  std::optional<CK_RV> take() {
    auto now = left.load();
    while (now != 0) {
      if (left.compare_exchange_weak(now, now - 1)) return rv.load();
    }
    return std::nullopt;
  }
};

struct State {
  std::mutex loading;
  std::atomic<CK_FUNCTION_LIST*> real{nullptr};
  CK_FUNCTION_LIST list{};
  std::array<std::atomic<unsigned long>, kFunctions> calls{};
  std::array<Failure, kFunctions> failures;
  std::atomic<unsigned long> length_queries{0};
  std::atomic<unsigned long> threads_in_one_session{0};
  std::atomic<unsigned long> most_sessions{0};
  std::atomic<unsigned long> most_found{0};
  std::array<std::atomic<unsigned long>, kFunctions> last_sessions{};
  std::atomic<bool> changes_ivs{false};
  std::mutex labels_mutex;
  std::map<std::string, std::string> swapped_labels;  ///< padded as in CK_TOKEN_INFO
  Sessions sessions;
};

State& state() {
  // Never destroyed: the host's exit handlers may still call in, and drivers stay loaded to the end.
  static auto* const instance = new State;
  return *instance;
}

CK_RV get_function_list(CK_FUNCTION_LIST** list);

/// Gives the real driver the caller's AES-GCM parameters with another IV.
template <typename Init>
CK_RV with_another_iv(Init init, CK_SESSION_HANDLE session, const CK_MECHANISM& mechanism, CK_OBJECT_HANDLE key) {
  CK_GCM_PARAMS parameters = *static_cast<CK_GCM_PARAMS*>(mechanism.pParameter);
  std::vector<CK_BYTE> iv(parameters.pIv, parameters.pIv + parameters.ulIvLen);
  iv.at(0) ^= 1;
  parameters.pIv = iv.data();
  CK_MECHANISM changed{mechanism.mechanism, &parameters, sizeof(parameters)};
  return init(session, &changed, key);
}

/// Exchanges the label in a token's description, if it is one of the two.
void swap_label(CK_TOKEN_INFO& token) {
  auto& shared = state();
  const std::lock_guard lock(shared.labels_mutex);
  for (const auto& [label, shown] : shared.swapped_labels) {
    if (std::memcmp(token.label, label.data(), sizeof(token.label)) != 0) continue;
    std::memcpy(token.label, shown.data(), sizeof(token.label));
    return;
  }
}

/// Makes the real call and notes what it does to the sessions.
template <Function F, typename... Args>
CK_RV forward(CK_RV (*real)(Args...), [[maybe_unused]] const Sessions::Visit& visit, Args... args) {
  [[maybe_unused]] auto& sessions = state().sessions;
  [[maybe_unused]] const auto all = std::tie(args...);
  if constexpr (F == Function::C_OpenSession) {
    if (!sessions.reserve(state().most_sessions)) return CKR_SESSION_COUNT;
    const CK_RV rv = real(args...);
    if (rv == CKR_OK) {
      sessions.opened(*std::get<4>(all), std::get<0>(all));
    } else {
      sessions.cancel_reservation();
    }
    return rv;
  } else if constexpr (F == Function::C_CloseSession) {
    const CK_RV rv = real(args...);
    if (rv == CKR_OK || rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED) sessions.closed(visit);
    return rv;
  } else if constexpr (F == Function::C_CloseAllSessions || F == Function::C_Finalize) {
    const auto newest = sessions.newest();
    const CK_RV rv = real(args...);
    if constexpr (F == Function::C_Finalize) {
      if (rv == CKR_OK) sessions.all_closed(std::nullopt, newest);
    } else {
      if (rv == CKR_OK) sessions.all_closed(std::get<0>(all), newest);
    }
    return rv;
  } else if constexpr (F == Function::C_EncryptInit) {
    const CK_MECHANISM* const mechanism = std::get<1>(all);
    const bool is_gcm = mechanism != nullptr && mechanism->mechanism == CKM_AES_GCM;
    if (is_gcm && state().changes_ivs) return with_another_iv(real, std::get<0>(all), *mechanism, std::get<2>(all));
    return real(args...);
  } else if constexpr (F == Function::C_FindObjects) {
    const CK_ULONG most = state().most_found;
    const CK_ULONG asked = std::get<2>(all);
    return real(std::get<0>(all), std::get<1>(all), most == 0 ? asked : std::min(asked, most), std::get<3>(all));
  } else if constexpr (F == Function::C_GetTokenInfo) {
    const CK_RV rv = real(args...);
    if (rv == CKR_OK) swap_label(*std::get<1>(all));
    return rv;
  } else {
    if constexpr (F == Function::C_Encrypt || F == Function::C_Decrypt || F == Function::C_Sign) {
      if (std::get<3>(all) == nullptr) ++state().length_queries;
    }
    return real(args...);
  }
}

/// What the list that callers get points to.
template <Function F, Scope S, auto Member, typename Pointer>
struct Entry;

template <Function F, Scope S, auto Member, typename... Args>
struct Entry<F, S, Member, CK_RV (*)(Args...)> {
  // noexcept: nothing may be thrown into C.
  static CK_RV call(Args... args) noexcept {
    auto& shared = state();
    ++shared.calls[index_of(F)];
    if constexpr (S == Scope::InSession) shared.last_sessions[index_of(F)] = std::get<0>(std::tie(args...));
    if (const auto rv = shared.failures[index_of(F)].take()) return *rv;
    if constexpr (F == Function::C_GetFunctionList) {
      return get_function_list(args...);
    } else {
      const auto real = shared.real.load()->*Member;
      if (real == nullptr) return CKR_FUNCTION_NOT_SUPPORTED;
      Sessions::Visit visit{};
      if constexpr (S == Scope::InSession) {
        if (shared.sessions.enter(std::get<0>(std::tie(args...)), visit)) ++shared.threads_in_one_session;
      }
      const CK_RV rv = forward<F>(real, visit, args...);
      if constexpr (S == Scope::InSession) shared.sessions.leave(visit);
      return rv;
    }
  }
};

/// The function list of the library that HSMSEAL_FORWARD_TO names.
CK_FUNCTION_LIST* load_real() {
  const char* const path = std::getenv("HSMSEAL_FORWARD_TO");
  void* const library = path != nullptr ? ::dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (library == nullptr) return nullptr;
  const auto get = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(library, "C_GetFunctionList"));
  // Forwarding to this very library would wait for itself.
  if (get == nullptr || get == &C_GetFunctionList) return nullptr;
  CK_FUNCTION_LIST* list = nullptr;
  return get(&list) == CKR_OK ? list : nullptr;
}

CK_RV get_function_list(CK_FUNCTION_LIST** list) {
  if (list == nullptr) return CKR_ARGUMENTS_BAD;
  auto& shared = state();
  const std::lock_guard lock(shared.loading);
  if (shared.real.load() == nullptr) {
    auto* const real = load_real();
    if (real == nullptr) return CKR_GENERAL_ERROR;
    shared.list.version = real->version;
#define HSMSEAL_ENTRY(name, scope) \
  shared.list.name =               \
      &Entry<Function::name, Scope::scope, &CK_FUNCTION_LIST::name, decltype(CK_FUNCTION_LIST::name)>::call;
    HSMSEAL_FORWARDED(HSMSEAL_ENTRY)
#undef HSMSEAL_ENTRY
    shared.real = real;
  }
  *list = &shared.list;
  return CKR_OK;
}

}  // namespace

extern "C" {

FORWARDING_API CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  return Entry<Function::C_GetFunctionList, Scope::NoSession, &CK_FUNCTION_LIST::C_GetFunctionList,
               decltype(CK_FUNCTION_LIST::C_GetFunctionList)>::call(list);
}

unsigned long forwarding_calls(const char* c_function_name) {
  const auto index = index_of(c_function_name);
  return index ? state().calls[*index].load() : static_cast<unsigned long>(-1);
}

unsigned long forwarding_calls_total() {
  unsigned long total = 0;
  for (const auto& calls : state().calls) total += calls;
  return total;
}

unsigned long forwarding_length_queries() { return state().length_queries; }

unsigned long forwarding_threads_in_one_session() { return state().threads_in_one_session; }

unsigned long forwarding_open_sessions() { return state().sessions.open(); }

unsigned long forwarding_last_session(const char* c_function_name) {
  const auto index = index_of(c_function_name);
  return index ? state().last_sessions[*index].load() : 0;
}

void forwarding_reset() {
  for (auto& calls : state().calls) calls = 0;
  state().length_queries = 0;
  state().threads_in_one_session = 0;
}

void forwarding_fail_next(const char* c_function_name, unsigned long rv, unsigned long count) {
  const auto index = index_of(c_function_name);
  if (!index) {
    std::fprintf(stderr, "forwarding_fail_next: '%s' is no PKCS#11 function\n",
                 c_function_name != nullptr ? c_function_name : "(null)");
    std::abort();
  }
  auto& failure = state().failures[*index];
  failure.left = 0;
  failure.rv = rv;
  failure.left = count;
}

void forwarding_limit_sessions(unsigned long most) { state().most_sessions = most; }

void forwarding_limit_found(unsigned long most) { state().most_found = most; }

void forwarding_change_ivs(unsigned long on) { state().changes_ivs = on != 0; }

void forwarding_swap_labels(const char* one, const char* other) {
  const auto padded = [](std::string label) {
    label.resize(sizeof(CK_TOKEN_INFO{}.label), ' ');
    return label;
  };
  auto& shared = state();
  const std::lock_guard lock(shared.labels_mutex);
  shared.swapped_labels.clear();
  if (one == nullptr || other == nullptr) return;
  shared.swapped_labels = {{padded(one), padded(other)}, {padded(other), padded(one)}};
}

}  // extern "C"
