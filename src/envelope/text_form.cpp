#include "envelope/text_form.hpp"

#include <hsmseal/envelope_header.hpp>
#include <hsmseal/error.hpp>

#include "crypto/crypto.hpp"

namespace hsmseal {
namespace envelope {
namespace {

constexpr std::string_view kPrefix = "hse1.";

}  // namespace

std::string to_text(ByteView sealed) { return std::string{kPrefix} + crypto::to_base64url(sealed); }

Bytes from_text(std::string_view text) {
  if (!text.starts_with(kPrefix)) throw FormatError("not an envelope: the text does not start with 'hse1.'");
  if (text.size() > kPrefix.size() + kMaxEnvelopeBytes / 3 * 4 + 4)
    throw FormatError("not an envelope: the text is too long");
  auto bytes = crypto::from_base64url(text.substr(kPrefix.size()));
  if (!bytes) throw FormatError("not an envelope: the text is not base64url without padding");
  return *std::move(bytes);
}

}  // namespace envelope

EnvelopeHeader inspect_text(std::string_view sealed) { return inspect(envelope::from_text(sealed)); }

bool is_sealed_text(std::string_view text) noexcept { return text.starts_with(envelope::kPrefix); }

}  // namespace hsmseal
