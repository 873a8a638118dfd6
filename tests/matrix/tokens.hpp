#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <p11-kit/pkcs11.h>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/observer.hpp>
#include <hsmseal/pkcs11_session.hpp>
#include <hsmseal/token_binding.hpp>

#include "support/faultyhsm.hpp"
#include "support/opencryptoki.hpp"
#include "support/softhsm.hpp"

namespace hsmseal::test {

/// A token, and what a test can do to it.
struct MatrixToken {
  std::string name;          ///< the product and its version
  std::string alias;         ///< its name on the host
  DriverOptions driver;      ///< for the driver that `binding` names
  TokenBinding binding;      ///< with the right PIN
  std::string wrong_pin;     ///< one that the token counts as wrong
  std::string restarted_by;  ///< what `restart` does, for people
  /// Ends what the token lives in and starts it again, or leaves that to hsmseal.
  std::function<void()> restart;
  std::optional<Event::Kind> recovery;  ///< what hsmseal must tell of then; absent: nothing is lost
};

/// A token in one of its profiles.
struct MatrixRow {
  const MatrixToken* token;
  std::string profile;         ///< for people
  SetSpec spec;                ///< asks for it
  WrapProfile expected;        ///< what must be found; its max_plaintext is not looked at
  std::string not_applicable;  ///< why the token cannot do this; empty if it can

  [[nodiscard]] std::string name() const { return token->name + ", " + profile; }
};

/// The tokens that the matrix is about: SoftHSM's and openCryptoki's, and the faulty driver with every way of making
/// IVs, which is no vendor's. Only in the namespaces of OpenCryptoki.
class MatrixTokens {
 public:
  MatrixTokens();
  MatrixTokens(const MatrixTokens&) = delete;
  MatrixTokens& operator=(const MatrixTokens&) = delete;
  ~MatrixTokens() = default;

  [[nodiscard]] const std::vector<MatrixRow>& rows() const { return rows_; }
  /// A host on which all of them are bound.
  [[nodiscard]] Host host() const { return host_with(nullptr, {}); }
  /// The same, with another binding for one of them.
  [[nodiscard]] Host host_with(const MatrixToken* token, const TokenBinding& binding) const;

 private:
  MatrixToken& add_token(MatrixToken token);
  void add_softhsm();
  void add_opencryptoki();
  void add_faultyhsm(const std::string& way, const std::string& fault, const GcmForm& form);

  OpenCryptoki opencryptoki_;  // first, as it covers the folders where the others put their files
  SoftHsm softhsm_{{"matrix"}};
  std::vector<std::unique_ptr<FaultyHsm>> faulty_;
  std::vector<std::unique_ptr<MatrixToken>> tokens_;
  std::vector<MatrixRow> rows_;
};

/// Another program that uses a token, in this process and beside hsmseal's own sessions.
class OtherProgram {
 public:
  OtherProgram(const Host& host, const MatrixToken& token);
  OtherProgram(const OtherProgram&) = delete;
  OtherProgram& operator=(const OtherProgram&) = delete;
  ~OtherProgram();

  void destroy_key(const Bytes& id);
  /// Puts another AES key in the place of the key-encryption key: the same CKA_ID and label, another value.
  void replace_encryption_key(const KeyDescription& key);
  /// Does the same to the second key of WrapAlgorithm::Aes256CbcHmac.
  void replace_mac_key(const KeyDescription& key);

 private:
  Pkcs11Session session_;  // keeps the login
  CK_FUNCTION_LIST* list_;
  CK_SESSION_HANDLE own_ = 0;
};

/// The driver's own list of functions, of the copy that hsmseal has loaded.
[[nodiscard]] CK_FUNCTION_LIST* functions_of(const std::filesystem::path& library);

}  // namespace hsmseal::test
