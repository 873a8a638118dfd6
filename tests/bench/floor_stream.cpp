#include "bench/floor_stream.hpp"

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include <botan/aead.h>
#include <botan/version.h>

namespace bench {
namespace {

#if BOTAN_VERSION_MAJOR >= 3
constexpr auto kEncryption = Botan::Cipher_Dir::Encryption;
#else
constexpr auto kEncryption = Botan::Cipher_Dir::ENCRYPTION;
#endif

constexpr std::size_t kBufferBytes = std::size_t{64} << 10;

void work(std::size_t buffers) {
  const auto mode = Botan::AEAD_Mode::create_or_throw("AES-256/GCM", kEncryption);
  mode->set_key(std::vector<std::uint8_t>(32, 7));
  std::vector<std::uint8_t> nonce(12);
  Botan::secure_vector<std::uint8_t> buffer(kBufferBytes), tag;
  for (std::size_t i = 0; i < buffers; ++i) {
    for (std::size_t byte = 0; byte < 4; ++byte) nonce[byte] = static_cast<std::uint8_t>(i >> (8 * byte));
    mode->start(nonce.data(), nonce.size());
    mode->process(buffer.data(), buffer.size());
    tag.clear();
    mode->finish(tag);
  }
}

}  // namespace

double seconds_of_botan(std::size_t buffers, std::size_t threads) {
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < threads; ++i) others.emplace_back([=] { work(buffers / threads); });
    work(buffers / threads);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace bench
