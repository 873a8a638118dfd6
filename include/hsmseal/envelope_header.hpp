#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

/// How a secret is sealed. Values are those of src/FORMAT.md.
enum class Suite : std::uint8_t {
  DataKey = 1,  ///< AES-256-GCM on the host under a random data key, which the token wraps
  Token = 2,    ///< AES-256-GCM in the token itself: for hosts that must not hold data keys; small secrets only, and
                ///< not with a set of WrapAlgorithm::Aes256CbcHmac
  Stream = 3,   ///< as DataKey, in segments of 64 KiB: for values that do not fit in memory, see stream.hpp
};

/// The largest secret in bytes that Suite::DataKey seals, and of a Suite::Stream that is opened in memory: 64 MiB.
inline constexpr std::size_t kMaxSecretBytes = std::size_t{64} << 20;

/// The largest envelope in bytes that is taken as a whole; streams are read and written piece by piece, see stream.hpp.
inline constexpr std::size_t kMaxEnvelopeBytes = kMaxSecretBytes + 4096;

/// What an envelope says about itself. Nothing of it is authenticated before the envelope has been opened.
struct EnvelopeHeader {
  std::uint8_t format = 1;                             ///< of src/FORMAT.md; this version reads 1
  Suite suite = Suite::DataKey;                        ///< where the secret was encrypted
  WrapAlgorithm algorithm = WrapAlgorithm::Aes256Gcm;  ///< how the token encrypted; with Suite::Token Aes256Gcm
  bool padded = false;                                 ///< whether secret_bytes is a multiple of Padding::bucket()
  std::array<std::byte, 4> ring_prefix{};              ///< the first 4 bytes of the ring's id
  Version version = 0;                                 ///< the credential set that sealed it
  std::size_t secret_bytes = 0;                        ///< the secret's size, rounded up to the bucket if it is padded
  bool operator==(const EnvelopeHeader&) const = default;
};

/// Reads the header of one complete envelope, without any token.
///
/// @param sealed  bytes as in src/FORMAT.md section 2. Not retained.
/// @throws FormatError  not an envelope, cut short, too long, or of a format, suite or algorithm this version does not
///         know.
[[nodiscard]] HSMSEAL_API EnvelopeHeader inspect(ByteView sealed);

/// The same for the text form.
[[nodiscard]] HSMSEAL_API EnvelopeHeader inspect_text(std::string_view sealed);

/// Whether bytes start like an envelope: tells sealed from plain columns while a database is migrated.
[[nodiscard]] HSMSEAL_API bool is_sealed(ByteView bytes) noexcept;

/// Whether a text starts like the text form of an envelope.
[[nodiscard]] HSMSEAL_API bool is_sealed_text(std::string_view text) noexcept;

}  // namespace hsmseal
