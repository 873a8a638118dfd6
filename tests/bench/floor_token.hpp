#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>

/// What a token costs by itself.
namespace bench {

/// A bare loop of PKCS#11 calls: C_EncryptInit and C_Encrypt, or C_DecryptInit and C_Decrypt, of 32 bytes with AES-256-GCM,
/// as a data key is wrapped. The key is one of the token, as a credential set's is.
///
/// Thread safety: none; one for each thread.
class FloorToken {
 public:
  /// @param driver  its path; it may have been started by somebody else.
  FloorToken(const std::filesystem::path& driver, const std::string& token_label, const std::string& pin);
  FloorToken(FloorToken&&) noexcept;
  ~FloorToken();

  void encrypt();
  void decrypt();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bench
