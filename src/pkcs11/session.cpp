#include <hsmseal/pkcs11_session.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "pkcs11/session_state.hpp"

namespace hsmseal {

using pkcs11::in;
using pkcs11::size_of;

namespace {

constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kBlockBytes = 16;  // of AES
constexpr std::size_t kMaxMacBytes = 64;
/// Room beyond what the standard says, since drivers differ: padding block, tag, IV.
constexpr std::size_t kSpareBytes = 48;
constexpr std::chrono::seconds kDrainTime{2};

}  // namespace

Pkcs11Session::Pkcs11Session(std::shared_ptr<Pkcs11Module> module, const TokenSelector& selector, SessionMode mode) {
  if (!module) throw InvalidArgumentError("a session needs a module");
  state_ = std::make_unique<State>();
  state_->driver = module->driver_;
  state_->selector = selector;
  state_->life = state_->driver->life();  // first: slots belong to it
  state_->token = module->token(selector);
  state_->guard = &state_->driver->shared().login_guard(state_->token.label, state_->token.serial);
  const CK_FLAGS flags = CKF_SERIAL_SESSION | (mode == SessionMode::ReadWrite ? CKF_RW_SESSION : 0);
  const CK_RV rv = state_->driver->call_in_life(
      state_->life, &CK_FUNCTION_LIST::C_OpenSession, static_cast<CK_SLOT_ID>(state_->token.slot), flags,
      static_cast<void*>(nullptr), static_cast<CK_NOTIFY>(nullptr), &state_->handle);
  if (rv != CKR_OK) pkcs11::throw_failure("C_OpenSession", rv, state_->token.label);
  state_->lost = state_->driver->shared().open_sessions.opened(state_->handle);
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
  if (!state_ || !std::exchange(state_->open, false)) return;
  state_->call(&CK_FUNCTION_LIST::C_CloseSession);
  if (!state_->driver->forked()) state_->driver->shared().open_sessions.closed(state_->handle, state_->lost);
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

/// Keys may be numbered anew: whoever is in a call about one is waited for, unless it hangs, and no other begins.
CK_RV Pkcs11Session::State::call_login(CK_BYTE_PTR pin, CK_ULONG size) {
  ++guard->logins;
  if (guard->key_uses.close(std::min(Deadline::current(), std::chrono::steady_clock::now() + kDrainTime))) {
    guard->key_uses.open();
  }
  const CK_RV rv = call(&CK_FUNCTION_LIST::C_Login, static_cast<CK_USER_TYPE>(CKU_USER), pin, size);
  ++guard->logins;
  return rv;
}

/// Whether the token answers at all: by what most drivers do not answer themselves.
bool Pkcs11Session::State::token_is_well() {
  std::array<std::byte, 8> drawn{};
  const CK_RV rv = call(&CK_FUNCTION_LIST::C_GenerateRandom, pkcs11::out(drawn), size_of(drawn));
  return rv == CKR_OK || rv == CKR_RANDOM_NO_RNG || rv == CKR_FUNCTION_NOT_SUPPORTED || rv == CKR_USER_NOT_LOGGED_IN;
}

void Pkcs11Session::State::login(ByteView pin, LowPinCount low_pin_count) {
  pkcs11::LoginGuard& known = *guard;
  const auto digest = pkcs11::LoginGuard::digest(pin);
  const auto one_login_at_a_time = pkcs11::lock_in_time(known.mutex, token.label);
  const auto refuse = [&](CK_RV rv, const std::string& message) {
    throw TokenLoginError(pkcs11::failure("C_Login", rv), message);
  };
  if (known.refused_before(digest)) {
    refuse(CKR_PIN_INCORRECT, fmt::format("no login to token '{}': it refused this PIN before; C_Login is not called "
                                          "again until the PIN changes",
                                          token.label));
  }
  const bool already = logged_in();
  if (already && known.another_is_in(digest)) {
    refuse(CKR_USER_ALREADY_LOGGED_IN,
           fmt::format("this process is logged in to token '{}' with another PIN; give all bindings of a token one PIN",
                       token.label));
  }
  if (already) return;
  refuse_risky_login(low_pin_count);
  const CK_RV rv = call_login(in(pin), size_of(pin));
  // Somebody else's C_Login came between; whose PIN is in force is not known, but ours was not judged.
  if (rv == CKR_USER_ALREADY_LOGGED_IN && logged_in()) return;
  if (rv == CKR_OK) return known.accepted(digest);
  using pkcs11::Reaction;
  const Reaction reaction = pkcs11::reaction("C_Login", rv, pkcs11::Attempt::First);
  if (reaction == Reaction::Refuse || reaction == Reaction::Proceed) {
    refuse(rv, pkcs11::failure_text("C_Login", rv, token.label));  // the token takes no user's login now
  }
  // Some drivers answer a wrong PIN with a general error. If the token is well, that was most likely its verdict on the
  // PIN.
  const bool says_pin = pkcs11::reaction("C_OpenSession", rv, pkcs11::Attempt::First) == Reaction::AskOperator;
  const bool in_doubt = !says_pin && known.give_benefit_of_doubt(
                                         digest, token_is_well() ? pkcs11::TokenState::Well : pkcs11::TokenState::Ill);
  if (reaction != Reaction::AskOperator || in_doubt) {
    TokenFailure failure = pkcs11::failure("C_Login", rv);
    failure.retryable = true;  // the PIN was not judged
    throw TokenError(failure, pkcs11::failure_text("C_Login", rv, token.label));
  }
  // A user who is locked out may be let in again with the same PIN.
  if (rv == CKR_PIN_LOCKED || rv == CKR_PIN_EXPIRED || rv == CKR_USER_PIN_NOT_INITIALIZED) {
    refuse(rv, pkcs11::failure_text("C_Login", rv, token.label) + "; ask the token's security officer");
  }
  known.refused(digest);
  refuse(rv, pkcs11::failure_text("C_Login", rv, token.label) + "; this PIN is not tried again until it changes");
}

/// The person at the token's own pad is asked anew each time, and sees what the token says.
void Pkcs11Session::State::login_at_token(LowPinCount low_pin_count) {
  pkcs11::LoginGuard& known = *guard;
  const auto one_login_at_a_time = pkcs11::lock_in_time(known.mutex, token.label);
  if (logged_in()) return;
  refuse_risky_login(low_pin_count);
  const CK_RV rv = call_login(nullptr, 0);
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

// --- operations ----------------------------------------------------------------------------------------------------

namespace {

/// CK_GCM_PARAMS as the text of PKCS#11 2.40 has it.
struct GcmParametersWithoutIvBits {
  CK_BYTE_PTR iv;
  CK_ULONG iv_bytes;
  CK_BYTE_PTR aad;
  CK_ULONG aad_bytes;
  CK_ULONG tag_bits;
};

/// AES-GCM with its parameters, over a buffer that shows whether the token gave back another IV.
class GcmMechanism {
 public:
  /// @param iv  empty: no buffer; a token that makes an IV is still told its size.
  GcmMechanism(const AesGcm& gcm, Bytes iv) : iv_(std::move(iv)), form_(gcm.form) {
    CK_BYTE_PTR const buffer = iv_.empty() ? nullptr : pkcs11::out(iv_);
    CK_BYTE_PTR const aad = gcm.aad.empty() ? nullptr : in(gcm.aad);
    const CK_ULONG iv_bytes = iv_.empty() ? CK_ULONG{form_.iv_bytes} : size_of(iv_);
    six_ = {buffer, size_of(iv_), iv_bytes * 8, aad, size_of(gcm.aad), kTagBytes * 8};
    five_ = {buffer, size_of(iv_), aad, size_of(gcm.aad), kTagBytes * 8};
    mechanism_.mechanism = static_cast<CK_MECHANISM_TYPE>(form_.mechanism);
    if (in_six_fields()) {
      mechanism_.pParameter = &six_;
      mechanism_.ulParameterLen = sizeof(six_);
    } else {
      mechanism_.pParameter = &five_;
      mechanism_.ulParameterLen = sizeof(five_);
    }
  }
  GcmMechanism(const GcmMechanism&) = delete;
  GcmMechanism& operator=(const GcmMechanism&) = delete;
  ~GcmMechanism() = default;

  [[nodiscard]] CK_MECHANISM* get() noexcept { return &mechanism_; }
  [[nodiscard]] const Bytes& iv() const noexcept { return iv_; }

  /// Whether the driver left the buffer where, and as long as, it was.
  [[nodiscard]] bool same_buffer() const noexcept {
    CK_BYTE_PTR const buffer = in_six_fields() ? six_.pIv : five_.iv;
    const CK_ULONG size = in_six_fields() ? six_.ulIvLen : five_.iv_bytes;
    return buffer == (iv_.empty() ? nullptr : pkcs11::in(iv_)) && size == iv_.size();
  }

 private:
  [[nodiscard]] bool in_six_fields() const noexcept { return form_.parameters == GcmParameters::WithIvBits; }

  Bytes iv_;
  const GcmForm form_;
  CK_GCM_PARAMS six_{};
  GcmParametersWithoutIvBits five_{};
  CK_MECHANISM mechanism_{};
};

/// What the token gets as its IV buffer when it encrypts.
Bytes iv_buffer(const AesGcm& gcm) {
  if (gcm.form.iv_rule == IvRule::Caller) {
    if (gcm.iv.empty() || gcm.iv.size() > 256) throw InvalidArgumentError("an AES-GCM IV has 1 to 256 bytes");
    return {gcm.iv.begin(), gcm.iv.end()};
  }
  if (!gcm.iv.empty()) throw InvalidArgumentError("an IV was given where the token makes it");
  if (gcm.form.iv_bytes != 12 && gcm.form.iv_bytes != 16) {
    throw InvalidArgumentError("an AES-GCM IV that a token makes has 12 or 16 bytes");
  }
  return gcm.form.iv_rule == IvRule::TokenAppends ? Bytes{} : Bytes(gcm.form.iv_bytes);
}

bool all_zeros(ByteView bytes) {
  return std::ranges::all_of(bytes, [](std::byte one) { return one == std::byte{0}; });
}

/// The driver's output with an IV of the token's own in front.
Bytes with_iv_first(const GcmForm& form, const Bytes& written, ByteView output) {
  Bytes result;
  result.reserve(form.iv_bytes + output.size());
  const auto append = [&](ByteView part) { result.insert(result.end(), part.begin(), part.end()); };
  if (form.iv_rule == IvRule::TokenWrites) {
    append(written);
    append(output);
  } else if (form.iv_rule == IvRule::TokenAppends) {
    append(output.last(form.iv_bytes));
    append(output.first(output.size() - form.iv_bytes));
  } else {
    append(output);
  }
  return result;
}

}  // namespace

Bytes Pkcs11Session::encrypt(KeyHandle key, const AesGcm& mechanism, ByteView plaintext) {
  state_->check_usable();
  const GcmForm& form = mechanism.form;
  const bool callers_iv = form.iv_rule == IvRule::Caller;
  GcmMechanism gcm{mechanism, iv_buffer(mechanism)};
  const bool iv_in_output = form.iv_rule == IvRule::TokenAppends || form.iv_rule == IvRule::TokenPrepends;
  const std::size_t due = plaintext.size() + kTagBytes + (iv_in_output ? form.iv_bytes : 0);
  Bytes output(due + kSpareBytes);
  state_->must("C_EncryptInit", &CK_FUNCTION_LIST::C_EncryptInit, gcm.get(), static_cast<CK_OBJECT_HANDLE>(key.value));
  const CK_ULONG size = state_->must_fill("C_Encrypt", &CK_FUNCTION_LIST::C_Encrypt, plaintext, output);
  if (size != due) {
    state_->broken_promise(
        "C_Encrypt", fmt::format("{} bytes for {} bytes of plaintext, where {} were due", size, plaintext.size(), due));
  }
  if (!gcm.same_buffer() || (callers_iv && !std::ranges::equal(gcm.iv(), mechanism.iv))) {
    state_->broken_promise("C_Encrypt", "used another IV than the caller's");
  }
  output.resize(size);
  Bytes result = callers_iv ? std::move(output) : with_iv_first(form, gcm.iv(), output);
  if (!callers_iv && all_zeros(ByteView{result}.first(form.iv_bytes))) {
    state_->broken_promise("C_Encrypt", "made no IV of its own");
  }
  if (all_zeros(ByteView{result}.last(kTagBytes))) state_->broken_promise("C_Encrypt", "left its buffer as it was");
  return result;
}

SecretBytes Pkcs11Session::decrypt(KeyHandle key, const AesGcm& mechanism, ByteView ciphertext) {
  state_->check_usable();
  if (mechanism.iv.empty() || mechanism.iv.size() > 256) {
    throw InvalidArgumentError("an AES-GCM IV has 1 to 256 bytes");
  }
  if (ciphertext.size() < kTagBytes) {
    throw InvalidArgumentError("AES-GCM ciphertext has at least the 16 bytes of its tag");
  }
  std::optional<GcmMechanism> gcm;
  const auto begin = [&] { return gcm.emplace(mechanism, Bytes(mechanism.iv.begin(), mechanism.iv.end())).get(); };
  return state_->decrypt(key, begin, ciphertext, ciphertext.size() - kTagBytes);
}

SecretBytes Pkcs11Session::State::decrypt(KeyHandle key, const std::function<CK_MECHANISM*()>& begin,
                                          ByteView ciphertext, std::size_t due) {
  // A buffer that comes back as it was may hold a plaintext that looks like it, but not like both of two fillings.
  for (const std::byte filling : {std::byte{0x5a}, std::byte{0xa5}}) {
    SecretBytes plaintext{ciphertext.size() + kSpareBytes};
    std::ranges::fill(plaintext.writable(), filling);
    must("C_DecryptInit", &CK_FUNCTION_LIST::C_DecryptInit, begin(), static_cast<CK_OBJECT_HANDLE>(key.value));
    const CK_ULONG size = must_fill("C_Decrypt", &CK_FUNCTION_LIST::C_Decrypt, ciphertext, plaintext);
    if (size != due) {
      broken_promise("C_Decrypt", fmt::format("{} bytes for {} bytes of ciphertext", size, ciphertext.size()));
    }
    plaintext.truncate(size);
    const bool untouched = std::ranges::all_of(plaintext.view(), [&](std::byte one) { return one == filling; });
    if (size == 0 || !untouched) return plaintext;
  }
  broken_promise("C_Decrypt", "left its buffer as it was");
}

namespace {

/// AES-CBC over a copy of the IV, which a driver may write to.
class CbcMechanism {
 public:
  explicit CbcMechanism(const AesCbc& cbc) : iv_(cbc.iv.begin(), cbc.iv.end()) {
    if (iv_.size() != kBlockBytes) throw InvalidArgumentError("an AES-CBC IV has 16 bytes");
    mechanism_ = {CKM_AES_CBC, pkcs11::out(iv_), size_of(iv_)};
  }
  CbcMechanism(const CbcMechanism&) = delete;
  CbcMechanism& operator=(const CbcMechanism&) = delete;
  ~CbcMechanism() = default;

  [[nodiscard]] CK_MECHANISM* get() noexcept { return &mechanism_; }

 private:
  Bytes iv_;
  CK_MECHANISM mechanism_{};
};

void check_whole_blocks(ByteView bytes) {
  if (!bytes.empty() && bytes.size() % kBlockBytes == 0) return;
  throw InvalidArgumentError("AES-CBC without padding takes whole blocks of 16 bytes, at least one");
}

}  // namespace

Bytes Pkcs11Session::encrypt(KeyHandle key, const AesCbc& mechanism, ByteView plaintext) {
  state_->check_usable();
  check_whole_blocks(plaintext);
  CbcMechanism cbc{mechanism};
  Bytes output(plaintext.size() + kSpareBytes);
  state_->must("C_EncryptInit", &CK_FUNCTION_LIST::C_EncryptInit, cbc.get(), static_cast<CK_OBJECT_HANDLE>(key.value));
  const CK_ULONG size = state_->must_fill("C_Encrypt", &CK_FUNCTION_LIST::C_Encrypt, plaintext, output);
  if (size != plaintext.size()) {
    state_->broken_promise(
        "C_Encrypt", fmt::format("{} bytes for {} bytes of plaintext, where as many were due", size, plaintext.size()));
  }
  output.resize(size);
  if (all_zeros(ByteView{output}.last(kBlockBytes))) {
    state_->broken_promise("C_Encrypt", "left its buffer as it was");
  }
  return output;
}

SecretBytes Pkcs11Session::decrypt(KeyHandle key, const AesCbc& mechanism, ByteView ciphertext) {
  state_->check_usable();
  check_whole_blocks(ciphertext);
  std::optional<CbcMechanism> cbc;
  return state_->decrypt(
      key, [&] { return cbc.emplace(mechanism).get(); }, ciphertext, ciphertext.size());
}

Bytes Pkcs11Session::sign(KeyHandle key, MacMechanism mechanism, ByteView data) {
  state_->check_usable();
  const bool cmac = mechanism == MacMechanism::AesCmac;
  CK_MECHANISM call{cmac ? CKM_AES_CMAC : CKM_SHA256_HMAC, nullptr, 0};
  Bytes mac(kMaxMacBytes);
  state_->must("C_SignInit", &CK_FUNCTION_LIST::C_SignInit, &call, static_cast<CK_OBJECT_HANDLE>(key.value));
  const CK_ULONG size = state_->must_fill("C_Sign", &CK_FUNCTION_LIST::C_Sign, data, mac);
  if (size != (cmac ? 16U : 32U)) state_->broken_promise("C_Sign", fmt::format("a MAC of {} bytes", size));
  mac.resize(size);
  return mac;
}

SecretBytes Pkcs11Session::random(std::size_t size) {
  // Inside the limits of the strictest driver known, 8 to 1024; twice the least, so that a driver that writes 8 bytes
  // only leaves as many for the look at the end.
  constexpr std::size_t kLeast = 16, kMost = 1024, kLookedAt = 8;
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
    if (std::ranges::all_of(buffer.last(kLookedAt), [](std::byte b) { return b == std::byte{0}; })) {
      state_->broken_promise("C_GenerateRandom", "left its buffer as it was");
    }
    done = start + piece;
  }
  result.truncate(size);
  return result;
}

}  // namespace hsmseal
