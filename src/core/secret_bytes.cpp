#include <hsmseal/secret_bytes.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory_resource>
#include <mutex>
#include <new>
#include <set>
#include <utility>

#include "platform/platform.hpp"

namespace hsmseal {
namespace {

/// Small secrets share pages: a page each would cost three system calls each and soon all lockable memory.
constexpr std::size_t kLargestPooled = 1024;

/// Pages that are locked if possible and left out of core dumps.
class LockedPages final : public std::pmr::memory_resource {
 public:
  [[nodiscard]] SecretMemory state() const noexcept { return {reserved_.load(), locked_.load()}; }

 private:
  static std::size_t whole_pages(std::size_t size) {
    const std::size_t page = platform::page_size();
    if (size > SIZE_MAX - page) throw std::bad_alloc();
    return (size + page - 1) / page * page;
  }

  void* do_allocate(std::size_t size, std::size_t) override {
    const std::size_t rounded = whole_pages(size);
    const platform::Pages pages = platform::allocate_pages(rounded);
    try {
      if (!pages.locked) swappable_.insert(pages.address);
    } catch (...) {
      platform::release_pages(pages.address, rounded);
      throw;
    }
    reserved_ += rounded;
    if (pages.locked) locked_ += rounded;
    return pages.address;
  }

  void do_deallocate(void* address, std::size_t size, std::size_t) override {
    const std::size_t rounded = whole_pages(size);
    reserved_ -= rounded;
    if (swappable_.erase(address) == 0) locked_ -= rounded;
    platform::release_pages(address, rounded);
  }

  [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  std::atomic<std::size_t> reserved_ = 0, locked_ = 0;
  std::set<void*> swappable_;  ///< what could not be locked; guarded by the pool's mutex
};

struct SecretPool {
  LockedPages pages;
  std::mutex mutex;
  std::pmr::unsynchronized_pool_resource pool{
      std::pmr::pool_options{.max_blocks_per_chunk = 256, .largest_required_pool_block = kLargestPooled}, &pages};
};

/// Never destroyed: secrets in other static objects may outlive any order of destruction.
SecretPool& secret_pool() {
  static auto* const pool = new SecretPool;
  return *pool;
}

/// Blocks come in few sizes, so that one that is given back fits the next secret.
constexpr std::size_t kSmallest = 32;
constexpr auto kSizes = static_cast<std::size_t>(std::bit_width(kLargestPooled / kSmallest));

constexpr std::size_t size_class(std::size_t size) noexcept {
  return size <= kSmallest ? 0 : static_cast<std::size_t>(std::bit_width((size - 1) / kSmallest));
}

std::byte* take_from_pool(std::size_t size) {
  SecretPool& pool = secret_pool();
  const std::scoped_lock lock{pool.mutex};
  return static_cast<std::byte*>(pool.pool.allocate(size, alignof(std::byte)));
}

void give_to_pool(std::byte* block, std::size_t size) noexcept {
  SecretPool& pool = secret_pool();
  const std::scoped_lock lock{pool.mutex};
  pool.pool.deallocate(block, size, alignof(std::byte));
}

/// Wiped blocks that a thread keeps for its next secrets, so that threads that open many do not wait for each other.
class ThreadsBlocks {
 public:
  ThreadsBlocks() = default;
  ThreadsBlocks(const ThreadsBlocks&) = delete;
  ThreadsBlocks& operator=(const ThreadsBlocks&) = delete;
  ~ThreadsBlocks() {
    state_ = State::Over;
    for (std::size_t size = 0; size < kSizes; ++size) {
      for (std::size_t i = 0; i < counts_[size]; ++i) give_to_pool(blocks_[size][i], kSmallest << size);
    }
  }

  /// This thread's; null at its end, when its other objects may still have secrets.
  static ThreadsBlocks* get() {
    if (state_ == State::Over) return nullptr;
    thread_local ThreadsBlocks blocks;
    return &blocks;
  }

  /// @returns null if there is none of this size.
  std::byte* take(std::size_t size) noexcept { return counts_[size] == 0 ? nullptr : blocks_[size][--counts_[size]]; }

  /// @returns false if there are enough of this size.
  bool keep(std::byte* block, std::size_t size) noexcept {
    if (counts_[size] == kKept) return false;
    blocks_[size][counts_[size]++] = block;
    return true;
  }

 private:
  static constexpr std::size_t kKept = 8;
  enum class State { Usable, Over };
  static thread_local State state_;

  std::array<std::array<std::byte*, kKept>, kSizes> blocks_{};
  std::array<std::size_t, kSizes> counts_{};
};

constinit thread_local ThreadsBlocks::State ThreadsBlocks::state_ = State::Usable;

std::byte* allocate(std::size_t size) {
  if (size > kLargestPooled) return take_from_pool(size);
  const std::size_t its_class = size_class(size);
  ThreadsBlocks* const own = ThreadsBlocks::get();
  std::byte* const block = own != nullptr ? own->take(its_class) : nullptr;
  return block != nullptr ? block : take_from_pool(kSmallest << its_class);
}

/// @param memory  wiped.
void deallocate(std::byte* memory, std::size_t size) noexcept {
  if (size > kLargestPooled) return give_to_pool(memory, size);
  const std::size_t its_class = size_class(size);
  ThreadsBlocks* const own = ThreadsBlocks::get();
  if (own == nullptr || !own->keep(memory, its_class)) give_to_pool(memory, kSmallest << its_class);
}

}  // namespace

SecretBytes::SecretBytes(std::size_t size) : size_(size), capacity_(size) {
  if (size == 0) return;
  data_ = allocate(size);
  std::memset(data_, 0, size);
}

SecretBytes::SecretBytes(ByteView source) : SecretBytes(source.size()) {
  if (!source.empty()) std::memcpy(data_, source.data(), source.size());
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
  }
  return *this;
}

SecretBytes::~SecretBytes() { release(); }

void SecretBytes::release() noexcept {
  if (data_ == nullptr) return;
  platform::wipe(data_, capacity_);
  deallocate(data_, capacity_);
}

void SecretBytes::truncate(std::size_t size) noexcept {
  if (size >= size_) return;
  platform::wipe(data_ + size, size_ - size);
  size_ = size;
}

SecretMemory secret_memory() noexcept { return secret_pool().pages.state(); }

}  // namespace hsmseal
