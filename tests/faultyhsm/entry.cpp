// The function list that hosts get, and the way from there to the real driver.

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <tuple>

#include <dlfcn.h>

#include "faultyhsm/call.hpp"
#include "faultyhsm/directives.hpp"
#include "faultyhsm/faultyhsm.h"

namespace faulty {
namespace {

CK_RV get_function_list(CK_FUNCTION_LIST** list);

/// What the list that callers get points to.
template <Function F, Scope S, auto Member, typename Pointer>
struct Entry;

template <Function F, Scope S, auto Member, typename... Args>
struct Entry<F, S, Member, CK_RV (*)(Args...)> {
  // noexcept: nothing may be thrown into C.
  static CK_RV call(Args... args) noexcept {
    CK_SESSION_HANDLE session = 0;
    if constexpr (S == Scope::InSession) session = std::get<0>(std::tie(args...));
    Call call(F, S, session);
    if (const auto rv = call.stopped()) return *rv;
    if constexpr (F == Function::C_GetFunctionList) {
      return call.answer(get_function_list(args...));
    } else {
      const auto own = overrides().*Member;
      return call.answer(own != nullptr ? own(args...) : forward(args...));
    }
  }

 private:
  static CK_RV forward(Args... args) {
    const auto next = real().*Member;
    if (next == nullptr) return CKR_FUNCTION_NOT_SUPPORTED;
    if constexpr (S == Scope::InSession) std::get<0>(std::tie(args...)) = real_session();
    return next(args...);
  }
};

/// The function list of the library that FAULTYHSM_REAL_MODULE names.
CK_FUNCTION_LIST* load_real() {
  const char* const path = std::getenv("FAULTYHSM_REAL_MODULE");
  void* const library = path != nullptr ? ::dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (library == nullptr) return nullptr;
  const auto get = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(library, "C_GetFunctionList"));
  // Forwarding to this very library would wait for itself.
  if (get == nullptr || get == &C_GetFunctionList) return nullptr;
  CK_FUNCTION_LIST* list = nullptr;
  return get(&list) == CKR_OK ? list : nullptr;
}

CK_FUNCTION_LIST complete_list() {
  CK_FUNCTION_LIST list{};
#define FAULTYHSM_ENTRY(name, scope) \
  list.name = &Entry<Function::name, Scope::scope, &CK_FUNCTION_LIST::name, decltype(CK_FUNCTION_LIST::name)>::call;
  FAULTYHSM_FUNCTIONS(FAULTYHSM_ENTRY)
#undef FAULTYHSM_ENTRY
  return list;
}

/// The pointer of a function in a list; all of them are of one size.
void** pointer_in(CK_FUNCTION_LIST& list, std::size_t function) {
  return reinterpret_cast<void**>(&list.C_Initialize) + function;
}

CK_RV get_function_list(CK_FUNCTION_LIST** list) {
  if (list == nullptr) return CKR_ARGUMENTS_BAD;
  static auto* const loading = new std::mutex;
  auto& shared = state();
  const std::lock_guard lock(*loading);
  if (shared.real.load() == nullptr) {
    auto* const loaded = load_real();
    if (loaded == nullptr) return CKR_GENERAL_ERROR;
    shared.complete_list = complete_list();
    shared.complete_list.version = loaded->version;
    shared.list = shared.complete_list;
    shared.real = loaded;
    read_script();
    for (std::size_t function = 0; function < kFunctions; ++function) {
      if (trigger(Fault::Missing, static_cast<Function>(function)).armed()) take_effect(Fault::Missing, function);
    }
  }
  *list = &shared.list;
  return CKR_OK;
}

}  // namespace

const CK_FUNCTION_LIST& overrides() {
  static const CK_FUNCTION_LIST list = [] {
    CK_FUNCTION_LIST made{};
    add_module_overrides(made);
    add_token_overrides(made);
    add_session_overrides(made);
    add_object_overrides(made);
    add_find_overrides(made);
    add_key_overrides(made);
    add_cipher_overrides(made);
    return made;
  }();
  return list;
}

void take_effect(Fault fault, std::size_t function) {
  if (fault == Fault::Missing && function < kFunctions && state().real.load() != nullptr) {
    *pointer_in(state().list, function) = nullptr;
    trigger(Fault::Missing, static_cast<Function>(function)).note();
  }
  if (fault == Fault::SlotsRenumber && word<SlotsRenumber>(fault) == SlotsRenumber::Now) {
    ++state().slot_shift;
    trigger(fault).note();
  }
}

void lose_effect(Fault fault, std::size_t function) {
  auto& shared = state();
  if (fault == Fault::Missing && function < kFunctions && shared.real.load() != nullptr)
    *pointer_in(shared.list, function) = *pointer_in(shared.complete_list, function);
  if (fault == Fault::SlotsRenumber) shared.slot_shift = 0;
  if (fault == Fault::IdleDies) shared.device_dead = CKR_OK;
  if (fault == Fault::MemberDies) shared.dead_member = ~0UL;
}

}  // namespace faulty

using faulty::state;

extern "C" {

FAULTYHSM_API CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  return faulty::Entry<faulty::Function::C_GetFunctionList, faulty::Scope::NoSession,
                       &CK_FUNCTION_LIST::C_GetFunctionList, decltype(CK_FUNCTION_LIST::C_GetFunctionList)>::call(list);
}

// There, as in drivers of PKCS#11 3.0, and of no use. Newer headers declare it themselves.
#ifdef CKF_INTERFACE_FORK_SAFE
FAULTYHSM_API CK_RV C_GetInterface(CK_BYTE*, CK_VERSION*, CK_INTERFACE**, CK_FLAGS) {
  return CKR_FUNCTION_NOT_SUPPORTED;
}
#else
FAULTYHSM_API CK_RV C_GetInterface(CK_BYTE*, CK_VERSION*, void**, CK_FLAGS) { return CKR_FUNCTION_NOT_SUPPORTED; }
#endif

int faultyhsm_apply(const char* directive) {
  if (directive == nullptr) return FAULTYHSM_BAD_ARGUMENT;
  switch (faulty::apply(directive)) {
    case faulty::Applied::Done:
      return FAULTYHSM_OK;
    case faulty::Applied::UnknownDirective:
      return FAULTYHSM_UNKNOWN_DIRECTIVE;
    case faulty::Applied::BadArgument:
      break;
  }
  return FAULTYHSM_BAD_ARGUMENT;
}

unsigned long faultyhsm_calls(const char* c_function_name) {
  const auto index = faulty::index_of(std::string_view(c_function_name != nullptr ? c_function_name : ""));
  return index ? state().calls[*index].load() : FAULTYHSM_NO_SUCH_NAME;
}

unsigned long faultyhsm_fired(const char* name) {
  return faulty::fired(name != nullptr ? name : "").value_or(FAULTYHSM_NO_SUCH_NAME);
}

unsigned long faultyhsm_last_session(const char* c_function_name) {
  const auto index = faulty::index_of(std::string_view(c_function_name != nullptr ? c_function_name : ""));
  return index ? state().last_sessions[*index].load() : 0;
}

unsigned long faultyhsm_counter(const char* name) {
  const std::string_view asked = name != nullptr ? name : "";
  auto& shared = state();
  if (asked == "calls") {
    unsigned long total = 0;
    for (const auto& calls : shared.calls) total += calls;
    return total;
  }
  if (asked == "length_queries") return shared.length_queries;
  if (asked == "other_ciphers") return shared.other_ciphers;
  if (asked == "threads_in_one_session") return shared.threads_in_one_session;
  if (asked == "threads_at_once") return shared.threads_at_once;
  if (asked == "stale_handles") return shared.stale_handles;
  if (asked == "stale_again") return shared.stale_again;
  if (asked == "wrong_pins") return shared.wrong_pins;
  if (asked == "starts") return shared.starts;
  if (asked == "open_sessions") return shared.tables.open_now();
  if (asked == "open_sessions_at_most") return shared.tables.open_at_most();
  if (asked == "inside") return shared.inside;
  if (asked == "child_calls") return shared.across_forks->calls;
  if (asked == "child_finalized") return shared.across_forks->finalized;
  if (asked == "child_closed") return shared.across_forks->closed;
  return FAULTYHSM_NO_SUCH_NAME;
}

void faultyhsm_reset() {
  auto& shared = state();
  for (auto& calls : shared.calls) calls = 0;
  for (auto* const counter :
       {&shared.length_queries, &shared.other_ciphers, &shared.threads_in_one_session, &shared.threads_at_once,
        &shared.stale_handles, &shared.stale_again, &shared.wrong_pins, &shared.starts, &shared.across_forks->calls,
        &shared.across_forks->finalized, &shared.across_forks->closed})
    *counter = 0;
  shared.tables.forget_most();
  faulty::forget_fired();
}

}  // extern "C"
