#include <hsmseal/pkcs11_session.hpp>

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "pkcs11/driver.hpp"
#include "pkcs11/key_policy.hpp"
#include "pkcs11/session_access.hpp"

namespace hsmseal {

using pkcs11::Driver;
using pkcs11::in;

namespace {

constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kMaxMacBytes = 64;
/// Room beyond what the standard says, since drivers differ: padding block, tag, IV.
constexpr std::size_t kSpareBytes = 48;

CK_ULONG size_of(ByteView bytes) noexcept { return static_cast<CK_ULONG>(bytes.size()); }

CK_ATTRIBUTE attribute(CK_ATTRIBUTE_TYPE type, ByteView value) { return {type, in(value), size_of(value)}; }

template <typename Value>
CK_ATTRIBUTE attribute(CK_ATTRIBUTE_TYPE type, const Value& value) {
  return attribute(type, std::as_bytes(std::span{&value, 1}));
}

constexpr CK_BBOOL kTrue = CK_TRUE;
constexpr CK_BBOOL kFalse = CK_FALSE;

}  // namespace

struct Pkcs11Session::State {
  std::shared_ptr<Driver> driver;
  TokenSelector selector;
  TokenInfo token;
  CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
  bool open = false;
  bool spent = false;

  template <typename Function, typename... Arguments>
  CK_RV call(Function CK_FUNCTION_LIST::*function, Arguments... arguments) {
    return driver->call(function, handle, arguments...);
  }

  /// Calls, and gives the session up if the call fails: it may be left in an operation that cannot be ended.
  template <typename Function, typename... Arguments>
  void must(std::string_view name, Function CK_FUNCTION_LIST::*function, Arguments... arguments) {
    if (const CK_RV rv = call(function, arguments...); rv != CKR_OK) {
      spent = true;
      pkcs11::throw_failure(name, rv, token.label);
    }
  }

  void check_usable() const {
    if (!open) throw InvalidArgumentError(fmt::format("the session with token '{}' is closed", token.label));
    if (spent) {
      throw InvalidArgumentError(
          fmt::format("a call failed in this session with token '{}'; open a new session", token.label));
    }
  }

  [[noreturn]] void broken_promise(std::string_view function, std::string_view what) {
    spent = true;
    throw TokenError(
        pkcs11::failure(function, CKR_OK),
        fmt::format("{} on token '{}' returned CKR_OK but {}; nothing was used", function, token.label, what));
  }

  template <typename Value>
  std::optional<Value> fixed_attribute(KeyHandle key, CK_ATTRIBUTE_TYPE type);
  std::optional<bool> flag(KeyHandle key, CK_ATTRIBUTE_TYPE type);
  std::optional<Bytes> read_attribute(KeyHandle key, CK_ATTRIBUTE_TYPE type, std::size_t most);
  bool logged_in();
  void refuse_risky_login(LowPinCount low_pin_count);
  void login(ByteView pin, LowPinCount low_pin_count);
  void login_at_token(LowPinCount low_pin_count);
};

Pkcs11Session::Pkcs11Session(std::shared_ptr<Pkcs11Module> module, const TokenSelector& selector, SessionMode mode) {
  if (!module) throw InvalidArgumentError("a session needs a module");
  state_ = std::make_unique<State>();
  state_->driver = module->driver_;
  state_->selector = selector;
  state_->token = module->token(selector);
  const CK_FLAGS flags = CKF_SERIAL_SESSION | (mode == SessionMode::ReadWrite ? CKF_RW_SESSION : 0);
  const CK_RV rv =
      state_->driver->call(&CK_FUNCTION_LIST::C_OpenSession, static_cast<CK_SLOT_ID>(state_->token.slot), flags,
                           static_cast<void*>(nullptr), static_cast<CK_NOTIFY>(nullptr), &state_->handle);
  if (rv != CKR_OK) pkcs11::throw_failure("C_OpenSession", rv, state_->token.label);
  state_->open = true;
}

Pkcs11Session::Pkcs11Session(Pkcs11Session&& other) noexcept = default;

Pkcs11Session& Pkcs11Session::operator=(Pkcs11Session&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}

Pkcs11Session::~Pkcs11Session() { close(); }

const TokenInfo& Pkcs11Session::token() const noexcept { return state_->token; }

bool Pkcs11Session::usable() const noexcept { return state_ && state_->open && !state_->spent; }

void Pkcs11Session::close() noexcept {
  // A failure is not reported: there is nothing left to do for the caller, and the handle is not used again.
  if (state_ && std::exchange(state_->open, false)) state_->call(&CK_FUNCTION_LIST::C_CloseSession);
}

// --- login ---------------------------------------------------------------------------------------------------------

bool Pkcs11Session::State::logged_in() {
  CK_SESSION_INFO info{};
  must("C_GetSessionInfo", &CK_FUNCTION_LIST::C_GetSessionInfo, &info);
  return info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS;
}

void Pkcs11Session::State::refuse_risky_login(LowPinCount low_pin_count) {
  CK_TOKEN_INFO info{};
  const CK_RV rv = driver->call(&CK_FUNCTION_LIST::C_GetTokenInfo, static_cast<CK_SLOT_ID>(token.slot), &info);
  if (rv != CKR_OK) pkcs11::throw_failure("C_GetTokenInfo", rv, token.label);
  const auto refuse = [&](CK_RV reason, std::string_view what) {
    throw TokenLoginError(pkcs11::failure("C_Login", reason),
                          fmt::format("no login to token '{}': {}; C_Login was not called", token.label, what));
  };
  if ((info.flags & CKF_USER_PIN_LOCKED) != 0)
    refuse(CKR_PIN_LOCKED, "its user PIN is locked; ask its security officer");
  if ((info.flags & CKF_USER_PIN_TO_BE_CHANGED) != 0) {
    refuse(CKR_PIN_EXPIRED, "its user PIN must be changed first, with the vendor's tool");
  }
  if ((info.flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY)) != 0 && low_pin_count == LowPinCount::Refuse) {
    refuse(
        CKR_PIN_INCORRECT,
        "it reports wrong PINs since the last login and may lock; correct the PIN, then log in once with the vendor's "
        "tool or with LowPinCount::TryOnce");
  }
}

void Pkcs11Session::State::login(ByteView pin, LowPinCount low_pin_count) {
  pkcs11::LoginGuard& guard = driver->shared().login_guard(token.label, token.serial);
  const auto digest = pkcs11::LoginGuard::digest(pin);
  const std::scoped_lock one_login_at_a_time{guard.mutex};
  const auto refuse = [&](CK_RV rv, const std::string& message) {
    throw TokenLoginError(pkcs11::failure("C_Login", rv), message);
  };
  if (guard.refused_before(digest)) {
    refuse(CKR_PIN_INCORRECT, fmt::format("no login to token '{}': it refused this PIN before; C_Login is not called "
                                          "again until the PIN changes",
                                          token.label));
  }
  const bool already = logged_in();
  if (already && guard.another_is_in(digest)) {
    refuse(CKR_USER_ALREADY_LOGGED_IN,
           fmt::format("this process is logged in to token '{}' with another PIN; give all bindings of a token one PIN",
                       token.label));
  }
  if (already) return;
  refuse_risky_login(low_pin_count);
  const CK_RV rv = call(&CK_FUNCTION_LIST::C_Login, static_cast<CK_USER_TYPE>(CKU_USER), in(pin), size_of(pin));
  // Somebody else's C_Login came between; whose PIN is in force is not known, but ours was not judged.
  if (rv == CKR_USER_ALREADY_LOGGED_IN && logged_in()) return;
  if (rv == CKR_OK) return guard.accepted(digest);
  switch (rv) {
    // The PIN was not judged: the token was not reached, or takes no user's login now.
    case CKR_USER_ALREADY_LOGGED_IN:
    case CKR_USER_ANOTHER_ALREADY_LOGGED_IN:
    case CKR_USER_TYPE_INVALID:
    case CKR_USER_TOO_MANY_TYPES:
    case CKR_FUNCTION_CANCELED:
    case CKR_FUNCTION_REJECTED:
      refuse(rv, pkcs11::failure_text("C_Login", rv, token.label));
      break;
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_SESSION_CLOSED:
    case CKR_CRYPTOKI_NOT_INITIALIZED:
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_DEVICE_REMOVED:
    case CKR_HOST_MEMORY:
    case CKR_DEVICE_MEMORY:
      pkcs11::throw_failure("C_Login", rv, token.label);
    default:
      // Some drivers answer a wrong PIN with a general error, so every other failure counts as a verdict on the PIN.
      guard.refused(digest);
      refuse(rv, pkcs11::failure_text("C_Login", rv, token.label) + "; this PIN is not tried again until it changes");
  }
}

/// The person at the token's own pad is asked anew each time, and sees what the token says.
void Pkcs11Session::State::login_at_token(LowPinCount low_pin_count) {
  const std::scoped_lock one_login_at_a_time{driver->shared().login_guard(token.label, token.serial).mutex};
  if (logged_in()) return;
  refuse_risky_login(low_pin_count);
  const CK_RV rv = call(&CK_FUNCTION_LIST::C_Login, static_cast<CK_USER_TYPE>(CKU_USER),
                        static_cast<CK_BYTE_PTR>(nullptr), CK_ULONG{0});
  if (rv == CKR_OK || (rv == CKR_USER_ALREADY_LOGGED_IN && logged_in())) return;
  throw TokenLoginError(pkcs11::failure("C_Login", rv), pkcs11::failure_text("C_Login", rv, token.label) +
                                                            "; nobody, or not the right PIN, at the token's own pad");
}

void Pkcs11Session::login(const PinSource& pin, LowPinCount low_pin_count) {
  state_->check_usable();
  switch (pin.kind()) {
    case PinSource::Kind::None:
      return;
    case PinSource::Kind::ProtectedPath:
      return state_->login_at_token(low_pin_count);
    case PinSource::Kind::Pin:
      return state_->login(pin.read(state_->selector).view(), low_pin_count);
  }
}

// --- keys ----------------------------------------------------------------------------------------------------------

std::optional<KeyHandle> Pkcs11Session::find_key(const KeyQuery& query) {
  state_->check_usable();
  if (!query.id && !query.label) throw InvalidArgumentError("a key query needs an id or a label");
  const CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  std::vector<CK_ATTRIBUTE> pattern{attribute(CKA_CLASS, secret_key)};
  if (query.id) pattern.push_back(attribute(CKA_ID, ByteView{*query.id}));
  if (query.label) pattern.push_back(attribute(CKA_LABEL, bytes_of(*query.label)));
  const std::scoped_lock alone{state_->driver->shared().object_store};
  state_->must("C_FindObjectsInit", &CK_FUNCTION_LIST::C_FindObjectsInit, pattern.data(),
               static_cast<CK_ULONG>(pattern.size()));
  std::array<CK_OBJECT_HANDLE, 2> found{};
  std::size_t count = 0;
  // Drivers may hand out fewer handles at a time than there are; none means that there are no more.
  while (count < found.size()) {
    CK_ULONG more = 0;
    state_->must("C_FindObjects", &CK_FUNCTION_LIST::C_FindObjects, found.data() + count,
                 static_cast<CK_ULONG>(found.size() - count), &more);
    if (more == 0) break;
    count += std::min<std::size_t>(more, found.size() - count);
  }
  state_->must("C_FindObjectsFinal", &CK_FUNCTION_LIST::C_FindObjectsFinal);
  if (count == 0) return std::nullopt;
  if (count > 1) {
    throw WrongKeyError(fmt::format(
        "more than one key with {} on token '{}'; destroy the one that does not belong there",
        query.id ? "CKA_ID " + core::to_hex(*query.id) : "label '" + *query.label + "'", state_->token.label));
  }
  return KeyHandle{found[0]};
}

KeyHandle Pkcs11Session::generate_aes_key(const KeyTemplate& key) {
  state_->check_usable();
  if (key.id.empty() || key.id.size() > 255) throw InvalidArgumentError("a key's id has 1 to 255 bytes");
  if (key.bytes != 16 && key.bytes != 24 && key.bytes != 32) {
    throw InvalidArgumentError("an AES key has 16, 24 or 32 bytes");
  }
  const CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  const CK_KEY_TYPE aes = CKK_AES;
  const auto value_bytes = static_cast<CK_ULONG>(key.bytes);
  const CK_BBOOL& encrypts = key.use == KeyUse::EncryptDecrypt ? kTrue : kFalse;
  const CK_BBOOL& signs = key.use == KeyUse::SignVerify ? kTrue : kFalse;
  // Every attribute that decides over the key's safety is said, since the drivers' defaults differ.
  std::array attributes{
      attribute(CKA_CLASS, secret_key),
      attribute(CKA_KEY_TYPE, aes),
      attribute(CKA_VALUE_LEN, value_bytes),
      attribute(CKA_ID, ByteView{key.id}),
      attribute(CKA_LABEL, bytes_of(key.label)),
      attribute(CKA_TOKEN, key.lifetime == KeyLifetime::Token ? kTrue : kFalse),
      attribute(CKA_PRIVATE, kTrue),
      attribute(CKA_SENSITIVE, kTrue),
      attribute(CKA_EXTRACTABLE, kFalse),
      attribute(CKA_ENCRYPT, encrypts),
      attribute(CKA_DECRYPT, encrypts),
      attribute(CKA_SIGN, signs),
      attribute(CKA_VERIFY, signs),
      attribute(CKA_WRAP, kFalse),
      attribute(CKA_UNWRAP, kFalse),
      attribute(CKA_DERIVE, kFalse),
  };
  CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
  const std::scoped_lock alone{state_->driver->shared().object_store};
  state_->must("C_GenerateKey", &CK_FUNCTION_LIST::C_GenerateKey, &mechanism, attributes.data(),
               static_cast<CK_ULONG>(attributes.size()), &handle);
  try {
    check_made_as_asked(KeyHandle{handle}, key);
  } catch (...) {
    state_->call(&CK_FUNCTION_LIST::C_DestroyObject, handle);
    throw;
  }
  return KeyHandle{handle};
}

void Pkcs11Session::check_made_as_asked(KeyHandle made, const KeyTemplate& key) {
  const KeyAttributes told = attributes(made);
  const auto weak = pkcs11::weaknesses(told, key.use, pkcs11::KeyOrigin::MadeHere);
  const bool found_again = told.id == key.id && told.token == (key.lifetime == KeyLifetime::Token);
  if (weak.empty() && found_again && pkcs11::serves(told, key.use, key.bytes)) return;
  throw WrongKeyError(fmt::format("token '{}' made a key other than asked for ({}); it is not used",
                                  state_->token.label,
                                  weak.empty() ? "type, size, use, id or lifetime differ" : pkcs11::describe(weak)));
}

void pkcs11::SessionAccess::destroy_new_key(Pkcs11Session& session, KeyHandle key) {
  const std::scoped_lock alone{session.state_->driver->shared().object_store};
  session.state_->call(&CK_FUNCTION_LIST::C_DestroyObject, static_cast<CK_OBJECT_HANDLE>(key.value));
}

std::optional<Bytes> Pkcs11Session::State::read_attribute(KeyHandle key, CK_ATTRIBUTE_TYPE type, std::size_t most) {
  Bytes value(most);
  CK_ATTRIBUTE wanted{type, pkcs11::out(value), static_cast<CK_ULONG>(most)};
  const CK_RV rv =
      call(&CK_FUNCTION_LIST::C_GetAttributeValue, static_cast<CK_OBJECT_HANDLE>(key.value), &wanted, CK_ULONG{1});
  if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE) return std::nullopt;
  if (rv != CKR_OK) {
    spent = true;
    pkcs11::throw_failure("C_GetAttributeValue", rv, token.label);
  }
  if (wanted.ulValueLen > most) return std::nullopt;  // CK_UNAVAILABLE_INFORMATION
  value.resize(wanted.ulValueLen);
  return value;
}

template <typename Value>
std::optional<Value> Pkcs11Session::State::fixed_attribute(KeyHandle key, CK_ATTRIBUTE_TYPE type) {
  const auto bytes = read_attribute(key, type, sizeof(Value));
  if (!bytes || bytes->size() != sizeof(Value)) return std::nullopt;
  Value value;
  std::copy(bytes->begin(), bytes->end(), std::as_writable_bytes(std::span{&value, 1}).begin());
  return value;
}

std::optional<bool> Pkcs11Session::State::flag(KeyHandle key, CK_ATTRIBUTE_TYPE type) {
  const auto value = fixed_attribute<CK_BBOOL>(key, type);
  return value ? std::optional{*value != CK_FALSE} : std::nullopt;
}

KeyAttributes Pkcs11Session::attributes(KeyHandle key) {
  state_->check_usable();
  State& s = *state_;
  KeyAttributes told;
  told.key_type = s.fixed_attribute<CK_KEY_TYPE>(key, CKA_KEY_TYPE);
  told.value_bytes = s.fixed_attribute<CK_ULONG>(key, CKA_VALUE_LEN);
  told.id = s.read_attribute(key, CKA_ID, 255);
  if (const auto label = s.read_attribute(key, CKA_LABEL, 4096)) {
    told.label.emplace(reinterpret_cast<const char*>(label->data()), label->size());
  }
  told.token = s.flag(key, CKA_TOKEN);
  told.is_private = s.flag(key, CKA_PRIVATE);
  told.sensitive = s.flag(key, CKA_SENSITIVE);
  told.always_sensitive = s.flag(key, CKA_ALWAYS_SENSITIVE);
  told.extractable = s.flag(key, CKA_EXTRACTABLE);
  told.never_extractable = s.flag(key, CKA_NEVER_EXTRACTABLE);
  told.encrypt = s.flag(key, CKA_ENCRYPT);
  told.decrypt = s.flag(key, CKA_DECRYPT);
  told.wrap = s.flag(key, CKA_WRAP);
  told.unwrap = s.flag(key, CKA_UNWRAP);
  told.sign = s.flag(key, CKA_SIGN);
  told.verify = s.flag(key, CKA_VERIFY);
  told.derive = s.flag(key, CKA_DERIVE);
  return told;
}

// --- operations ----------------------------------------------------------------------------------------------------

namespace {

/// CKM_AES_GCM with its parameters, over a copy of the IV that shows whether the token wrote into it.
class GcmMechanism {
 public:
  explicit GcmMechanism(const AesGcm& gcm) : iv_(gcm.iv.begin(), gcm.iv.end()) {
    if (gcm.iv.empty() || gcm.iv.size() > 256) throw InvalidArgumentError("an AES-GCM IV has 1 to 256 bytes");
    parameters_.pIv = pkcs11::out(iv_);
    parameters_.ulIvLen = size_of(iv_);
    parameters_.ulIvBits = size_of(iv_) * 8;
    parameters_.pAAD = gcm.aad.empty() ? nullptr : in(gcm.aad);
    parameters_.ulAADLen = size_of(gcm.aad);
    parameters_.ulTagBits = kTagBytes * 8;
  }
  GcmMechanism(const GcmMechanism&) = delete;
  GcmMechanism& operator=(const GcmMechanism&) = delete;
  ~GcmMechanism() = default;

  [[nodiscard]] CK_MECHANISM* get() noexcept { return &mechanism_; }
  [[nodiscard]] bool iv_is(ByteView iv) const { return std::ranges::equal(iv_, iv); }

 private:
  Bytes iv_;
  CK_GCM_PARAMS parameters_{};
  CK_MECHANISM mechanism_{CKM_AES_GCM, &parameters_, sizeof(parameters_)};
};

}  // namespace

Bytes Pkcs11Session::encrypt(KeyHandle key, const AesGcm& mechanism, ByteView plaintext) {
  state_->check_usable();
  GcmMechanism gcm{mechanism};
  Bytes ciphertext(plaintext.size() + kTagBytes + kSpareBytes);
  CK_ULONG size = size_of(ciphertext);
  state_->must("C_EncryptInit", &CK_FUNCTION_LIST::C_EncryptInit, gcm.get(), static_cast<CK_OBJECT_HANDLE>(key.value));
  state_->must("C_Encrypt", &CK_FUNCTION_LIST::C_Encrypt, in(plaintext), size_of(plaintext), pkcs11::out(ciphertext),
               &size);
  if (size != plaintext.size() + kTagBytes) {
    state_->broken_promise("C_Encrypt", fmt::format("{} bytes for {} bytes of plaintext, where {} were due", size,
                                                    plaintext.size(), plaintext.size() + kTagBytes));
  }
  if (!gcm.iv_is(mechanism.iv)) state_->broken_promise("C_Encrypt", "used another IV than the caller's");
  ciphertext.resize(size);
  return ciphertext;
}

SecretBytes Pkcs11Session::decrypt(KeyHandle key, const AesGcm& mechanism, ByteView ciphertext) {
  state_->check_usable();
  if (ciphertext.size() < kTagBytes)
    throw InvalidArgumentError("AES-GCM ciphertext has at least the 16 bytes of its tag");
  GcmMechanism gcm{mechanism};
  SecretBytes plaintext{ciphertext.size() + kSpareBytes};
  CK_ULONG size = size_of(plaintext.view());
  state_->must("C_DecryptInit", &CK_FUNCTION_LIST::C_DecryptInit, gcm.get(), static_cast<CK_OBJECT_HANDLE>(key.value));
  state_->must("C_Decrypt", &CK_FUNCTION_LIST::C_Decrypt, in(ciphertext), size_of(ciphertext),
               pkcs11::out(plaintext.writable()), &size);
  if (size != ciphertext.size() - kTagBytes) {
    state_->broken_promise("C_Decrypt", fmt::format("{} bytes for {} bytes of ciphertext", size, ciphertext.size()));
  }
  plaintext.truncate(size);
  return plaintext;
}

Bytes Pkcs11Session::sign(KeyHandle key, MacMechanism mechanism, ByteView data) {
  state_->check_usable();
  const bool cmac = mechanism == MacMechanism::AesCmac;
  CK_MECHANISM call{cmac ? CKM_AES_CMAC : CKM_SHA256_HMAC, nullptr, 0};
  Bytes mac(kMaxMacBytes);
  CK_ULONG size = size_of(mac);
  state_->must("C_SignInit", &CK_FUNCTION_LIST::C_SignInit, &call, static_cast<CK_OBJECT_HANDLE>(key.value));
  state_->must("C_Sign", &CK_FUNCTION_LIST::C_Sign, in(data), size_of(data), pkcs11::out(mac), &size);
  if (size != (cmac ? 16U : 32U)) state_->broken_promise("C_Sign", fmt::format("a MAC of {} bytes", size));
  mac.resize(size);
  return mac;
}

SecretBytes Pkcs11Session::random(std::size_t size) {
  constexpr std::size_t kLeast = 8, kMost = 1024;  // the limits of the strictest driver known
  state_->check_usable();
  SecretBytes result{std::max(size, kLeast)};
  std::size_t done = 0;
  while (done < result.size()) {
    // A last piece below the least is filled by going back over bytes that are random already.
    const std::size_t start = std::min(done, result.size() - std::min(result.size(), kLeast));
    const std::size_t piece = std::min(result.size() - start, kMost);
    const auto buffer = result.writable().subspan(start, piece);
    std::ranges::fill(buffer, std::byte{0});
    state_->must("C_GenerateRandom", &CK_FUNCTION_LIST::C_GenerateRandom, pkcs11::out(buffer), size_of(buffer));
    if (std::ranges::all_of(buffer.last(kLeast), [](std::byte b) { return b == std::byte{0}; })) {
      state_->broken_promise("C_GenerateRandom", "left its buffer as it was");
    }
    done = start + piece;
  }
  result.truncate(size);
  return result;
}

}  // namespace hsmseal
