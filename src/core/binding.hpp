#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <utility>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::core {

/// Builds the byte strings that bind one thing to another: src/FORMAT.md section 3. Integers are big-endian.
class Binding {
 public:
  explicit Binding(std::string_view label) { append(bytes_of(label)); }
  /// Builds it in the memory of `buffer`, whatever is in it.
  Binding(std::string_view label, Bytes buffer) : bytes_(std::move(buffer)) {
    bytes_.clear();
    append(bytes_of(label));
  }

  Binding& append(ByteView bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Binding& append(const RingId& id) { return append(ByteView{id.bytes}); }
  Binding& append(const KekId& id) { return append(ByteView{id.bytes}); }

  template <std::unsigned_integral Number>
  Binding& append(Number number) {
    for (std::size_t shift = sizeof(Number) * 8; shift != 0;) {
      shift -= 8;
      bytes_.push_back(static_cast<std::byte>((number >> shift) & 0xffU));
    }
    return *this;
  }

  /// The length in 8 bytes, then the bytes.
  Binding& append_sized(ByteView bytes) { return append(std::uint64_t{bytes.size()}).append(bytes); }

  [[nodiscard]] ByteView view() const noexcept { return bytes_; }
  [[nodiscard]] Bytes take() noexcept { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

inline constexpr std::string_view kProofLabel = "hsmseal/1/proof";
inline constexpr std::string_view kRingKeyLabel = "hsmseal/1/ring-key";
inline constexpr std::string_view kRingMacLabel = "hsmseal/1/ring-mac";
inline constexpr std::string_view kRingKeyCheckLabel = "hsmseal/1/ring-key-check";
inline constexpr std::string_view kFormerRingKeyLabel = "hsmseal/1/former-ring-key";
inline constexpr std::string_view kAuditLogLabel = "hsmseal/1/audit-log";
inline constexpr std::string_view kWrapLabel = "hsmseal/1/wrap";
inline constexpr std::string_view kPayloadLabel = "hsmseal/1/payload";
inline constexpr std::string_view kTokenLabel = "hsmseal/1/token";
inline constexpr std::string_view kCbcHmacLabel = "hsmseal/1/cbc-hmac";

}  // namespace hsmseal::core
