#pragma once

#include "faultyhsm/state.hpp"

namespace faulty {

/// What was in a caller's output buffer before the call.
class Untouched {
 public:
  Untouched(const CK_BYTE* output, const CK_ULONG* size);
  [[nodiscard]] CK_ULONG room() const { return room_; }
  void restore(CK_BYTE* output) const;

 private:
  CK_ULONG room_ = 0;
  Bytes bytes_;  ///< only if a fault will ask for them
};

/// F14: what the caller sees of an output that the real driver has written.
[[nodiscard]] CK_RV distort_output(Function function, CK_RV rv, const Untouched& before, CK_BYTE* output,
                                   CK_ULONG* size);

/// F31: listed, and refused when it is used. Counts.
[[nodiscard]] bool mechanism_is_refused(CK_MECHANISM_TYPE mechanism);

enum class Direction { Encrypt, Decrypt };

/// What the real driver gets for C_EncryptInit and C_DecryptInit with AES-GCM.
[[nodiscard]] CK_RV init_gcm(Direction direction, const CK_MECHANISM& mechanism, CK_OBJECT_HANDLE key,
                             Operation& operation);
[[nodiscard]] bool any_gcm_fault();

/// F13: begins anew while an operation is active, with the key, the IV and the associated data of that one.
/// @returns false if this is not a driver that does so, or nothing is active.
[[nodiscard]] bool begin_mixed(Direction direction, Operation& operation);

/// C_Encrypt and C_Decrypt with AES-GCM while a fault of it is on.
[[nodiscard]] CK_RV encrypt_gcm(Operation& operation, CK_BYTE* data, CK_ULONG size, CK_BYTE* output,
                                CK_ULONG* output_size);
[[nodiscard]] CK_RV decrypt_gcm(Operation& operation, CK_BYTE* data, CK_ULONG size, CK_BYTE* output,
                                CK_ULONG* output_size);

}  // namespace faulty
