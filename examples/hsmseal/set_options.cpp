#include "set_options.hpp"

#include <algorithm>
#include <charconv>
#include <map>

#include "failure.hpp"
#include "words.hpp"

namespace tool {
namespace {

const std::map<std::string, hsmseal::KeyWeakness> kWeaknesses = {
    {"not-private", hsmseal::KeyWeakness::NotPrivate},  {"not-sensitive", hsmseal::KeyWeakness::NotSensitive},
    {"extractable", hsmseal::KeyWeakness::Extractable}, {"was-exposed", hsmseal::KeyWeakness::WasExposed},
    {"wraps-keys", hsmseal::KeyWeakness::WrapsKeys},    {"signs-or-derives", hsmseal::KeyWeakness::SignsOrDerives}};
const std::map<std::string, hsmseal::IvRule> kIvRules = {{"caller", hsmseal::IvRule::Caller},
                                                         {"token-writes", hsmseal::IvRule::TokenWrites},
                                                         {"token-appends", hsmseal::IvRule::TokenAppends},
                                                         {"token-prepends", hsmseal::IvRule::TokenPrepends}};
const std::map<std::string, hsmseal::GcmParameters> kParameters = {
    {"with-iv-bits", hsmseal::GcmParameters::WithIvBits}, {"without-iv-bits", hsmseal::GcmParameters::WithoutIvBits}};
const std::map<std::string, hsmseal::WrapAlgorithm> kAlgorithms = {{"gcm", hsmseal::WrapAlgorithm::Aes256Gcm},
                                                                   {"cbc-hmac", hsmseal::WrapAlgorithm::Aes256CbcHmac}};

template <typename Value>
std::vector<std::string> words_of(const std::map<std::string, Value>& table) {
  std::vector<std::string> words;
  for (const auto& [word, value] : table) words.push_back(word);
  return words;
}

std::uint64_t mechanism_from(std::string_view text) {
  const bool hexadecimal = text.starts_with("0x");
  const std::string_view digits = hexadecimal ? text.substr(2) : text;
  std::uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, hexadecimal ? 16 : 10);
  if (error != std::errc{} || end != digits.data() + digits.size() || digits.empty()) {
    throw UsageError(fmt::format("--gcm-mechanism '{}' is no number; write 4231 or 0x1087", text));
  }
  return number;
}

}  // namespace

void GcmOptions::add_to(CLI::App& command) {
  command.add_option("--algorithm", algorithm, "how keys are wrapped; otherwise what the token is found to do")
      ->check(CLI::IsMember(words_of(kAlgorithms)));
  command.add_option("--gcm-iv", iv, "who makes the IV of AES-GCM, if the vendor's manual says so")
      ->check(CLI::IsMember(words_of(kIvRules)));
  command.add_option("--gcm-iv-bytes", iv_bytes, "the IV's size")->check(CLI::IsMember({12U, 16U}));
  command.add_option("--gcm-mechanism", mechanism, "a vendor's number for AES-GCM, such as 0x80000164");
  command.add_option("--gcm-parameters", parameters, "the layout of CK_GCM_PARAMS")
      ->check(CLI::IsMember(words_of(kParameters)));
}

std::optional<hsmseal::WrapAlgorithm> GcmOptions::wrap_algorithm() const {
  return algorithm.empty() ? std::optional<hsmseal::WrapAlgorithm>{} : kAlgorithms.at(algorithm);
}

std::optional<hsmseal::GcmForm> GcmOptions::form() const {
  if (iv.empty()) {
    if (mechanism.empty() && parameters.empty() && iv_bytes == 12) return std::nullopt;
    throw UsageError(
        "--gcm-mechanism, --gcm-parameters and --gcm-iv-bytes need --gcm-iv: who makes the IV is not guessed");
  }
  hsmseal::GcmForm form{.iv_rule = kIvRules.at(iv), .iv_bytes = iv_bytes};
  if (!mechanism.empty()) form.mechanism = mechanism_from(mechanism);
  if (!parameters.empty()) form.parameters = kParameters.at(parameters);
  return form;
}

void SetOptions::add_to(CLI::App& command) {
  command.add_option("--token", token, "the token that holds the set's key, as the host file names it")->required();
  command.add_option("--description", description, "a few words for people");
  command.add_option("--label", label, "the key's label; by default it names the ring and the version");
  command.add_option("--adopt", adopt, "use an existing AES-256 key: its CKA_ID in hexadecimal");
  command.add_option("--adopt-mac", adopt_mac, "with --algorithm cbc-hmac: the CKA_ID of its second key");
  command.add_option("--accept", accept, "what an adopted key may fall short in; may be repeated")
      ->check(CLI::IsMember(words_of(kWeaknesses)))
      ->allow_extra_args(false);
  gcm.add_to(command);
}

hsmseal::SetSpec SetOptions::spec() const {
  hsmseal::SetSpec spec{.token = token, .description = description, .key_label = label};
  if (!adopt.empty()) spec.adopt_key_id = bytes_from_hexadecimal(adopt, "--adopt");
  if (!adopt_mac.empty()) spec.adopt_mac_key_id = bytes_from_hexadecimal(adopt_mac, "--adopt-mac");
  if (!accept.empty() && adopt.empty()) throw UsageError("--accept is for keys that are adopted; give --adopt as well");
  for (const std::string& weakness : accept) spec.policy.accept.insert(kWeaknesses.at(weakness));
  spec.algorithm = gcm.wrap_algorithm();
  spec.gcm = gcm.form();
  return spec;
}

}  // namespace tool
