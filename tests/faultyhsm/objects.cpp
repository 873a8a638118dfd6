#include "faultyhsm/objects.hpp"

#include <algorithm>
#include <utility>

#include "faultyhsm/call.hpp"

namespace faulty {
namespace {

using Clock = Session::Clock;

constexpr unsigned long kMembers = 2;

bool ages_matter() { return on(Fault::LagMs) || on(Fault::LagFinds) || on(Fault::LagUnusable) || on(Fault::Members); }

/// What stays when handles change: class, CKA_ID and label. Two objects that agree in these are told apart by the handle.
std::string identity_of(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE handle) {
  CK_OBJECT_CLASS object_class = 0;
  std::array<char, 256> id{};
  std::array<char, 256> label{};
  CK_ATTRIBUTE attributes[] = {{CKA_CLASS, &object_class, sizeof(object_class)},
                               {CKA_ID, id.data(), id.size()},
                               {CKA_LABEL, label.data(), label.size()}};
  std::string identity;
  real().C_GetAttributeValue(session, handle, attributes, std::size(attributes));
  for (const auto& one : attributes) {
    if (one.ulValueLen != ~0UL) identity.append(static_cast<const char*>(one.pValue), one.ulValueLen);
    identity += '|';
  }
  return identity;
}

std::vector<CK_OBJECT_HANDLE> all_objects(CK_SESSION_HANDLE session) {
  std::vector<CK_OBJECT_HANDLE> all;
  if (real().C_FindObjectsInit(session, nullptr, 0) != CKR_OK) return all;
  std::array<CK_OBJECT_HANDLE, 64> some{};
  CK_ULONG count = 0;
  while (real().C_FindObjects(session, some.data(), some.size(), &count) == CKR_OK && count != 0)
    all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(count));
  real().C_FindObjectsFinal(session);
  return all;
}

struct Numbered {
  CK_OBJECT_HANDLE before;
  std::string identity;
  CK_OBJECT_HANDLE real;
};

/// The rotation by which the fewest objects keep their number; with two of them there is one by which none does.
std::size_t best_rotation(const std::vector<Numbered>& all) {
  std::size_t best = 0;
  std::size_t fewest = all.size() + 1;
  for (std::size_t by = 1; by <= all.size() && fewest != 0; ++by) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < all.size(); ++i) kept += (i + by) % all.size() + 1 == all[i].before ? 1 : 0;
    if (kept < fewest) {
      best = by;
      fewest = kept;
    }
  }
  return best;
}

void add(Slot& slot, CK_OBJECT_HANDLE number, Object object) {
  slot.next = std::max(slot.next, number + 1);
  slot.numbers[object.real] = number;
  slot.objects[number] = std::move(object);
}

void renumber(Slot& slot, std::vector<Numbered> all) {
  if (std::exchange(slot.numbered, true)) return;
  for (auto& one : all) {
    const auto before = slot.previous.find(one.identity);
    one.before = before != slot.previous.end() ? before->second : ~0UL;
  }
  std::sort(all.begin(), all.end(), [](const Numbered& a, const Numbered& b) {
    return std::tie(a.before, a.identity, a.real) < std::tie(b.before, b.identity, b.real);
  });
  const auto by = best_rotation(all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CK_OBJECT_HANDLE number = (i + by) % all.size() + 1;
    if (all.size() == 1 && all[0].before == 1) number = 2;  // nothing else can have its number
    add(slot, number, {all[i].real, all[i].identity, false});
  }
  trigger(Fault::Renumber).note();
}

void forget(Slot& slot) {
  const bool renumbers = on(Fault::Renumber);
  if (renumbers) {
    for (const auto& [number, object] : slot.objects) {
      if (!object.identity.empty()) slot.previous[object.identity] = number;
    }
    slot.next = 1;
  }
  slot.objects.clear();
  slot.numbers.clear();
  slot.numbered = false;
}

/// Whether the replication of a key has come to a member. Under the lock.
bool has_arrived(Birth& birth, unsigned long member, bool counts) {
  const bool members = on(Fault::Members);
  if (members && birth.member == member && member != state().dead_member) return true;
  if (on(Fault::LagMs)) {
    const bool still_away = Clock::now() - birth.at < std::chrono::milliseconds(trigger(Fault::LagMs).number());
    if (still_away) trigger(Fault::LagMs).note();
    return !still_away;
  }
  if (on(Fault::LagFinds)) {
    if (counts) ++birth.finds;
    const bool still_away = birth.finds <= trigger(Fault::LagFinds).number();
    if (still_away) trigger(Fault::LagFinds).note();
    return !still_away;
  }
  if (members) trigger(Fault::Members).note();
  return !members;
}

bool is_usable(Slot& slot, const Object& object, unsigned long member) {
  const auto birth = slot.births.find(object.identity);
  if (object.identity.empty() || birth == slot.births.end()) return true;
  if (on(Fault::LagUnusable)) {
    const auto lag = std::chrono::milliseconds(trigger(Fault::LagUnusable).number());
    if (Clock::now() - birth->second.at < lag) {
      trigger(Fault::LagUnusable).note();
      return false;
    }
  }
  if (!on(Fault::Members) || word<Members>(Fault::Members) != Members::PerCall) return true;
  return has_arrived(birth->second, member, false);
}

}  // namespace

OwnSession::OwnSession(CK_SLOT_ID slot) {
  if (real().C_OpenSession(slot, CKF_SERIAL_SESSION, nullptr, nullptr, &handle_) != CKR_OK) handle_ = 0;
}

OwnSession::~OwnSession() {
  if (handle_ != 0) real().C_CloseSession(handle_);
}

CK_OBJECT_HANDLE real_object(CK_OBJECT_HANDLE number) {
  const auto member = member_of_call();
  const auto& session = this_session();
  return state().tables.locked(session.slot, [&](Slot& slot) -> CK_OBJECT_HANDLE {
    const auto found = slot.objects.find(number);
    const bool known = found != slot.objects.end();
    if (!known || !found->second.handed_out) state().known_gone.named(session.number, number);
    return known && is_usable(slot, found->second, member) ? found->second.real : 0;
  });
}

CK_OBJECT_HANDLE number_of(CK_OBJECT_HANDLE real_handle) {
  const auto& session = this_session();
  if (on(Fault::Renumber)) number_all(session.slot);
  return state().tables.locked(session.slot, [&](Slot& slot) {
    const auto known = slot.numbers.find(real_handle);
    if (known == slot.numbers.end()) add(slot, slot.next, {real_handle, {}, false});
    const auto number = slot.numbers.at(real_handle);
    slot.objects.at(number).handed_out = true;
    state().known_gone.object_given(number);
    return number;
  });
}

CK_OBJECT_HANDLE number_of_new(CK_OBJECT_HANDLE real_handle) {
  const auto& session = this_session();
  const auto number = number_of(real_handle);
  const bool ages = ages_matter();
  if (!ages && !on(Fault::Renumber)) return number;
  const auto identity = identity_of(session.real, real_handle);
  const auto member = member_of_call();
  state().tables.locked(session.slot, [&](Slot& slot) {
    slot.objects.at(number).identity = identity;
    if (ages) slot.births[identity] = {Clock::now(), 0, member};
  });
  return number;
}

void forget_object(CK_OBJECT_HANDLE number) {
  state().tables.locked(this_session().slot, [&](Slot& slot) {
    const auto found = slot.objects.find(number);
    if (found == slot.objects.end()) return;
    slot.numbers.erase(found->second.real);
    slot.births.erase(found->second.identity);
    slot.objects.erase(found);
  });
}

bool is_visible(CK_OBJECT_HANDLE real_handle) {
  if (!ages_matter()) return true;
  const auto& session = this_session();
  const auto identity = identity_of(session.real, real_handle);
  const auto member = member_of_call();
  return state().tables.locked(session.slot, [&](Slot& slot) {
    const auto birth = slot.births.find(identity);
    return birth == slot.births.end() || has_arrived(birth->second, member, true);
  });
}

void number_all(CK_SLOT_ID slot_id) {
  auto& tables = state().tables;
  if (tables.locked(slot_id, [](const Slot& slot) { return slot.numbered; })) return;
  const OwnSession session(slot_id);
  if (session.handle() == 0) return;
  std::vector<Numbered> all;
  std::map<std::string, int> seen;
  for (const auto handle : all_objects(session.handle())) {
    auto identity = identity_of(session.handle(), handle);
    if (const int same = seen[identity]++; same != 0) identity += std::to_string(same);
    all.push_back({0, std::move(identity), handle});
  }
  tables.locked(slot_id, [&](Slot& slot) { renumber(slot, std::move(all)); });
}

void forget_objects(CK_SLOT_ID slot_id) {
  state().tables.locked(slot_id, [](Slot& slot) { forget(slot); });
}

void forget_objects_of_closed() {
  auto& tables = state().tables;
  std::vector<CK_SLOT_ID> known;
  tables.for_all_slots([&](CK_SLOT_ID id, const Slot&) { known.push_back(id); });
  for (const auto id : known) {
    if (!tables.is_used(id)) forget_objects(id);
  }
}

void forget_all_objects() {
  state().tables.for_all_slots([](CK_SLOT_ID, Slot& slot) {
    forget(slot);
    slot.login_lost = false;
  });
}

void lose_logins() {
  std::vector<CK_SLOT_ID> known;
  auto& tables = state().tables;
  tables.for_all_slots([&](CK_SLOT_ID id, const Slot&) { known.push_back(id); });
  for (const auto id : known) {
    if (!tables.is_used(id)) continue;
    const OwnSession session(id);
    if (session.handle() == 0 || real().C_Logout(session.handle()) != CKR_OK) continue;
    tables.locked(id, [](Slot& slot) {
      forget(slot);
      slot.login_lost = true;
    });
  }
}

bool login_is_lost(CK_SLOT_ID slot_id) {
  return state().tables.locked(slot_id, [](const Slot& slot) { return slot.login_lost; });
}

unsigned long member_of_call() {
  if (!on(Fault::Members)) return 0;
  if (word<Members>(Fault::Members) == Members::PerSession) return this_session().member;
  return member_of_new_session();
}

unsigned long member_of_new_session() {
  auto& shared = state();
  if (!on(Fault::Members)) return 0;
  const auto member = shared.turns++ % kMembers;
  return member == shared.dead_member ? (member + 1) % kMembers : member;
}

}  // namespace faulty
