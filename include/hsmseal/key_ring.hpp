#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/observer.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal {

namespace ring {
class RingCore;
class PinKeeper;
}  // namespace ring

/// What this host remembers of a ring, so that the store cannot show it an older one or another one.
///
/// Thread safety: copies share what they remember and may be used concurrently.
class HSMSEAL_API RingPin {
 public:
  /// Trusts the first ring it sees and remembers it as long as a copy lives: for rings in memory, and for tests.
  [[nodiscard]] static RingPin in_process();

 private:
  friend class ring::RingCore;
  explicit RingPin(std::shared_ptr<ring::PinKeeper> keeper) : keeper_(std::move(keeper)) {}

  std::shared_ptr<ring::PinKeeper> keeper_;
};

/// How a ring behaves in this process.
struct RingOptions {
  std::shared_ptr<Observer> observer = {};  ///< null: nobody is told
  /// The clock that spaces out refreshes; replaced in tests.
  std::function<std::chrono::steady_clock::time_point()> clock = std::chrono::steady_clock::now;
};

/// When a new set starts to seal.
enum class Activation {
  Now,    ///< at once; the set that was active is archived in the same change
  Later,  ///< the set is staged, until activate()
};

/// The versioned credential sets of an application: one seals, all others open.
///
/// A handle: copies share one ring. What is read here is this process's latest verified view of the store; it moves on
/// with every change made through a handle, with refresh(), and when an envelope or verify() names a version that is
/// not known or staged here (for envelopes at most once a second).
///
/// Thread safety: const members may run concurrently with each other and with changes; changes may run concurrently.
/// Blocking: create(), open(), add() and verify() call the store and the token, activate() and refresh() the store; the
/// others neither.
class HSMSEAL_API KeyRing {
 public:
  /// Makes a new ring with its first set in an empty store.
  ///
  /// @param pin  a new one; it remembers this ring from now on.
  /// @throws StoreConflictError    the store holds a ring already: use open().
  /// @throws InvalidArgumentError  the pin remembers a ring already.
  /// @throws what add() throws; as there, a key that was made may stay in the token.
  [[nodiscard]] static KeyRing create(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider,
                                      const SetSpec& first, RingPin pin, RingOptions options = {});

  /// Opens the ring that the store holds: one of its sets' keys must answer.
  ///
  /// @throws StoreError           the store is empty or does not work.
  /// @throws WrongRingError       it holds another ring than the pin remembers.
  /// @throws RingTamperedError, RingRolledBackError, RingForkedError  the record was changed or replaced.
  /// @throws TokenError, KeyNotFoundError, WrongKeyError, InvalidArgumentError  no set's key answers: the reason of
  ///         the first that was asked; the active set is, then the newer before the older.
  [[nodiscard]] static KeyRing open(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider,
                                    RingPin pin, RingOptions options = {});

  KeyRing(const KeyRing&);
  KeyRing& operator=(const KeyRing&);
  KeyRing(KeyRing&&) noexcept;
  KeyRing& operator=(KeyRing&&) noexcept;
  ~KeyRing();

  /// Adds a set: makes or adopts its key, proves it by a round trip over several sessions, and stores it.
  ///
  /// After it returned with Activation::Now, nothing that starts in this process is sealed under an older set. If
  /// another host activated a newer version meanwhile, the new set is stored as archived: it was overtaken.
  ///
  /// @returns the new version. Versions may skip: a number taken by an add() that failed is not used again.
  /// @throws InvalidArgumentError, WrongKeyError, KeyNotFoundError, TokenError  see KeyProvider::provision().
  /// @throws StoreConflictError  other hosts kept changing the ring.
  /// @throws as refresh().
  /// The sets are as before then, unless a StoreError came after the store had stored the change: refresh() and list()
  /// tell. A key that was made may stay in the token, unused, under its label.
  Version add(const SetSpec& spec, Activation activation = Activation::Now);

  /// Makes a staged set the active one and archives the one that was.
  ///
  /// @throws UnknownVersionError   no such set.
  /// @throws InvalidArgumentError  the set is not staged, or older than the active one: there is no way back to an
  ///         older set but adding its key anew.
  /// @throws StoreConflictError, and as refresh().
  void activate(Version version);

  /// Shows on this host that a set's key answers: unwraps its proof and its copy of the ring key; unless the set is
  /// archived, also that it unwraps what it wraps. Reads the store first if the set is not known here, or staged.
  ///
  /// @throws UnknownVersionError  no such set.
  /// @throws WrongKeyError, KeyNotFoundError, TokenError, InvalidArgumentError  the key does not answer.
  /// @throws RingTamperedError    the set's copy of the ring key is not this ring's.
  /// @throws as refresh().
  void verify(Version version);

  /// Reads the store now. No token is asked.
  /// @throws StoreError, WrongRingError, RingTamperedError, RingRolledBackError, RingForkedError  as open().
  void refresh();

  /// All sets by version, oldest first.
  [[nodiscard]] std::vector<CredentialSet> list() const;
  [[nodiscard]] CredentialSet active() const;
  [[nodiscard]] std::optional<CredentialSet> find(Version version) const;
  [[nodiscard]] RingId id() const;
  [[nodiscard]] std::uint64_t generation() const;

 private:
  friend class EnvelopeEncryptor;
  explicit KeyRing(std::shared_ptr<ring::RingCore> core);

  std::shared_ptr<ring::RingCore> core_;
};

}  // namespace hsmseal
