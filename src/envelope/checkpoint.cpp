#include "envelope/checkpoint.hpp"

#include <system_error>

#include <fmt/format.h>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "platform/platform.hpp"

namespace hsmseal::envelope {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 20;

}  // namespace

std::string Checkpoint::head(Version active) const {
  return fmt::format("hsmseal-rewrap 1\nring {}\nactive {}\nafter ", core::to_hex(ring_.bytes), active);
}

std::optional<std::string> Checkpoint::load(Version active) const {
  if (file_.empty()) return std::nullopt;
  const auto content = platform::read_trusted_file(file_, kMostBytes);
  const std::string start = head(active);
  if (!content || !content->starts_with(start) || !content->ends_with("\n")) return std::nullopt;
  const auto after =
      crypto::from_hex(std::string_view{*content}.substr(start.size(), content->size() - start.size() - 1));
  if (!after) return std::nullopt;
  return std::string{reinterpret_cast<const char*>(after->data()), after->size()};
}

void Checkpoint::save(Version active, const std::string& after) const {
  if (file_.empty()) return;
  platform::write_file_atomically(file_, head(active) + core::to_hex(bytes_of(after)) + "\n");
}

void Checkpoint::remove() const noexcept {
  std::error_code ignored;
  if (!file_.empty()) std::filesystem::remove(file_, ignored);
}

}  // namespace hsmseal::envelope
