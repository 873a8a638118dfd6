// Objects by their handles: made, read, changed, and named in calls that only pass through.

#include "faultyhsm/call.hpp"
#include "faultyhsm/cipher.hpp"
#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

/// Hands out the number of an object that a call has made.
CK_RV made(CK_RV rv, CK_OBJECT_HANDLE handle, CK_OBJECT_HANDLE* number) {
  if (rv == CKR_OK) *number = number_of_new(handle);
  return rv;
}

CK_RV create_object(CK_SESSION_HANDLE, CK_ATTRIBUTE* attributes, CK_ULONG count, CK_OBJECT_HANDLE* object) {
  CK_OBJECT_HANDLE handle = 0;
  const CK_RV rv = real().C_CreateObject(real_session(), attributes, count, object != nullptr ? &handle : nullptr);
  return made(rv, handle, object);
}

CK_RV copy_object(CK_SESSION_HANDLE, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes, CK_ULONG count,
                  CK_OBJECT_HANDLE* copy) {
  CK_OBJECT_HANDLE handle = 0;
  const CK_RV rv =
      real().C_CopyObject(real_session(), real_object(object), attributes, count, copy != nullptr ? &handle : nullptr);
  return made(rv, handle, copy);
}

CK_RV destroy_object(CK_SESSION_HANDLE, CK_OBJECT_HANDLE object) {
  const CK_RV rv = real().C_DestroyObject(real_session(), real_object(object));
  if (rv == CKR_OK) forget_object(object);
  return rv;
}

CK_RV get_object_size(CK_SESSION_HANDLE, CK_OBJECT_HANDLE object, CK_ULONG* size) {
  return real().C_GetObjectSize(real_session(), real_object(object), size);
}

/// Distorts what the real driver said of one attribute (F17).
CK_RV distort(CK_ATTRIBUTE& attribute, CK_RV rv) {
  switch (word<ReadAs>(Fault::Attribute, 1)) {
    case ReadAs::Unknown:
      attribute.ulValueLen = ~0UL;
      return CKR_ATTRIBUTE_TYPE_INVALID;
    case ReadAs::MinusOne:
      attribute.ulValueLen = ~0UL;
      return rv;
    case ReadAs::Empty:
      attribute.ulValueLen = 0;
      return rv;
    case ReadAs::Wrong:
      break;
  }
  if (attribute.pValue != nullptr && attribute.ulValueLen != 0 && attribute.ulValueLen != ~0UL)
    *static_cast<CK_BYTE*>(attribute.pValue) ^= 1;
  return rv;
}

CK_RV get_attribute_value(CK_SESSION_HANDLE, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes, CK_ULONG count) {
  CK_RV rv = real().C_GetAttributeValue(real_session(), real_object(object), attributes, count);
  if (!on(Fault::Attribute) || attributes == nullptr || rv == CKR_OBJECT_HANDLE_INVALID) return rv;
  for (CK_ULONG i = 0; i < count; ++i) {
    const bool is_meant = attributes[i].type == trigger(Fault::Attribute).number();
    if (is_meant && fires(Fault::Attribute)) rv = distort(attributes[i], rv);
  }
  return rv;
}

CK_RV set_attribute_value(CK_SESSION_HANDLE, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes, CK_ULONG count) {
  return real().C_SetAttributeValue(real_session(), real_object(object), attributes, count);
}

CK_RV digest_key(CK_SESSION_HANDLE, CK_OBJECT_HANDLE key) {
  return real().C_DigestKey(real_session(), real_object(key));
}

/// Begins an operation of a key which is only passed on.
template <auto Member>
CK_RV init(CK_SESSION_HANDLE, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  if (mechanism != nullptr && mechanism_is_refused(mechanism->mechanism)) return CKR_MECHANISM_INVALID;
  return (real().*Member)(real_session(), mechanism, real_object(key));
}

CK_RV sign(CK_SESSION_HANDLE, CK_BYTE* data, CK_ULONG size, CK_BYTE* signature, CK_ULONG* signature_size) {
  if (signature == nullptr) ++state().length_queries;
  return real().C_Sign(real_session(), data, size, signature, signature_size);
}

}  // namespace

void add_object_overrides(CK_FUNCTION_LIST& list) {
  list.C_CreateObject = create_object;
  list.C_CopyObject = copy_object;
  list.C_DestroyObject = destroy_object;
  list.C_GetObjectSize = get_object_size;
  list.C_GetAttributeValue = get_attribute_value;
  list.C_SetAttributeValue = set_attribute_value;
  list.C_DigestKey = digest_key;
  list.C_SignInit = init<&CK_FUNCTION_LIST::C_SignInit>;
  list.C_SignRecoverInit = init<&CK_FUNCTION_LIST::C_SignRecoverInit>;
  list.C_VerifyInit = init<&CK_FUNCTION_LIST::C_VerifyInit>;
  list.C_VerifyRecoverInit = init<&CK_FUNCTION_LIST::C_VerifyRecoverInit>;
  list.C_Sign = sign;
}

}  // namespace faulty
