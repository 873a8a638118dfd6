#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <hsmseal/envelope.hpp>

#include "core/flight.hpp"
#include "envelope/opened_keys.hpp"
#include "envelope/payload.hpp"
#include "envelope/sealing_key.hpp"
#include "platform/per_process.hpp"

namespace hsmseal::envelope {

/// The data keys that an encryptor uses for many secrets: one that seals, and those that were opened.
///
/// Each thread works at a desk of its own, with its own ciphers; others come to it only to take a key away. So threads do
/// not wait for each other, and a key that is given up is wiped at once. A forked child begins with no keys.
///
/// Thread safety: all members may run concurrently.
class DataKeys final : public ring::Follower {
 public:
  using Time = std::chrono::steady_clock::time_point;

  DataKeys(std::shared_ptr<ring::RingCore> ring, const EnvelopeOptions& options);

  /// Seals under the present data key, or under a new one. Tells the observer.
  [[nodiscard]] Bytes seal(ByteView secret, ContextView context);

  /// Opens an envelope of Suite::DataKey. Tells the observer.
  [[nodiscard]] SecretBytes open(ByteView sealed, const wire::Envelope& envelope, ContextView context);

  /// The data key of an envelope, kept or unwrapped now. The commitment to it is not looked at.
  /// @throws as EnvelopeEncryptor::open(); the observer is told of an OpenError.
  [[nodiscard]] std::shared_ptr<OpenedKey> opened_key(ByteView sealed, const wire::Envelope& envelope);
  /// Whether opened_key() would find it without the token, as it looks now.
  [[nodiscard]] bool keeps(ByteView sealed, const wire::Envelope& envelope);

  /// Gives up the keys of sets that do not seal, or not open, any more.
  void ring_changed() noexcept override;

 private:
  /// A data key that envelopes were opened with at this desk, and its cipher.
  struct Opened {
    std::shared_ptr<OpenedKey> key;
    std::uint64_t view = 0;  ///< of the ring, in which the key was good
    crypto::Aes256GcmDecryption cipher;

    void clear();
  };
  struct alignas(64) Desk {
    std::mutex mutex;
    Workbench bench;
    std::shared_ptr<SealingKey> sealing;
    std::uint64_t sealing_view = 0;  ///< of the ring, in which the key's set was the active one
    crypto::Aes256GcmEncryption cipher;
    std::array<Opened, 8> opened;

    void stop_sealing();
    [[nodiscard]] Opened& place_for(std::uint64_t hash) noexcept { return opened[(hash >> 32) % opened.size()]; }
  };
  /// What is of this process alone.
  struct Own {
    explicit Own(std::size_t opened_keys);

    KeyMemory memory;
    OpenedKeys opened;
    std::vector<Desk> desks;
    std::mutex mutex;  ///< taken under a desk's lock, never the other way round
    std::shared_ptr<SealingKey> sealing;
    std::uint64_t sealing_view = 0;
    std::shared_ptr<core::Flight> making;  ///< of the next one, if that is under way
  };
  class Seat;

  [[nodiscard]] Own& own();
  [[nodiscard]] bool has_sealing_key(Own& own, Desk& desk, std::uint64_t view);
  void renew(Own& own, Time now);
  void make_sealing_key(Own& own, const std::shared_ptr<core::Flight>& flight);
  void end_making(Own& own, const std::shared_ptr<core::Flight>& flight, std::shared_ptr<SealingKey> key);
  void take_from_desks(Own& own, const OpenedKey& key);
  /// With the key and the cipher that are at this thread's desk already.
  [[nodiscard]] std::optional<SecretBytes> open_at_desk(ByteView name, const wire::Envelope& envelope,
                                                        ContextView context, std::shared_ptr<OpenedKey>& used);
  [[nodiscard]] SecretBytes open_with(const std::shared_ptr<OpenedKey>& key, std::uint64_t view,
                                      const wire::Envelope& envelope, ContextView context);

  const std::shared_ptr<ring::RingCore> ring_;
  const DataKeyPolicy policy_;
  const std::size_t opened_keys_;
  const std::size_t bucket_;  ///< as Padding::bucket()
  const std::chrono::milliseconds deadline_;
  platform::PerProcess<Own> own_;
};

}  // namespace hsmseal::envelope
