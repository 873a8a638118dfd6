#include <algorithm>
#include <cstring>

#include "crypto/crypto.hpp"
#include "platform/platform.hpp"

namespace hsmseal::crypto {
namespace {

/// What asks for more does so at the system.
constexpr std::size_t kMostAtOnce = 64;

/// One page: how many bytes are left, and the bytes. A child finds nothing left in it.
class Supply {
 public:
  Supply() : page_(platform::page_size()), forks_(platform::forks()) {
    static_cast<void>(platform::wipe_on_fork(page_.writable()));  // where it cannot be had, the number of forks tells
  }

  void draw(std::span<std::byte> out) {
    std::size_t left = 0;
    std::memcpy(&left, page_.view().data(), sizeof left);
    if (left < out.size() || forks_ != platform::forks()) left = refill();
    left -= out.size();
    const auto drawn = bytes().subspan(left, out.size());
    std::ranges::copy(drawn, out.begin());
    platform::wipe(drawn.data(), drawn.size());
    std::memcpy(page_.writable().data(), &left, sizeof left);
  }

 private:
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return page_.writable().subspan(sizeof(std::size_t)); }

  std::size_t refill() {
    random_fill(bytes());
    forks_ = platform::forks();
    return bytes().size();
  }

  SecretBytes page_;
  std::uint64_t forks_;
};

}  // namespace

void draw_random(std::span<std::byte> out) {
  if (out.size() > kMostAtOnce) return random_fill(out);
  thread_local Supply supply;
  supply.draw(out);
}

}  // namespace hsmseal::crypto
