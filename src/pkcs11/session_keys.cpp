#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "core/hex.hpp"
#include "pkcs11/add_to_error.hpp"
#include "pkcs11/key_policy.hpp"
#include "pkcs11/session_state.hpp"

namespace hsmseal {

using pkcs11::attribute;

namespace {

constexpr CK_BBOOL kTrue = CK_TRUE;
constexpr CK_BBOOL kFalse = CK_FALSE;
constexpr std::size_t kMostAtATime = 256;
constexpr std::size_t kMaxIdBytes = 255;

}  // namespace

std::vector<CK_OBJECT_HANDLE> Pkcs11Session::State::search(std::vector<CK_ATTRIBUTE> pattern, std::size_t most) {
  must("C_FindObjectsInit", &CK_FUNCTION_LIST::C_FindObjectsInit, pattern.data(),
       static_cast<CK_ULONG>(pattern.size()));
  std::vector<CK_OBJECT_HANDLE> found;
  std::vector<CK_OBJECT_HANDLE> batch(std::min(most, kMostAtATime));
  CK_RV rv = CKR_OK;
  // Drivers may hand out fewer handles at a time than there are; none means that there are no more.
  while (found.size() < most) {
    const std::size_t asked = std::min(batch.size(), most - found.size());
    CK_ULONG count = 0;
    rv = call(&CK_FUNCTION_LIST::C_FindObjects, batch.data(), static_cast<CK_ULONG>(asked), &count);
    if (rv != CKR_OK || count == 0) break;
    found.insert(found.end(), batch.begin(),
                 batch.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(count, asked)));
  }
  const CK_RV ended = call(&CK_FUNCTION_LIST::C_FindObjectsFinal);
  if (rv != CKR_OK) fail("C_FindObjects", rv);
  if (ended != CKR_OK) fail("C_FindObjectsFinal", ended);
  return found;
}

std::optional<KeyHandle> Pkcs11Session::find_key(const KeyQuery& query) {
  state_->check_usable();
  if (!query.id && !query.label) throw InvalidArgumentError("a key query needs an id or a label");
  const CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  std::vector<CK_ATTRIBUTE> pattern{attribute(CKA_CLASS, secret_key)};
  if (query.id) pattern.push_back(attribute(CKA_ID, ByteView{*query.id}));
  if (query.label) pattern.push_back(attribute(CKA_LABEL, bytes_of(*query.label)));
  const std::vector<CK_OBJECT_HANDLE> found = [&] {
    const pkcs11::CallTurns::Turn alone{state_->driver->shared().object_store, state_->token.label};
    return state_->search(std::move(pattern), 2);
  }();
  if (found.empty()) return std::nullopt;
  if (found.size() > 1) {
    throw WrongKeyError(fmt::format(
        "more than one key with {} on token '{}'; destroy the one that does not belong there",
        query.id ? "CKA_ID " + core::to_hex(*query.id) : "label '" + *query.label + "'", state_->token.label));
  }
  return KeyHandle{found.front()};
}

namespace {

/// Whether a token means an attribute, or its value, when it refuses a template.
bool refuses_attribute(CK_RV rv) {
  return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_ATTRIBUTE_READ_ONLY ||
         rv == CKR_TEMPLATE_INCONSISTENT;
}

void check_template(const KeyTemplate& key) {
  if (key.id.empty() || key.id.size() > kMaxIdBytes) throw InvalidArgumentError("a key's id has 1 to 255 bytes");
  if (key.use == hsmseal::KeyUse::Mac) {
    if (key.bytes < 32 || key.bytes > 64) throw InvalidArgumentError("a key for HMAC-SHA-256 has 32 to 64 bytes");
  } else if (key.bytes != 16 && key.bytes != 24 && key.bytes != 32) {
    throw InvalidArgumentError("an AES key has 16, 24 or 32 bytes");
  }
}

}  // namespace

KeyHandle Pkcs11Session::State::generate(const KeyTemplate& key) {
  check_template(key);
  const bool mac = key.use == hsmseal::KeyUse::Mac;
  const CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
  const CK_KEY_TYPE type = mac ? CKK_GENERIC_SECRET : CKK_AES;
  const auto value_bytes = static_cast<CK_ULONG>(key.bytes);
  const CK_BBOOL& encrypts = key.use == hsmseal::KeyUse::EncryptDecrypt ? kTrue : kFalse;
  const CK_BBOOL& signs = key.use == hsmseal::KeyUse::EncryptDecrypt ? kFalse : kTrue;
  const CK_BBOOL& verifies = key.use == hsmseal::KeyUse::SignVerify ? kTrue : kFalse;
  // Every attribute that decides over the key's safety is said, since the drivers' defaults differ.
  std::vector<CK_ATTRIBUTE> needed{
      attribute(CKA_VALUE_LEN, value_bytes),
      attribute(CKA_ID, ByteView{key.id}),
      attribute(CKA_LABEL, bytes_of(key.label)),
      attribute(CKA_TOKEN, key.lifetime == KeyLifetime::Token ? kTrue : kFalse),
      attribute(CKA_PRIVATE, kTrue),
      attribute(CKA_SENSITIVE, kTrue),
      attribute(CKA_EXTRACTABLE, kFalse),
      attribute(CKA_WRAP, kFalse),
      attribute(CKA_UNWRAP, kFalse),
  };
  // The mechanism implies these, or the token may not know them for this type of key; what became of them is read back.
  std::vector<CK_ATTRIBUTE> optional{attribute(CKA_CLASS, secret_key), attribute(CKA_KEY_TYPE, type),
                                     attribute(CKA_DERIVE, kFalse)};
  for (const auto& use : {attribute(CKA_ENCRYPT, encrypts), attribute(CKA_DECRYPT, encrypts),
                          attribute(CKA_SIGN, signs), attribute(CKA_VERIFY, verifies)}) {
    (*static_cast<const CK_BBOOL*>(use.pValue) == CK_TRUE ? needed : optional).push_back(use);
  }
  CK_MECHANISM mechanism{mac ? CKM_GENERIC_SECRET_KEY_GEN : CKM_AES_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
  const auto try_with = [&](const std::vector<CK_ATTRIBUTE>& others) {
    std::vector<CK_ATTRIBUTE> attributes = others;
    attributes.insert(attributes.end(), needed.begin(), needed.end());
    return call(&CK_FUNCTION_LIST::C_GenerateKey, &mechanism, attributes.data(),
                static_cast<CK_ULONG>(attributes.size()), &made);
  };
  const CK_RV refusal = try_with(optional);
  CK_RV rv = refusal;
  // One alone first: the others' defaults may be worse than what is asked for.
  for (std::size_t left_out = 0; refuses_attribute(rv) && left_out < optional.size(); ++left_out) {
    auto others = optional;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(left_out));
    rv = try_with(others);
  }
  if (refuses_attribute(rv)) rv = try_with({});
  if (refuses_attribute(rv)) rv = refusal;
  if (rv != CKR_OK) fail("C_GenerateKey", rv);
  return KeyHandle{made};
}

KeyHandle Pkcs11Session::generate_aes_key(const KeyTemplate& key) {
  if (key.use == KeyUse::Mac) throw InvalidArgumentError("an AES key is for encryption, or to sign and verify");
  return generate(key);
}

KeyHandle Pkcs11Session::generate_mac_key(const KeyTemplate& key) {
  if (key.use != KeyUse::Mac) throw InvalidArgumentError("a generic secret is for KeyUse::Mac alone");
  return generate(key);
}

KeyHandle Pkcs11Session::generate(const KeyTemplate& key) {
  state_->check_usable();
  // No login of hsmseal's before the key is good: the handle would name another key.
  const auto no_login = pkcs11::lock_in_time(state_->guard->mutex, state_->token.label);
  const pkcs11::CallTurns::Turn alone{state_->driver->shared().object_store, state_->token.label};
  const KeyHandle made = state_->generate(key);
  try {
    check_made_as_asked(made, key);
  } catch (const std::exception& error) {
    const auto* const refusal = dynamic_cast<const TokenError*>(&error);
    const std::string why = refusal != nullptr && pkcs11::lost_sight(*refusal)
                                ? "its handle is not known any more, or not yet"
                                : state_->destroy_made(made, key.id);
    if (why.empty()) throw;
    pkcs11::throw_again_with(pkcs11::left_behind(key.label, key.id, why));
  }
  return made;
}

std::string Pkcs11Session::State::destroy_made(KeyHandle made, ByteView id) {
  const Read read = try_read(made, CKA_ID, kMaxIdBytes);
  if (read.rv != CKR_OK) return pkcs11::failure_text("C_GetAttributeValue", read.rv, token.label);
  if (!read.value || !std::ranges::equal(*read.value, id)) return "its handle does not show its CKA_ID";
  const CK_RV rv = call(&CK_FUNCTION_LIST::C_DestroyObject, static_cast<CK_OBJECT_HANDLE>(made.value));
  return rv == CKR_OK ? "" : pkcs11::failure_text("C_DestroyObject", rv, token.label);
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

Pkcs11Session::State::Read Pkcs11Session::State::try_read(KeyHandle key, CK_ATTRIBUTE_TYPE type, std::size_t most) {
  Bytes value(most);
  CK_ATTRIBUTE wanted{type, pkcs11::out(value), static_cast<CK_ULONG>(most)};
  const CK_RV rv =
      call(&CK_FUNCTION_LIST::C_GetAttributeValue, static_cast<CK_OBJECT_HANDLE>(key.value), &wanted, CK_ULONG{1});
  if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_BUFFER_TOO_SMALL) return {};
  if (rv != CKR_OK) return {rv};
  if (wanted.ulValueLen > most) return {};  // CK_UNAVAILABLE_INFORMATION
  value.resize(wanted.ulValueLen);
  return {rv, std::move(value)};
}

std::optional<Bytes> Pkcs11Session::State::read_attribute(KeyHandle key, CK_ATTRIBUTE_TYPE type, std::size_t most) {
  Read read = try_read(key, type, most);
  if (read.rv != CKR_OK) fail("C_GetAttributeValue", read.rv);
  return std::move(read.value);
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
  told.id = s.read_attribute(key, CKA_ID, kMaxIdBytes);
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

}  // namespace hsmseal
