// Keys that are made, wrapped and unwrapped; MACs and random numbers.

#include <algorithm>

#include "faultyhsm/call.hpp"
#include "faultyhsm/cipher.hpp"
#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

bool has(const CK_ATTRIBUTE* attributes, CK_ULONG count, CK_ATTRIBUTE_TYPE type) {
  return attributes != nullptr &&
         std::any_of(attributes, attributes + count, [&](const CK_ATTRIBUTE& one) { return one.type == type; });
}

CK_RV generate_key(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_ATTRIBUTE* attributes, CK_ULONG count,
                   CK_OBJECT_HANDLE* key) {
  if (on(Fault::GenerateRejects) && has(attributes, count, trigger(Fault::GenerateRejects).number()) &&
      fires(Fault::GenerateRejects))
    return CKR_ATTRIBUTE_TYPE_INVALID;
  std::vector<CK_ATTRIBUTE> given;
  if (attributes != nullptr) given.assign(attributes, attributes + count);
  CK_BBOOL flag = CK_FALSE;
  if (on(Fault::GenerateSets) && fires(Fault::GenerateSets)) {
    const auto type = trigger(Fault::GenerateSets).number(0);
    flag = trigger(Fault::GenerateSets).number(1) != 0 ? CK_TRUE : CK_FALSE;
    given.erase(std::remove_if(given.begin(), given.end(), [&](const auto& one) { return one.type == type; }),
                given.end());
    given.push_back({type, &flag, sizeof(flag)});
  }
  CK_OBJECT_HANDLE handle = 0;
  const CK_RV rv =
      real().C_GenerateKey(real_session(), mechanism, given.data(), given.size(), key != nullptr ? &handle : nullptr);
  if (rv == CKR_OK) *key = number_of_new(handle);
  return rv;
}

CK_RV generate_key_pair(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_ATTRIBUTE* public_attributes,
                        CK_ULONG public_count, CK_ATTRIBUTE* private_attributes, CK_ULONG private_count,
                        CK_OBJECT_HANDLE* public_key, CK_OBJECT_HANDLE* private_key) {
  if (public_key == nullptr || private_key == nullptr) return CKR_ARGUMENTS_BAD;
  CK_OBJECT_HANDLE public_handle = 0;
  CK_OBJECT_HANDLE private_handle = 0;
  const CK_RV rv = real().C_GenerateKeyPair(real_session(), mechanism, public_attributes, public_count,
                                            private_attributes, private_count, &public_handle, &private_handle);
  if (rv != CKR_OK) return rv;
  *public_key = number_of_new(public_handle);
  *private_key = number_of_new(private_handle);
  return rv;
}

/// The mechanism as the real driver numbers it (F11), or nothing if this one must not be used.
std::optional<CK_MECHANISM> wrapping_mechanism(const CK_MECHANISM& mechanism) {
  if (mechanism_is_refused(mechanism.mechanism)) return std::nullopt;
  if (!on(Fault::KwpMechanism)) return mechanism;
  trigger(Fault::KwpMechanism).note();
  if (mechanism.mechanism == trigger(Fault::KwpMechanism).number())
    return CK_MECHANISM{CKM_AES_KEY_WRAP_PAD, mechanism.pParameter, mechanism.ulParameterLen};
  if (mechanism.mechanism == CKM_AES_KEY_WRAP_PAD) return std::nullopt;
  return mechanism;
}

CK_RV wrap_key(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE wrapping_key, CK_OBJECT_HANDLE key,
               CK_BYTE* wrapped, CK_ULONG* size) {
  if (mechanism == nullptr) return CKR_ARGUMENTS_BAD;
  auto used = wrapping_mechanism(*mechanism);
  if (!used) return CKR_MECHANISM_INVALID;
  const Untouched before(wrapped, size);
  const CK_RV rv = real().C_WrapKey(real_session(), &*used, real_object(wrapping_key), real_object(key), wrapped, size);
  return distort_output(Function::C_WrapKey, rv, before, wrapped, size);
}

CK_RV unwrap_key(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE unwrapping_key, CK_BYTE* wrapped,
                 CK_ULONG size, CK_ATTRIBUTE* attributes, CK_ULONG count, CK_OBJECT_HANDLE* key) {
  if (mechanism == nullptr || key == nullptr) return CKR_ARGUMENTS_BAD;
  auto used = wrapping_mechanism(*mechanism);
  if (!used) return CKR_MECHANISM_INVALID;
  std::vector<CK_ATTRIBUTE> given;
  if (attributes != nullptr) given.assign(attributes, attributes + count);
  if (on(Fault::UnwrapLength)) {
    const bool needs = word<UnwrapLength>(Fault::UnwrapLength) == UnwrapLength::Needs;
    const bool is_there = has(attributes, count, CKA_VALUE_LEN);
    if (needs != is_there && fires(Fault::UnwrapLength))
      return needs ? CKR_TEMPLATE_INCOMPLETE : CKR_ATTRIBUTE_TYPE_INVALID;
    if (needs)  // the real driver knows the length itself, and refuses to be told
      given.erase(std::remove_if(given.begin(), given.end(), [](const auto& one) { return one.type == CKA_VALUE_LEN; }),
                  given.end());
  }
  CK_OBJECT_HANDLE handle = 0;
  const CK_RV rv = real().C_UnwrapKey(real_session(), &*used, real_object(unwrapping_key), wrapped, size, given.data(),
                                      given.size(), &handle);
  if (rv == CKR_OK) *key = number_of_new(handle);
  return rv;
}

CK_RV derive_key(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE base_key, CK_ATTRIBUTE* attributes,
                 CK_ULONG count, CK_OBJECT_HANDLE* key) {
  CK_OBJECT_HANDLE handle = 0;
  const CK_RV rv = real().C_DeriveKey(real_session(), mechanism, real_object(base_key), attributes, count,
                                      key != nullptr ? &handle : nullptr);
  if (rv == CKR_OK && key != nullptr) *key = number_of_new(handle);
  return rv;
}

CK_RV sign(CK_SESSION_HANDLE, CK_BYTE* data, CK_ULONG size, CK_BYTE* mac, CK_ULONG* mac_size) {
  const CK_RV rv = real().C_Sign(real_session(), data, size, mac, mac_size);
  if (rv != CKR_OK || mac == nullptr || !on(Fault::Mac) || !fires(Fault::Mac)) return rv;
  switch (word<Mac>(Fault::Mac)) {
    case Mac::Same:
      std::fill_n(mac, *mac_size, CK_BYTE{0x5a});
      return rv;
    case Mac::Drawn:
      return real().C_GenerateRandom(real_session(), mac, *mac_size);
    case Mac::Other:
      break;
  }
  mac[0] ^= 1;
  return rv;
}

CK_RV generate_random(CK_SESSION_HANDLE, CK_BYTE* random, CK_ULONG size) {
  if (random == nullptr || !on(Fault::Random)) return real().C_GenerateRandom(real_session(), random, size);
  constexpr CK_ULONG kLeast = 8;
  constexpr CK_ULONG kMost = 1024;
  const auto how = word<Random>(Fault::Random);
  if (how == Random::Limits) {
    const bool refused = (size < kLeast || size > kMost) && fires(Fault::Random);
    return refused ? CKR_ARGUMENTS_BAD : real().C_GenerateRandom(real_session(), random, size);
  }
  if (!fires(Fault::Random)) return real().C_GenerateRandom(real_session(), random, size);
  if (how == Random::First8) return real().C_GenerateRandom(real_session(), random, std::min(size, kLeast));
  for (CK_ULONG i = 0; i < size; ++i) random[i] = static_cast<CK_BYTE>(how == Random::Zeros ? 0 : i * 7 + 1);
  return CKR_OK;
}

}  // namespace

void add_key_overrides(CK_FUNCTION_LIST& list) {
  list.C_GenerateKey = generate_key;
  list.C_GenerateKeyPair = generate_key_pair;
  list.C_WrapKey = wrap_key;
  list.C_UnwrapKey = unwrap_key;
  list.C_DeriveKey = derive_key;
  list.C_GenerateRandom = generate_random;
  list.C_Sign = sign;
}

}  // namespace faulty
