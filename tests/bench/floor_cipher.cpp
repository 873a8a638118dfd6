#include "bench/floor_cipher.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include <botan/aead.h>
#include <botan/version.h>

namespace bench {
namespace {

#if BOTAN_VERSION_MAJOR >= 3
constexpr auto kEncryption = Botan::Cipher_Dir::Encryption, kDecryption = Botan::Cipher_Dir::Decryption;
#else
constexpr auto kEncryption = Botan::Cipher_Dir::ENCRYPTION, kDecryption = Botan::Cipher_Dir::DECRYPTION;
#endif

}  // namespace

struct FloorCipher::State {
  State(std::size_t message_bytes, std::size_t context_bytes) : message(message_bytes, 1), context(context_bytes, 2) {
    const std::array<std::uint8_t, 32> key{1, 2, 3};
    for (const auto& mode : {encryption.get(), decryption.get()}) mode->set_key(key.data(), key.size());
    encrypt();
    sealed.assign(buffer.begin(), buffer.end());
    sealed_nonce = nonce;
  }

  void encrypt() {
    std::uint64_t count = 0;
    std::memcpy(&count, nonce.data(), sizeof count);
    ++count;
    std::memcpy(nonce.data(), &count, sizeof count);
    buffer.assign(message.begin(), message.end());
    encryption->set_associated_data(context.data(), context.size());
    encryption->start(nonce.data(), nonce.size());
    encryption->finish(buffer);
  }

  void decrypt() {
    buffer.assign(sealed.begin(), sealed.end());
    decryption->set_associated_data(context.data(), context.size());
    decryption->start(sealed_nonce.data(), sealed_nonce.size());
    decryption->finish(buffer);
  }

  std::unique_ptr<Botan::AEAD_Mode> encryption = Botan::AEAD_Mode::create_or_throw("AES-256/GCM", kEncryption);
  std::unique_ptr<Botan::AEAD_Mode> decryption = Botan::AEAD_Mode::create_or_throw("AES-256/GCM", kDecryption);
  std::vector<std::uint8_t> message, context, sealed;
  std::array<std::uint8_t, 12> nonce{}, sealed_nonce{};
  Botan::secure_vector<std::uint8_t> buffer;
};

FloorCipher::FloorCipher(std::size_t message_bytes, std::size_t context_bytes)
    : state_(std::make_unique<State>(message_bytes, context_bytes)) {}
FloorCipher::FloorCipher(FloorCipher&&) noexcept = default;
FloorCipher::~FloorCipher() = default;

void FloorCipher::encrypt() { state_->encrypt(); }
void FloorCipher::decrypt() { state_->decrypt(); }

}  // namespace bench
