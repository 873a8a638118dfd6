#pragma once

#include <optional>

#include "faultyhsm/functions.hpp"
#include "faultyhsm/state.hpp"

namespace faulty {

/// The call that this thread makes.
struct CurrentCall {
  Function function = Function::C_GetFunctionList;
  CK_SESSION_HANDLE session = 0;  ///< as the caller named it
  SessionPtr entered;             ///< what that is
};

CurrentCall& current_call();

/// The oldest session that is open, 0 if there is none.
CK_SESSION_HANDLE anchor_session();

/// Around one call of the host: what it counts as, and what stops it before it comes to anything.
class Call {
 public:
  Call(Function function, Scope scope, CK_SESSION_HANDLE session);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call();
  /// @returns the answer if the call ends here.
  [[nodiscard]] std::optional<CK_RV> stopped();
  /// @returns the answer that the host gets for the real one.
  [[nodiscard]] CK_RV answer(CK_RV rv);

 private:
  [[nodiscard]] std::optional<CK_RV> stopped_by_fault();
  [[nodiscard]] std::optional<CK_RV> stopped_by_session();
  void check_threads();

  CurrentCall before_;
  Scope scope_;
  bool inside_ = false;
};

/// Functions with an answer of their own; null pointers are forwarded.
const CK_FUNCTION_LIST& overrides();
void add_module_overrides(CK_FUNCTION_LIST& list);
void add_token_overrides(CK_FUNCTION_LIST& list);
void add_session_overrides(CK_FUNCTION_LIST& list);
void add_object_overrides(CK_FUNCTION_LIST& list);
void add_find_overrides(CK_FUNCTION_LIST& list);
void add_key_overrides(CK_FUNCTION_LIST& list);
void add_cipher_overrides(CK_FUNCTION_LIST& list);

/// The session that this thread's call is in, for the real driver and as it is here.
[[nodiscard]] inline Session& this_session() { return *current_call().entered; }
[[nodiscard]] inline CK_SESSION_HANDLE real_session() { return current_call().entered->real; }

}  // namespace faulty
