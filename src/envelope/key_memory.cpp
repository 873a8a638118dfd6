#include "envelope/key_memory.hpp"

#include "platform/platform.hpp"

namespace hsmseal::envelope {

/// What the places share; it lives as long as any of them.
struct KeyMemory::Place::State {
  std::mutex mutex;
  std::vector<SecretBytes> pages;  ///< of their own each, not from the pool of small secrets: these are wiped on fork
  std::vector<std::byte*> free;

  void grow() {
    SecretBytes& page = pages.emplace_back(platform::page_size());
    static_cast<void>(platform::wipe_on_fork(page.writable()));  // where it cannot be had, forks() is all there is
    const std::size_t places = page.size() / kPlaceBytes;
    free.reserve(pages.size() * places);  // so that giving back never allocates
    for (std::size_t i = 0; i < places; ++i) free.push_back(page.writable().data() + i * kPlaceBytes);
  }
};

KeyMemory::KeyMemory() : state_(std::make_shared<Place::State>()) {}

KeyMemory::Place KeyMemory::take() {
  const std::scoped_lock lock{state_->mutex};
  if (state_->free.empty()) state_->grow();
  std::byte* const bytes = state_->free.back();
  state_->free.pop_back();
  return {state_, std::span<std::byte, kPlaceBytes>{bytes, kPlaceBytes}};
}

KeyMemory::Place::~Place() {
  if (!state_) return;
  platform::wipe(bytes_.data(), bytes_.size());
  const std::scoped_lock lock{state_->mutex};
  state_->free.push_back(bytes_.data());
}

}  // namespace hsmseal::envelope
