#include "keywrap/profile_choice.hpp"

#include <algorithm>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/wrap_rules.hpp"

namespace hsmseal::keywrap {
namespace {

constexpr std::uint32_t kBlockBytes = core::kCbcBlockBytes;
constexpr WrapProfile kCbcHmac{WrapAlgorithm::Aes256CbcHmac, {}};

void check_wishes(const SetSpec& spec) {
  const bool gcm = spec.gcm || spec.algorithm == WrapAlgorithm::Aes256Gcm;
  const bool cbc_hmac = spec.adopt_mac_key_id || spec.algorithm == WrapAlgorithm::Aes256CbcHmac;
  if (gcm && cbc_hmac) {
    throw InvalidArgumentError("a set wraps with AES-GCM or with AES-CBC and HMAC; a MAC key is for the latter alone");
  }
  if (!spec.gcm) return;
  if (const auto wrong = core::wrong_profile({.gcm = *spec.gcm})) {
    throw InvalidArgumentError(fmt::format("no token does AES-GCM in this form: {}", *wrong));
  }
  if (spec.gcm->mechanism > std::numeric_limits<std::uint32_t>::max()) {
    throw InvalidArgumentError("the number of a mechanism is below 2^32");
  }
}

std::vector<GcmForm> gcm_forms(const Vendor* vendor) {
  std::vector<GcmForm> forms;
  const auto add = [&](const GcmForm& form) {
    if (std::ranges::find(forms, form) == forms.end()) forms.push_back(form);
  };
  if (vendor != nullptr) {
    for (const auto& documented : vendor->gcm_forms) add(documented.value);
  }
  add({});
  add({.parameters = GcmParameters::WithoutIvBits});
  return forms;
}

std::string_view text_of(IvRule rule) {
  switch (rule) {
    case IvRule::Caller:
      return "the caller's IV";
    case IvRule::TokenWrites:
      return "the token's IV in the caller's buffer";
    case IvRule::TokenAppends:
      return "the token's IV behind the tag";
    case IvRule::TokenPrepends:
      break;
  }
  return "the token's IV before the ciphertext";
}

}  // namespace

std::vector<WrapProfile> profiles_to_try(const SetSpec& spec, const Vendor* vendor) {
  check_wishes(spec);
  if (spec.gcm) return {{.gcm = *spec.gcm}};
  if (spec.adopt_mac_key_id || spec.algorithm == WrapAlgorithm::Aes256CbcHmac) return {kCbcHmac};
  std::vector<WrapProfile> profiles;
  const bool has_no_gcm = vendor != nullptr && vendor->has_gcm && !vendor->has_gcm->value;
  if (spec.algorithm || !has_no_gcm) {
    for (const GcmForm& form : gcm_forms(vendor)) profiles.push_back({.gcm = form});
  }
  if (!spec.algorithm) profiles.push_back(kCbcHmac);
  if (vendor != nullptr && vendor->max_plaintext) {
    // Whole blocks, so that both algorithms can fill it.
    const std::uint32_t most = vendor->max_plaintext->value / kBlockBytes * kBlockBytes;
    for (WrapProfile& one : profiles) one.max_plaintext = std::min(one.max_plaintext, most);
  }
  return profiles;
}

std::string describe(const WrapProfile& profile) {
  if (profile.algorithm == WrapAlgorithm::Aes256CbcHmac) return "AES-CBC with HMAC-SHA-256";
  const GcmForm& form = profile.gcm;
  const GcmForm usual;
  std::string text = fmt::format("AES-GCM with {}", text_of(form.iv_rule));
  if (form.iv_bytes != usual.iv_bytes) text += fmt::format(", {} bytes", form.iv_bytes);
  if (form.mechanism != usual.mechanism) text += fmt::format(", mechanism {:#x}", form.mechanism);
  if (form.parameters != usual.parameters) text += ", parameters of five fields";
  return text;
}

}  // namespace hsmseal::keywrap
