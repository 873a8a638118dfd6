#include "bench/floor_token.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string_view>
#include <vector>

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

namespace bench {
namespace {

constexpr std::size_t kIvBytes = 12, kDataKeyBytes = 32, kTagBytes = 16, kAadBytes = 55;

void check(CK_RV rv, const char* what) {
  if (rv != CKR_OK) throw std::runtime_error(std::string{what} + " failed: " + std::to_string(rv));
}

}  // namespace

struct FloorToken::State {
  State(const std::filesystem::path& driver, const std::string& token_label, const std::string& pin) {
    void* const library = dlopen(driver.c_str(), RTLD_NOW);
    const auto get_list =
        library == nullptr ? nullptr : reinterpret_cast<CK_C_GetFunctionList>(dlsym(library, "C_GetFunctionList"));
    if (get_list == nullptr) throw std::runtime_error("no driver: " + driver.string());
    check(get_list(&list), "C_GetFunctionList");
    CK_C_INITIALIZE_ARGS arguments{};
    arguments.flags = CKF_OS_LOCKING_OK;
    if (const CK_RV rv = list->C_Initialize(&arguments); rv != CKR_CRYPTOKI_ALREADY_INITIALIZED) {
      check(rv, "C_Initialize");
    }
    check(list->C_OpenSession(slot_of(token_label), CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session),
          "C_OpenSession");
    std::string text = pin;
    const CK_RV rv = list->C_Login(session, CKU_USER, reinterpret_cast<CK_UTF8CHAR*>(text.data()), text.size());
    if (rv != CKR_USER_ALREADY_LOGGED_IN) check(rv, "C_Login");
    make_key();
    encrypt();
    std::copy_n(out.begin(), sealed.size(), sealed.begin());
    sealed_iv = iv;
  }

  State(const State&) = delete;
  State& operator=(const State&) = delete;

  ~State() {
    list->C_DestroyObject(session, key);
    list->C_CloseSession(session);
  }

  [[nodiscard]] CK_SLOT_ID slot_of(std::string_view label) const {
    CK_ULONG count = 0;
    check(list->C_GetSlotList(CK_TRUE, nullptr, &count), "C_GetSlotList");
    std::vector<CK_SLOT_ID> slots(count);
    check(list->C_GetSlotList(CK_TRUE, slots.data(), &count), "C_GetSlotList");
    for (const CK_SLOT_ID slot : slots) {
      CK_TOKEN_INFO info{};
      check(list->C_GetTokenInfo(slot, &info), "C_GetTokenInfo");
      const std::string_view found{reinterpret_cast<const char*>(info.label), sizeof info.label};
      if (found.substr(0, found.find_last_not_of(' ') + 1) == label) return slot;
    }
    throw std::runtime_error("no such token");
  }

  void make_key() {
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG size = kDataKeyBytes;
    std::array<CK_ATTRIBUTE, 7> attributes{{{CKA_TOKEN, &yes, sizeof yes},
                                            {CKA_PRIVATE, &yes, sizeof yes},
                                            {CKA_SENSITIVE, &yes, sizeof yes},
                                            {CKA_EXTRACTABLE, &no, sizeof no},
                                            {CKA_ENCRYPT, &yes, sizeof yes},
                                            {CKA_DECRYPT, &yes, sizeof yes},
                                            {CKA_VALUE_LEN, &size, sizeof size}}};
    CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
    check(list->C_GenerateKey(session, &mechanism, attributes.data(), attributes.size(), &key), "C_GenerateKey");
  }

  void encrypt() {
    if (++iv[0] == 0) ++iv[1];
    CK_GCM_PARAMS gcm{iv.data(), iv.size(), iv.size() * 8, aad.data(), aad.size(), kTagBytes * 8};
    CK_MECHANISM mechanism{CKM_AES_GCM, &gcm, sizeof gcm};
    CK_ULONG size = out.size();
    check(list->C_EncryptInit(session, &mechanism, key), "C_EncryptInit");
    check(list->C_Encrypt(session, data_key.data(), data_key.size(), out.data(), &size), "C_Encrypt");
  }

  void decrypt() {
    CK_GCM_PARAMS gcm{sealed_iv.data(), sealed_iv.size(), sealed_iv.size() * 8, aad.data(), aad.size(), kTagBytes * 8};
    CK_MECHANISM mechanism{CKM_AES_GCM, &gcm, sizeof gcm};
    CK_ULONG size = out.size();
    check(list->C_DecryptInit(session, &mechanism, key), "C_DecryptInit");
    check(list->C_Decrypt(session, sealed.data(), sealed.size(), out.data(), &size), "C_Decrypt");
  }

  CK_FUNCTION_LIST* list = nullptr;
  CK_SESSION_HANDLE session = 0;
  CK_OBJECT_HANDLE key = 0;
  std::array<CK_BYTE, kIvBytes> iv{}, sealed_iv{};
  std::array<CK_BYTE, kAadBytes> aad{};
  std::array<CK_BYTE, kDataKeyBytes> data_key{};
  std::array<CK_BYTE, kDataKeyBytes + kTagBytes> sealed{};
  std::array<CK_BYTE, 96> out{};
};

FloorToken::FloorToken(const std::filesystem::path& driver, const std::string& token_label, const std::string& pin)
    : state_(std::make_unique<State>(driver, token_label, pin)) {}
FloorToken::FloorToken(FloorToken&&) noexcept = default;
FloorToken::~FloorToken() = default;

void FloorToken::encrypt() { state_->encrypt(); }
void FloorToken::decrypt() { state_->decrypt(); }

}  // namespace bench
