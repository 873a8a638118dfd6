#pragma once

#include <cstddef>
#include <memory>

/// What a cipher costs by itself.
namespace bench {

/// Botan's AES-256-GCM with key, object and buffer made once: a message with a context as associated data.
///
/// Thread safety: none; one for each thread.
class FloorCipher {
 public:
  FloorCipher(std::size_t message_bytes, std::size_t context_bytes);
  FloorCipher(FloorCipher&&) noexcept;
  ~FloorCipher();

  void encrypt();
  void decrypt();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bench
