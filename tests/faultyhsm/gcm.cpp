// AES-GCM as others do it. All of the work is the real driver's, with parameters that are not the caller's.

#include <algorithm>
#include <atomic>
#include <cstring>

#include "faultyhsm/call.hpp"
#include "faultyhsm/cipher.hpp"
#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

constexpr CK_ULONG kIvSize = 12;
constexpr CK_ULONG kLongIvSize = 16;

/// CK_GCM_PARAMS as it was before PKCS#11 2.40 added ulIvBits.
struct FiveFields {
  CK_BYTE* pIv;
  CK_ULONG ulIvLen;
  CK_BYTE* pAAD;
  CK_ULONG ulAADLen;
  CK_ULONG ulTagBits;
};

std::optional<CK_GCM_PARAMS> parameters_of(const CK_MECHANISM& mechanism) {
  if (mechanism.pParameter == nullptr) return std::nullopt;
  if (on(Fault::GcmLayout) && word<GcmLayout>(Fault::GcmLayout) == GcmLayout::Five) {
    if (mechanism.ulParameterLen != sizeof(FiveFields)) {
      trigger(Fault::GcmLayout).note();
      return std::nullopt;
    }
    const auto& five = *static_cast<const FiveFields*>(mechanism.pParameter);
    return CK_GCM_PARAMS{five.pIv, five.ulIvLen, five.ulIvLen * 8, five.pAAD, five.ulAADLen, five.ulTagBits};
  }
  if (mechanism.ulParameterLen != sizeof(CK_GCM_PARAMS)) return std::nullopt;
  const auto six = *static_cast<const CK_GCM_PARAMS*>(mechanism.pParameter);
  if (!on(Fault::GcmLayout) || six.ulIvBits != 0) return six;
  trigger(Fault::GcmLayout).note();
  return std::nullopt;
}

/// The IV that the token makes.
Bytes random_iv(CK_ULONG size) {
  Bytes iv(size);
  if (on(Fault::GcmIvs) && fires(Fault::GcmIvs)) {
    static auto* const made = new std::atomic<unsigned>(0);
    const unsigned number = word<GcmIvs>(Fault::GcmIvs) == GcmIvs::Counted ? ++*made : 1;
    iv.front() = 0x5a;
    iv[size - 2] = static_cast<CK_BYTE>(number >> 8U);
    iv.back() = static_cast<CK_BYTE>(number);
    return iv;
  }
  if (real().C_GenerateRandom(real_session(), iv.data(), iv.size()) != CKR_OK) iv[0] = 1;
  return iv;
}

/// The IV that is used for encrypting, or nothing if the caller's parameters are not as they must be.
std::optional<Bytes> iv_for(const CK_GCM_PARAMS& parameters) {
  Bytes given;
  if (parameters.pIv != nullptr) given.assign(parameters.pIv, parameters.pIv + parameters.ulIvLen);
  if (!on(Fault::GcmIv)) return given;
  trigger(Fault::GcmIv).note();
  switch (word<GcmIv>(Fault::GcmIv)) {
    case GcmIv::Writeback:
      if (given != Bytes(kIvSize, 0)) return std::nullopt;
      return random_iv(kIvSize);
    case GcmIv::Append16:
      return random_iv(kLongIvSize);
    case GcmIv::Append12:
    case GcmIv::Prepend:
      return random_iv(kIvSize);
    case GcmIv::Longer:
      return random_iv(kLongIvSize);
    case GcmIv::Zeroed:
    case GcmIv::Null:
      return given;
    case GcmIv::Replace:
      break;
  }
  if (!given.empty()) given[0] ^= 1;
  return given;
}

CK_RV begin(CK_SESSION_HANDLE session, Direction direction, Operation& operation) {
  CK_GCM_PARAMS used{operation.iv.data(),  operation.iv.size(),  operation.iv.size() * 8,
                     operation.aad.data(), operation.aad.size(), operation.tag_bits};
  CK_MECHANISM mechanism{CKM_AES_GCM, &used, sizeof(used)};
  return direction == Direction::Encrypt ? real().C_EncryptInit(session, &mechanism, operation.key)
                                         : real().C_DecryptInit(session, &mechanism, operation.key);
}

/// What the caller finds of the IV in its own parameters.
void tell_caller(Operation& operation) {
  if (operation.callers == nullptr || operation.callers->pIv == nullptr) return;
  CK_GCM_PARAMS& told = *operation.callers;
  switch (word<GcmIv>(Fault::GcmIv)) {
    case GcmIv::Writeback:
      std::copy(operation.iv.begin(), operation.iv.end(), told.pIv);
      return;
    case GcmIv::Zeroed:
      std::fill_n(told.pIv, told.ulIvLen, CK_BYTE{0});
      return;
    case GcmIv::Null:
      told.pIv = nullptr;
      told.ulIvLen = told.ulIvBits = 0;
      return;
    case GcmIv::Longer:
      told.ulIvLen = operation.iv.size();
      told.ulIvBits = told.ulIvLen * 8;
      return;
    default:
      return;
  }
}

/// Where the IV goes, and what else is not as it was asked for.
Bytes as_put_out(Operation& operation, const CK_BYTE* data, CK_ULONG size, Bytes sealed) {
  if (on(Fault::GcmPlain) && fires(Fault::GcmPlain)) std::copy(data, data + size, sealed.begin());
  if (on(Fault::GcmSame)) {
    static auto* const mutex = new std::mutex;
    static auto* const first = new std::map<std::size_t, Bytes>;
    const std::lock_guard lock(*mutex);
    const auto [known, is_first] = first->try_emplace(sealed.size(), sealed);
    if (!is_first && fires(Fault::GcmSame)) sealed = known->second;
  }
  if (!on(Fault::GcmIv)) return sealed;
  const auto rule = word<GcmIv>(Fault::GcmIv);
  if (rule == GcmIv::Append12 || rule == GcmIv::Append16)
    sealed.insert(sealed.end(), operation.iv.begin(), operation.iv.end());
  if (rule == GcmIv::Prepend) sealed.insert(sealed.begin(), operation.iv.begin(), operation.iv.end());
  tell_caller(operation);
  return sealed;
}

CK_ULONG size_of_iv_in_output() {
  if (!on(Fault::GcmIv)) return 0;
  const auto rule = word<GcmIv>(Fault::GcmIv);
  if (rule == GcmIv::Append16) return kLongIvSize;
  return rule == GcmIv::Append12 || rule == GcmIv::Prepend ? kIvSize : 0;
}

CK_RV put_out(const Bytes& bytes, CK_BYTE* output, CK_ULONG* output_size) {
  std::copy(bytes.begin(), bytes.end(), output);
  *output_size = bytes.size();
  return CKR_OK;
}

/// Decrypts without looking at the tag: encrypting once more under the same IV takes the key stream away.
std::optional<Bytes> decrypted_unchecked(Operation& operation, CK_BYTE* data, CK_ULONG size) {
  const CK_ULONG tag = operation.tag_bits / 8;
  const OwnSession session(this_session().slot);
  if (size < tag || session.handle() == 0) return std::nullopt;
  if (begin(session.handle(), Direction::Encrypt, operation) != CKR_OK) return std::nullopt;
  Bytes plain(size + kLongIvSize);
  CK_ULONG plain_size = plain.size();
  if (real().C_Encrypt(session.handle(), data, size - tag, plain.data(), &plain_size) != CKR_OK) return std::nullopt;
  plain.resize(size - tag);
  return plain;
}

}  // namespace

bool any_gcm_fault() {
  for (const Fault fault : {Fault::GcmIv, Fault::GcmNoAad, Fault::GcmNoTag, Fault::GcmPlain, Fault::GcmSame,
                            Fault::GcmLayout, Fault::GcmBadTag, Fault::InitMixes}) {
    if (on(fault)) return true;
  }
  return false;
}

CK_RV init_gcm(Direction direction, const CK_MECHANISM& mechanism, CK_OBJECT_HANDLE key, Operation& operation) {
  const auto parameters = parameters_of(mechanism);
  if (!parameters) return CKR_MECHANISM_PARAM_INVALID;
  auto given = *parameters;
  operation.mechanism = CKM_AES_GCM;
  operation.key = key;
  operation.tag_bits = given.ulTagBits;
  if (mechanism.ulParameterLen == sizeof(CK_GCM_PARAMS))
    operation.callers = static_cast<CK_GCM_PARAMS*>(mechanism.pParameter);
  operation.altered = true;
  if (direction == Direction::Encrypt) {
    const auto iv = iv_for(given);
    if (!iv) return CKR_MECHANISM_PARAM_INVALID;
    operation.iv = *iv;
  } else if (given.pIv != nullptr) {
    operation.iv.assign(given.pIv, given.pIv + given.ulIvLen);
  }
  if (on(Fault::GcmNoAad)) {
    trigger(Fault::GcmNoAad).note();
  } else if (given.pAAD != nullptr) {
    operation.aad.assign(given.pAAD, given.pAAD + given.ulAADLen);
  }
  return begin(real_session(), direction, operation);
}

bool begin_mixed(Direction direction, Operation& operation) {
  if (!operation.altered || !on(Fault::InitMixes) || !fires(Fault::InitMixes)) return false;
  CK_BYTE nothing = 0;
  Bytes unseen(64);  // ends what is active in the real driver
  CK_ULONG unseen_size = unseen.size();
  auto* const end = direction == Direction::Encrypt ? real().C_Encrypt : real().C_Decrypt;
  static_cast<void>(end(real_session(), &nothing, 1, unseen.data(), &unseen_size));
  return begin(real_session(), direction, operation) == CKR_OK;
}

CK_RV encrypt_gcm(Operation& operation, CK_BYTE* data, CK_ULONG size, CK_BYTE* output, CK_ULONG* output_size) {
  const CK_ULONG needed = size + operation.tag_bits / 8 + size_of_iv_in_output();
  const CK_ULONG room = *output_size;
  if (output == nullptr || room < needed) {
    *output_size = needed;
    return output == nullptr ? CKR_OK : CKR_BUFFER_TOO_SMALL;
  }
  Bytes sealed(size + operation.tag_bits / 8 + kLongIvSize);
  CK_ULONG sealed_size = sealed.size();
  const CK_RV rv = real().C_Encrypt(real_session(), data, size, sealed.data(), &sealed_size);
  if (rv != CKR_OK) return rv;
  sealed.resize(sealed_size);
  return put_out(as_put_out(operation, data, size, std::move(sealed)), output, output_size);
}

CK_RV decrypt_gcm(Operation& operation, CK_BYTE* data, CK_ULONG size, CK_BYTE* output, CK_ULONG* output_size) {
  const CK_ULONG room = *output_size;
  const CK_RV rv = real().C_Decrypt(real_session(), data, size, output, output_size);
  if (rv == CKR_OK || rv == CKR_BUFFER_TOO_SMALL || output == nullptr) return rv;
  if (on(Fault::GcmNoTag)) {
    const auto plain = decrypted_unchecked(operation, data, size);
    if (plain && plain->size() <= room && fires(Fault::GcmNoTag)) return put_out(*plain, output, output_size);
  }
  return on(Fault::GcmBadTag) && fires(Fault::GcmBadTag) ? trigger(Fault::GcmBadTag).number() : rv;
}

}  // namespace faulty
