#include "pkcs11/key_policy.hpp"

#include <array>
#include <utility>

#include "pkcs11/cryptoki.hpp"

namespace hsmseal::pkcs11 {
namespace {

constexpr std::array<std::pair<KeyWeakness, std::string_view>, 6> kDescriptions{{
    {KeyWeakness::NotPrivate, "CKA_PRIVATE is not true"},
    {KeyWeakness::NotSensitive, "CKA_SENSITIVE is not true"},
    {KeyWeakness::Extractable, "CKA_EXTRACTABLE is not false"},
    {KeyWeakness::WasExposed, "CKA_ALWAYS_SENSITIVE or CKA_NEVER_EXTRACTABLE is not true"},
    {KeyWeakness::WrapsKeys, "CKA_WRAP or CKA_UNWRAP is true"},
    {KeyWeakness::SignsOrDerives, "it has a second use beside its own (CKA_SIGN, CKA_VERIFY, CKA_DERIVE, CKA_ENCRYPT)"},
}};

}  // namespace

std::set<KeyWeakness> weaknesses(const KeyAttributes& key, KeyUse use, KeyOrigin origin) {
  std::set<KeyWeakness> found;
  const auto hold = [&](KeyWeakness weakness, bool applies) {
    if (applies) found.insert(weakness);
  };
  const bool untold_exposure = origin == KeyOrigin::Existing;
  hold(KeyWeakness::NotPrivate, !key.is_private.value_or(false));
  hold(KeyWeakness::NotSensitive, !key.sensitive.value_or(false));
  hold(KeyWeakness::Extractable, key.extractable.value_or(true));
  hold(KeyWeakness::WasExposed,
       !key.always_sensitive.value_or(!untold_exposure) || !key.never_extractable.value_or(!untold_exposure));
  const auto may = [&](std::optional<bool> told) { return told.value_or(origin == KeyOrigin::Existing); };
  hold(KeyWeakness::WrapsKeys, may(key.wrap) || may(key.unwrap));
  const bool signs = may(key.sign) || may(key.verify);
  const bool encrypts = may(key.encrypt) || may(key.decrypt);
  const bool second_use = use == KeyUse::EncryptDecrypt ? signs : encrypts || (use == KeyUse::Mac && may(key.verify));
  hold(KeyWeakness::SignsOrDerives, may(key.derive) || second_use);
  return found;
}

std::string describe(const std::set<KeyWeakness>& weaknesses) {
  std::string text;
  for (const auto& [weakness, description] : kDescriptions) {
    if (!weaknesses.contains(weakness)) continue;
    if (!text.empty()) text += "; ";
    text += description;
  }
  return text;
}

bool serves(const KeyAttributes& key, KeyUse use, std::size_t bytes) {
  if (use == KeyUse::Mac) {
    return key.sign.value_or(false) && key.key_type == CKK_GENERIC_SECRET && key.value_bytes.value_or(0) >= bytes;
  }
  const bool usable = use == KeyUse::EncryptDecrypt ? key.encrypt.value_or(false) && key.decrypt.value_or(false)
                                                    : key.sign.value_or(false) && key.verify.value_or(false);
  return usable && key.key_type == CKK_AES && key.value_bytes == bytes;
}

}  // namespace hsmseal::pkcs11
