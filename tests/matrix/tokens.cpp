#include "matrix/tokens.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include <dlfcn.h>
#include <fmt/format.h>

namespace hsmseal::test {
namespace {

const WrapProfile kCbcHmac{.algorithm = WrapAlgorithm::Aes256CbcHmac, .gcm = {}};

void must(bool fulfilled, const char* what) {
  if (!fulfilled) throw std::runtime_error(what);
}

void must_be_ok(const char* function, CK_RV rv) {
  if (rv != CKR_OK) throw std::runtime_error(fmt::format("{}: 0x{:x}", function, rv));
}

CK_ATTRIBUTE attribute(CK_ATTRIBUTE_TYPE type, void* value, std::size_t bytes) {
  return {type, value, static_cast<CK_ULONG>(bytes)};
}

}  // namespace

CK_FUNCTION_LIST* functions_of(const std::filesystem::path& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  must(handle != nullptr, "the driver is not loaded");
  CK_FUNCTION_LIST* list = nullptr;
  const auto get_list = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"));
  must_be_ok("C_GetFunctionList", get_list(&list));
  return list;
}

MatrixTokens::MatrixTokens() {
  add_softhsm();
  add_opencryptoki();
  add_faultyhsm("the caller's IV", "", {});
  add_faultyhsm("IV written back", "gcm_iv writeback", {.iv_rule = IvRule::TokenWrites});
  add_faultyhsm("IV of 12 bytes appended", "gcm_iv append12", {.iv_rule = IvRule::TokenAppends});
  add_faultyhsm("IV of 16 bytes appended", "gcm_iv append16", {.iv_rule = IvRule::TokenAppends, .iv_bytes = 16});
  add_faultyhsm("IV prepended", "gcm_iv prepend", {.iv_rule = IvRule::TokenPrepends});
  add_faultyhsm("five fields", "gcm_layout five", {.parameters = GcmParameters::WithoutIvBits});
  add_faultyhsm("a vendor's mechanism", "gcm_mechanism 0x8000011c", {.mechanism = 0x8000011c});
}

Host MatrixTokens::host_with(const MatrixToken* token, const TokenBinding& binding) const {
  Host host;
  for (const auto& each : tokens_) {
    host.driver(each->binding.driver, each->driver);
    host.token(each->alias, each.get() == token ? binding : each->binding);
  }
  return host;
}

MatrixToken& MatrixTokens::add_token(MatrixToken token) {
  tokens_.push_back(std::make_unique<MatrixToken>(std::move(token)));
  return *tokens_.back();
}

void MatrixTokens::add_softhsm() {
  const auto library = SoftHsm::library();
  MatrixToken& token =
      add_token({.name = "SoftHSM",
                 .alias = "softhsm",
                 .driver = {.environment = {{"SOFTHSM2_CONF", softhsm_.conf().string()}}},
                 .binding = softhsm_.binding("matrix"),
                 .wrong_pin = "000000000",
                 .restarted_by = "driver ended by others",
                 .restart = [library] { must_be_ok("C_Finalize", functions_of(library)->C_Finalize(nullptr)); },
                 .recovery = Event::Kind::DriverRestarted});
  const auto info = Pkcs11Module::load(host().driver_for(token.binding))->info();
  token.name += fmt::format(" {}.{}", info.library_major, info.library_minor);
  rows_.push_back({&token, "AES-GCM", {.token = token.alias}, {}, ""});
  rows_.push_back(
      {&token, "CBC + HMAC", {.token = token.alias, .algorithm = WrapAlgorithm::Aes256CbcHmac}, kCbcHmac, ""});
}

void MatrixTokens::add_opencryptoki() {
  const auto info = opencryptoki_.module()->info();
  const MatrixToken& token =
      add_token({.name = fmt::format("openCryptoki {}.{}", info.library_major, info.library_minor),
                 .alias = "opencryptoki",
                 .driver = {},
                 .binding = opencryptoki_.binding(),
                 .wrong_pin = opencryptoki_.wrong_pin(),
                 .restarted_by = "daemon killed and started",
                 .restart =
                     [this] {
                       opencryptoki_.kill_daemon();
                       opencryptoki_.start_daemon();
                     },
                 .recovery = {}});
  const auto mechanisms = opencryptoki_.module()->mechanisms(token.binding.select);
  const bool has_gcm = std::ranges::find(mechanisms, CKM_AES_GCM, &MechanismInfo::type) != mechanisms.end();
  rows_.push_back({&token,
                   "AES-GCM",
                   {.token = token.alias, .algorithm = WrapAlgorithm::Aes256Gcm},
                   {},
                   has_gcm ? "" : "its soft token has no CKM_AES_GCM, and a set with it is refused"});
  SetSpec cbc{.token = token.alias};
  if (has_gcm) cbc.algorithm = WrapAlgorithm::Aes256CbcHmac;  // without, it must be found
  rows_.push_back({&token, "CBC + HMAC", cbc, kCbcHmac, ""});
}

void MatrixTokens::add_faultyhsm(const std::string& way, const std::string& fault, const GcmForm& form) {
  faulty_.push_back(std::make_unique<FaultyHsm>());
  const FaultyHsm& hsm = *faulty_.back();
  if (!fault.empty()) hsm.apply(fault);
  hsm.apply("renumber");
  TokenBinding binding = hsm.binding("one");
  binding.driver = fmt::format("faulty{}", faulty_.size());
  const MatrixToken& token = add_token({.name = "faultyhsm",
                                        .alias = fmt::format("faulty {}", faulty_.size()),
                                        .driver = hsm.driver(),
                                        .binding = binding,
                                        .wrong_pin = "000000000",
                                        .restarted_by = "driver ended by others",
                                        .restart = [&hsm] { hsm.apply("foreign_finalize"); },
                                        .recovery = Event::Kind::DriverRestarted});
  rows_.push_back({&token, way, {.token = token.alias, .gcm = form}, {.gcm = form}, ""});
}

OtherProgram::OtherProgram(const Host& host, const MatrixToken& token)
    : session_(Pkcs11Module::load(host.driver_for(token.binding)), token.binding.select),
      list_(functions_of(host.driver_for(token.binding).library)) {
  session_.login(token.binding.pin);
  must_be_ok("C_OpenSession",
             list_->C_OpenSession(session_.token().slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &own_));
}

OtherProgram::~OtherProgram() { list_->C_CloseSession(own_); }

void OtherProgram::destroy_key(const Bytes& id) {
  const auto key = session_.find_key({.id = id});
  must(key.has_value(), "no such key");
  must_be_ok("C_DestroyObject", list_->C_DestroyObject(own_, static_cast<CK_OBJECT_HANDLE>(key->value)));
  must(!session_.find_key({.id = id}), "the key was not destroyed");
}

void OtherProgram::replace_encryption_key(const KeyDescription& key) {
  destroy_key(key.key_id);
  static_cast<void>(session_.generate_aes_key({.id = key.key_id, .label = key.key_label}));
}

void OtherProgram::replace_mac_key(const KeyDescription& key) {
  destroy_key(key.mac_key_id);
  CK_OBJECT_CLASS kind = CKO_SECRET_KEY;
  CK_KEY_TYPE type = CKK_GENERIC_SECRET;
  CK_ULONG bytes = 32;
  CK_BBOOL yes = CK_TRUE;
  CK_BBOOL no = CK_FALSE;
  Bytes id = key.mac_key_id;
  std::string label = key.key_label + "-mac";
  CK_ATTRIBUTE wanted[] = {
      attribute(CKA_CLASS, &kind, sizeof(kind)),   attribute(CKA_KEY_TYPE, &type, sizeof(type)),
      attribute(CKA_TOKEN, &yes, sizeof(yes)),     attribute(CKA_PRIVATE, &yes, sizeof(yes)),
      attribute(CKA_SENSITIVE, &yes, sizeof(yes)), attribute(CKA_EXTRACTABLE, &no, sizeof(no)),
      attribute(CKA_SIGN, &yes, sizeof(yes)),      attribute(CKA_VERIFY, &no, sizeof(no)),
      attribute(CKA_ENCRYPT, &no, sizeof(no)),     attribute(CKA_DECRYPT, &no, sizeof(no)),
      attribute(CKA_WRAP, &no, sizeof(no)),        attribute(CKA_UNWRAP, &no, sizeof(no)),
      attribute(CKA_DERIVE, &no, sizeof(no)),      attribute(CKA_VALUE_LEN, &bytes, sizeof(bytes)),
      attribute(CKA_ID, id.data(), id.size()),     attribute(CKA_LABEL, label.data(), label.size()),
  };
  CK_MECHANISM mechanism{CKM_GENERIC_SECRET_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE made = 0;
  must_be_ok("C_GenerateKey", list_->C_GenerateKey(own_, &mechanism, wanted, std::size(wanted), &made));
}

}  // namespace hsmseal::test
