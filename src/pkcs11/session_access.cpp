#include "pkcs11/session_access.hpp"

#include <array>
#include <limits>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "pkcs11/session_state.hpp"

namespace hsmseal::pkcs11 {

namespace {

constexpr std::size_t kMaxIdBytes = 255;
constexpr std::size_t kMaxLabelBytes = 255;

}  // namespace

SessionAccess::KeyUse::KeyUse(Pkcs11Session& session, const HandleWatch& watch, KeyHandle key) : session_(session) {
  session.state_->key_use.emplace(Pkcs11Session::State::KeyUse{watch, key});
}

SessionAccess::KeyUse::~KeyUse() {
  if (session_.state_) session_.state_->key_use.reset();
}

std::vector<ListedKey> SessionAccess::list_keys(Pkcs11Session& session,
                                                const std::function<bool(std::string_view)>& wanted) {
  Pkcs11Session::State& state = *session.state_;
  state.check_usable();
  CallTurns& object_store = state.driver->shared().object_store;
  const CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  const std::vector<CK_OBJECT_HANDLE> handles = [&] {
    const CallTurns::Turn alone{object_store, state.token.label};
    return state.search({attribute(CKA_CLASS, secret_key)}, std::numeric_limits<std::size_t>::max());
  }();
  std::vector<ListedKey> listed;
  for (const CK_OBJECT_HANDLE handle : handles) {
    // Key by key, so that a long list keeps nobody from finding a key to seal with.
    const CallTurns::Turn alone{object_store, state.token.label};
    const auto read = [&](CK_ATTRIBUTE_TYPE type, std::size_t most) {
      auto told = state.try_read(KeyHandle{handle}, type, most);
      if (told.rv != CKR_OK && told.rv != CKR_OBJECT_HANDLE_INVALID) state.fail("C_GetAttributeValue", told.rv);
      return std::move(told.value);
    };
    const auto label = read(CKA_LABEL, kMaxLabelBytes);
    if (!label) continue;
    std::string text{reinterpret_cast<const char*>(label->data()), label->size()};
    if (!wanted(text)) continue;
    auto id = read(CKA_ID, kMaxIdBytes);
    if (id && !id->empty()) listed.push_back({std::move(*id), std::move(text)});
  }
  return listed;
}

void SessionAccess::check_private_keys_visible(Pkcs11Session& session) {
  Pkcs11Session::State& state = *session.state_;
  state.check_usable();
  if ((state.token.flags & CKF_LOGIN_REQUIRED) == 0 || state.logged_in()) return;
  throw TokenError(failure("C_FindObjects", CKR_USER_NOT_LOGGED_IN),
                   fmt::format("keys on token '{}' may be invisible: nobody is logged in; give its binding a PIN",
                               state.token.label));
}

KeyHandle SessionAccess::generate_unchecked_key(Pkcs11Session& session, const KeyTemplate& key) {
  Pkcs11Session::State& state = *session.state_;
  state.check_usable();
  const CallTurns::Turn alone{state.driver->shared().object_store, state.token.label};
  return state.generate(key);
}

std::optional<Bytes> SessionAccess::mac_with_known_key(Pkcs11Session& session, ByteView value, ByteView data) {
  Pkcs11Session::State& state = *session.state_;
  state.check_usable();
  const CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  const CK_KEY_TYPE generic = CKK_GENERIC_SECRET;
  const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
  const auto random = crypto::random_array<16>();
  const Bytes id{random.begin(), random.end()};
  std::array attributes{attribute(CKA_CLASS, secret_key), attribute(CKA_KEY_TYPE, generic),
                        attribute(CKA_TOKEN, no),         attribute(CKA_PRIVATE, yes),
                        attribute(CKA_SIGN, yes),         attribute(CKA_ID, ByteView{id}),
                        attribute(CKA_VALUE, value)};
  const auto alone = one_destruction_at_a_time(session);
  CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
  {
    const CallTurns::Turn turn{state.driver->shared().object_store, state.token.label};
    const CK_RV rv = state.call(&CK_FUNCTION_LIST::C_CreateObject, attributes.data(),
                                static_cast<CK_ULONG>(attributes.size()), &made);
    if (rv != CKR_OK && retryable("C_CreateObject", rv)) state.fail("C_CreateObject", rv);
    if (rv != CKR_OK) return std::nullopt;
  }
  Bytes mac = session.sign(KeyHandle{made}, MacMechanism::HmacSha256, data);
  destroy_key(session, KeyHandle{made}, id);
  return mac;
}

void SessionAccess::check_made_as_asked(Pkcs11Session& session, KeyHandle made, const KeyTemplate& key) {
  session.state_->check_usable();
  session.check_made_as_asked(made, key);
}

std::optional<Bytes> SessionAccess::key_id(Pkcs11Session& session, KeyHandle key) {
  session.state_->check_usable();
  return session.state_->read_attribute(key, CKA_ID, kMaxIdBytes);
}

std::unique_lock<std::mutex> SessionAccess::one_destruction_at_a_time(const Pkcs11Session& session) {
  const Pkcs11Session::State& state = *session.state_;
  return lock_in_time(state.driver->shared().one_destruction_at_a_time, state.token.label);
}

void SessionAccess::destroy_key(Pkcs11Session& session, KeyHandle key, const Bytes& id) {
  Pkcs11Session::State& state = *session.state_;
  state.check_usable();
  SharedState& shared = state.driver->shared();
  // No login of hsmseal's in between, which may number the keys anew.
  const auto no_login = lock_in_time(state.guard->mutex, state.token.label);
  const CallTurns::Turn alone{shared.object_store, state.token.label};
  if (state.read_attribute(key, CKA_ID, kMaxIdBytes) != id) {
    throw WrongKeyError(
        fmt::format("the key with CKA_ID {} on token '{}' changed after it was found; look for another "
                    "program that changes keys",
                    core::to_hex(id), state.token.label));
  }
  shared.destructions.add(key.value);  // should the call hang
  const CK_RV rv = state.call(&CK_FUNCTION_LIST::C_DestroyObject, static_cast<CK_OBJECT_HANDLE>(key.value));
  // Whatever it answered, and before this driver can make another key for hsmseal.
  shared.destructions.add(key.value);
  if (rv != CKR_OK) state.fail("C_DestroyObject", rv);
}

HandleWatch SessionAccess::watch_handles(const Pkcs11Session& session) {
  return {session.state_->driver, *session.state_->guard};
}

bool SessionAccess::logged_in(Pkcs11Session& session) {
  session.state_->check_usable();
  return session.state_->logged_in();
}

bool SessionAccess::refused_before(Pkcs11Module& module, const TokenInfo& token, ByteView pin) {
  LoginGuard& guard = module.driver_->shared().login_guard(token.label, token.serial);
  const auto lock = lock_in_time(guard.mutex, token.label);
  return guard.refused_before(LoginGuard::digest(pin));
}

bool SessionAccess::answers(Pkcs11Session& session) {
  CK_SESSION_INFO info{};
  return session.usable() && session.state_->call(&CK_FUNCTION_LIST::C_GetSessionInfo, &info) == CKR_OK;
}

void SessionAccess::keep_alive(Pkcs11Session& session) {
  if (session.usable() && session.state_->logged_in()) session.state_->token_is_well();
}

Driver& SessionAccess::driver(const Pkcs11Module& module) { return *module.driver_; }

}  // namespace hsmseal::pkcs11
