#include "envelope/padding.hpp"

#include <algorithm>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>

namespace hsmseal {

Padding Padding::to_multiple_of(std::size_t bucket) {
  if (bucket < 2 || bucket > (std::size_t{1} << 20)) {
    throw InvalidArgumentError("secrets are padded to a multiple of 2 bytes to 1 MiB");
  }
  return Padding{bucket};
}

namespace envelope {
namespace {

constexpr std::byte kMark{0x80};

}  // namespace

SecretBytes padded(ByteView secret, std::size_t bucket) {
  SecretBytes result{padded_size(secret.size(), bucket)};
  copy_padded(secret, result.writable());
  return result;
}

void copy_padded(ByteView secret, std::span<std::byte> to) noexcept {
  std::ranges::copy(secret, to.begin());
  if (to.size() == secret.size()) return;
  to[secret.size()] = kMark;
  std::ranges::fill(to.subspan(secret.size() + 1), std::byte{0});
}

std::optional<std::size_t> size_without_padding(ByteView padded) noexcept {
  const auto mark = std::find_if(padded.rbegin(), padded.rend(), [](std::byte b) { return b != std::byte{0}; });
  if (mark == padded.rend() || *mark != kMark) return std::nullopt;
  return static_cast<std::size_t>(padded.rend() - mark) - 1;
}

SecretBytes without_padding(SecretBytes padded) {
  const auto size = size_without_padding(padded.view());
  if (!size) throw OpenError();
  padded.truncate(*size);
  return padded;
}

}  // namespace envelope
}  // namespace hsmseal
