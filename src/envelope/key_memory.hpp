#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <hsmseal/secret_bytes.hpp>

namespace hsmseal::envelope {

/// Memory for keys that outlive a call. A forked child finds zeros in it, where the system can do that.
///
/// Thread safety: all members may run concurrently.
class KeyMemory {
 public:
  /// What a data key is made into: the payload's key and the commitment to it.
  static constexpr std::size_t kPlaceBytes = 64;

  /// Room for one key, which is wiped when this is destroyed.
  class Place {
   public:
    Place(Place&& other) noexcept = default;
    Place& operator=(Place&&) = delete;
    ~Place();
    [[nodiscard]] std::span<std::byte, kPlaceBytes> bytes() noexcept { return bytes_; }
    [[nodiscard]] std::span<const std::byte, kPlaceBytes> bytes() const noexcept { return bytes_; }

   private:
    friend class KeyMemory;
    struct State;
    Place(std::shared_ptr<State> state, std::span<std::byte, kPlaceBytes> bytes) noexcept
        : state_(std::move(state)), bytes_(bytes) {}

    std::shared_ptr<State> state_;  ///< null: moved from
    std::span<std::byte, kPlaceBytes> bytes_;
  };

  KeyMemory();

  /// @throws std::bad_alloc
  [[nodiscard]] Place take();

 private:
  const std::shared_ptr<Place::State> state_;
};

}  // namespace hsmseal::envelope
