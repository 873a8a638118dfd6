// Searches: the real one is made at C_FindObjectsInit, what is handed out is up to the faults.

#include <algorithm>

#include "faultyhsm/call.hpp"
#include "faultyhsm/objects.hpp"

namespace faulty {
namespace {

CK_RV find_all(CK_ATTRIBUTE* attributes, CK_ULONG count, std::vector<CK_OBJECT_HANDLE>& found) {
  if (const CK_RV rv = real().C_FindObjectsInit(real_session(), attributes, count); rv != CKR_OK) return rv;
  std::array<CK_OBJECT_HANDLE, 64> some{};
  CK_ULONG got = 0;
  CK_RV rv = CKR_OK;
  while ((rv = real().C_FindObjects(real_session(), some.data(), some.size(), &got)) == CKR_OK && got != 0)
    found.insert(found.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(got));
  real().C_FindObjectsFinal(real_session());
  return rv;
}

/// F18: a search for a key finds its twins of other classes.
std::vector<CK_ATTRIBUTE> without_class(const CK_ATTRIBUTE* attributes, CK_ULONG count) {
  std::vector<CK_ATTRIBUTE> pattern;
  if (attributes != nullptr) pattern.assign(attributes, attributes + count);
  if (!on(Fault::Find) || word<Find>(Fault::Find) != Find::Twins) return pattern;
  if (std::erase_if(pattern, [](const CK_ATTRIBUTE& one) { return one.type == CKA_CLASS; }) != 0)
    trigger(Fault::Find).note();
  return pattern;
}

/// F18: as many as the host finds in this search.
void distort(std::vector<CK_OBJECT_HANDLE>& found) {
  const auto how = word<Find>(Fault::Find);
  if (!on(Fault::Find) || how == Find::StaysActive || how == Find::Twins || found.empty() || !fires(Fault::Find))
    return;
  if (how == Find::Duplicates) {
    const auto once = found;
    found.insert(found.end(), once.begin(), once.end());
    return;
  }
  constexpr unsigned long kSteps = 3;
  const auto step = (trigger(Fault::Find).fired() - 1) % kSteps;
  found.resize(step, found.front());
}

CK_RV find_objects_init(CK_SESSION_HANDLE, CK_ATTRIBUTE* attributes, CK_ULONG count) {
  auto& session = this_session();
  if (session.finding) return CKR_OPERATION_ACTIVE;
  std::vector<CK_OBJECT_HANDLE> found;
  auto pattern = without_class(attributes, count);
  if (const CK_RV rv = find_all(pattern.data(), pattern.size(), found); rv != CKR_OK) return rv;
  found.erase(std::remove_if(found.begin(), found.end(), [](CK_OBJECT_HANDLE one) { return !is_visible(one); }),
              found.end());
  distort(found);
  session.finding = true;
  session.found = std::move(found);
  session.next_found = 0;
  return CKR_OK;
}

CK_RV find_objects(CK_SESSION_HANDLE, CK_OBJECT_HANDLE* objects, CK_ULONG most, CK_ULONG* count) {
  auto& session = this_session();
  if (objects == nullptr || count == nullptr) return CKR_ARGUMENTS_BAD;
  if (!session.finding) return CKR_OPERATION_NOT_INITIALIZED;
  if (on(Fault::FindLimit) && trigger(Fault::FindLimit).number() < most) {
    most = trigger(Fault::FindLimit).number();
    trigger(Fault::FindLimit).note();
  }
  *count = std::min<CK_ULONG>(most, session.found.size() - session.next_found);
  for (CK_ULONG i = 0; i < *count; ++i) objects[i] = number_of(session.found[session.next_found++]);
  return CKR_OK;
}

CK_RV find_objects_final(CK_SESSION_HANDLE) {
  auto& session = this_session();
  if (!session.finding) return CKR_OPERATION_NOT_INITIALIZED;
  if (on(Fault::Find) && word<Find>(Fault::Find) == Find::StaysActive && fires(Fault::Find)) return CKR_OK;
  session.finding = false;
  session.found.clear();
  return CKR_OK;
}

}  // namespace

void add_find_overrides(CK_FUNCTION_LIST& list) {
  list.C_FindObjectsInit = find_objects_init;
  list.C_FindObjects = find_objects;
  list.C_FindObjectsFinal = find_objects_final;
}

}  // namespace faulty
