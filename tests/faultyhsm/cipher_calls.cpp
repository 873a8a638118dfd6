// C_EncryptInit to C_Decrypt.

#include <algorithm>

#include "faultyhsm/call.hpp"
#include "faultyhsm/cipher.hpp"
#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

using RealCall = CK_RV (*)(CK_SESSION_HANDLE, CK_BYTE*, CK_ULONG, CK_BYTE*, CK_ULONG*);

Operation& operation_of(Direction direction) {
  return direction == Direction::Encrypt ? this_session().encryption : this_session().decryption;
}

CK_RV init(Direction direction, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  auto& operation = operation_of(direction);
  const auto handle = real_object(key);
  auto* const real_init = direction == Direction::Encrypt ? real().C_EncryptInit : real().C_DecryptInit;
  if (mechanism == nullptr) return real_init(real_session(), mechanism, handle);
  if (mechanism->mechanism != CKM_AES_GCM) ++state().other_ciphers;
  if (mechanism_is_refused(mechanism->mechanism)) return CKR_MECHANISM_INVALID;
  if (begin_mixed(direction, operation)) return CKR_OK;
  CK_MECHANISM used = *mechanism;
  if (on(Fault::GcmMechanism)) {
    trigger(Fault::GcmMechanism).note();
    if (used.mechanism == CKM_AES_GCM) return CKR_MECHANISM_INVALID;
    if (used.mechanism == trigger(Fault::GcmMechanism).number()) used.mechanism = CKM_AES_GCM;
  }
  Operation begun;
  begun.mechanism = used.mechanism;
  const bool altered = used.mechanism == CKM_AES_GCM && any_gcm_fault();
  const CK_RV rv = altered ? init_gcm(direction, used, handle, begun) : real_init(real_session(), &used, handle);
  if (rv == CKR_OK) operation = std::move(begun);
  return rv;
}

/// F12: what is said of the size, and F13: what keeps the operation from its end. Nothing if the call goes on.
std::optional<CK_RV> stopped_before(Direction direction, CK_ULONG size, const CK_BYTE* output, CK_ULONG* output_size) {
  if (output != nullptr && fires(Fault::StaysActive)) {
    const CK_RV rv = trigger(Fault::StaysActive).number();
    return rv != CKR_OK ? rv : CKR_GENERAL_ERROR;
  }
  if (output == nullptr || output_size == nullptr) return std::nullopt;
  if (on(Fault::TooSmall)) {
    const auto least = trigger(Fault::TooSmall).number();
    if ((least == 0 || *output_size < least) && fires(Fault::TooSmall)) {
      *output_size = std::max(least, *output_size);
      return CKR_BUFFER_TOO_SMALL;
    }
  }
  const bool refuses_exact = direction == Direction::Decrypt && on(Fault::ExactRefused) && *output_size < size;
  if (refuses_exact && fires(Fault::ExactRefused)) {
    *output_size = size;
    return CKR_BUFFER_TOO_SMALL;
  }
  return std::nullopt;
}

CK_RV distort_length(CK_RV rv, RealCall call, CK_BYTE* data, CK_ULONG size, CK_ULONG* output_size) {
  constexpr CK_ULONG kOff = 7;
  switch (word<LengthQuery>(Fault::LengthQuery)) {
    case LengthQuery::Over:
      *output_size += kOff;
      return rv;
    case LengthQuery::Under:
      *output_size -= std::min(*output_size, kOff);
      return rv;
    case LengthQuery::Zero:
      *output_size = 0;
      return rv;
    case LengthQuery::TooSmall:
      return CKR_BUFFER_TOO_SMALL;
    case LengthQuery::Consumes:
      break;
  }
  Bytes unseen(*output_size + size + kOff);
  CK_ULONG unseen_size = unseen.size();
  static_cast<void>(call(real_session(), data, size, unseen.data(), &unseen_size));
  return rv;
}

/// F10: a driver without an eye for the padding, or with too sharp a one.
CK_RV distort_padding(CK_RV rv, CK_ULONG size, const Untouched& before, CK_BYTE* output, CK_ULONG* output_size) {
  if (rv == CKR_OK || rv == CKR_BUFFER_TOO_SMALL || output == nullptr) return rv;
  if (on(Fault::CbcPadRv) && fires(Fault::CbcPadRv)) return trigger(Fault::CbcPadRv).number();
  if (!on(Fault::CbcPadGarbage) || !fires(Fault::CbcPadGarbage)) return rv;
  *output_size = std::min(before.room(), size > 1 ? size - 1 : 0);
  for (CK_ULONG i = 0; i < *output_size; ++i) output[i] = static_cast<CK_BYTE>(i * 31 + 5);
  return CKR_OK;
}

/// F10: without padding there is nothing that could be wrong, but a driver may fail all the same, or lie.
CK_RV distort_cbc(Direction direction, CK_RV rv, const CK_BYTE* data, CK_ULONG size, CK_BYTE* output) {
  if (rv != CKR_OK || output == nullptr) return rv;
  if (direction == Direction::Encrypt) {
    if (on(Fault::CbcPlain) && fires(Fault::CbcPlain)) std::copy(data, data + size, output);
    return rv;
  }
  if (on(Fault::CbcRv) && fires(Fault::CbcRv)) return trigger(Fault::CbcRv).number();
  if (on(Fault::CbcGarbage) && fires(Fault::CbcGarbage)) {
    for (CK_ULONG i = 0; i < size; ++i) output[i] = static_cast<CK_BYTE>(output[i] ^ (i * 31 + 5));
  }
  return rv;
}

CK_RV run(Direction direction, CK_BYTE* data, CK_ULONG size, CK_BYTE* output, CK_ULONG* output_size) {
  const bool encrypts = direction == Direction::Encrypt;
  auto& operation = operation_of(direction);
  auto* const call = encrypts ? real().C_Encrypt : real().C_Decrypt;
  if (output == nullptr) ++state().length_queries;
  if (const auto rv = stopped_before(direction, size, output, output_size)) return *rv;
  const Untouched before(output, output_size);
  CK_RV rv = CKR_OK;
  if (operation.altered && output_size != nullptr && data != nullptr) {
    rv = encrypts ? encrypt_gcm(operation, data, size, output, output_size)
                  : decrypt_gcm(operation, data, size, output, output_size);
  } else {
    rv = call(real_session(), data, size, output, output_size);
  }
  if (output == nullptr && rv == CKR_OK && on(Fault::LengthQuery) && fires(Fault::LengthQuery))
    return distort_length(rv, call, data, size, output_size);
  if (operation.mechanism == CKM_AES_CBC) rv = distort_cbc(direction, rv, data, size, output);
  if (!encrypts && operation.mechanism == CKM_AES_CBC_PAD) rv = distort_padding(rv, size, before, output, output_size);
  if (output == nullptr) return rv;
  if (rv != CKR_BUFFER_TOO_SMALL) operation = {};
  return distort_output(encrypts ? Function::C_Encrypt : Function::C_Decrypt, rv, before, output, output_size);
}

CK_RV encrypt_init(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  return init(Direction::Encrypt, mechanism, key);
}

CK_RV decrypt_init(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  return init(Direction::Decrypt, mechanism, key);
}

CK_RV encrypt(CK_SESSION_HANDLE, CK_BYTE* data, CK_ULONG size, CK_BYTE* output, CK_ULONG* output_size) {
  return run(Direction::Encrypt, data, size, output, output_size);
}

CK_RV decrypt(CK_SESSION_HANDLE, CK_BYTE* data, CK_ULONG size, CK_BYTE* output, CK_ULONG* output_size) {
  return run(Direction::Decrypt, data, size, output, output_size);
}

bool any_output_fault() {
  return trigger(Fault::Output, Function::C_Encrypt).armed() || trigger(Fault::Output, Function::C_Decrypt).armed() ||
         trigger(Fault::Output, Function::C_WrapKey).armed();
}

}  // namespace

Untouched::Untouched(const CK_BYTE* output, const CK_ULONG* size) {
  if (output == nullptr || size == nullptr) return;
  room_ = *size;
  if (any_output_fault()) bytes_.assign(output, output + room_);
}

void Untouched::restore(CK_BYTE* output) const { std::copy(bytes_.begin(), bytes_.end(), output); }

CK_RV distort_output(Function function, CK_RV rv, const Untouched& before, CK_BYTE* output, CK_ULONG* size) {
  if (rv != CKR_OK || output == nullptr || size == nullptr) return rv;
  auto* const fault = firing(Fault::Output, function);
  if (fault == nullptr) return rv;
  switch (static_cast<Output>(fault->number())) {
    case Output::Short:
      if (*size != 0) --*size;
      break;
    case Output::Long:
      if (*size < before.room()) output[(*size)++] = 0;
      break;
    case Output::Untouched:
      before.restore(output);
      break;
    case Output::Overrun:
      *size = before.room() + 1;
      break;
  }
  return rv;
}

bool mechanism_is_refused(CK_MECHANISM_TYPE mechanism) {
  return on(Fault::MechanismRefused) && mechanism == trigger(Fault::MechanismRefused).number() &&
         fires(Fault::MechanismRefused);
}

void add_cipher_overrides(CK_FUNCTION_LIST& list) {
  list.C_EncryptInit = encrypt_init;
  list.C_DecryptInit = decrypt_init;
  list.C_Encrypt = encrypt;
  list.C_Decrypt = decrypt;
}

}  // namespace faulty
