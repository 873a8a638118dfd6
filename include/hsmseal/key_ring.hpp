#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/ring_options.hpp>
#include <hsmseal/ring_pin.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal {

/// The versioned credential sets of an application: one seals, all others open until they are removed.
///
/// A handle: copies share one ring. What is read here is this process's latest verified view of the store; it moves on
/// with every change made through a handle, with refresh(), when it is older than RingSettings::max_staleness and
/// something is sealed or opened, and when an envelope or verify() names a version that is not known, staged or deleted
/// here (at most once a second).
///
/// Thread safety: const members may run concurrently with each other and with changes; changes may run concurrently.
/// Blocking: list(), active(), find(), id(), generation(), settings() and pinned() call neither store nor token. All
/// others call the store, and the token for what they do with keys, or if another host has changed the ring's own key.
///
/// Every change throws, besides what is said there: StoreConflictError if other hosts kept changing the ring,
/// StoreInDoubtError if the connection broke at the wrong moment (refresh() and list() tell what came of it), and what
/// refresh() throws. But for StoreInDoubtError the sets are as before then.
class HSMSEAL_API KeyRing {
 public:
  /// Makes a new ring with its first set in an empty store.
  ///
  /// @param pin       a new one; it remembers this ring from now on.
  /// @param settings  see RingSettings; the same for all hosts, for ever.
  /// @throws StoreConflictError    the store holds a ring already: use open().
  /// @throws InvalidArgumentError  the pin remembers a ring already, its file cannot be written, or a setting is out of
  ///         range. If the file fails after the ring was stored, the message says so: open the ring then.
  /// @throws what add() throws; as there, a key that was made may stay in the token.
  [[nodiscard]] static KeyRing create(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider,
                                      const SetSpec& first, RingPin pin, RingOptions options = {},
                                      const RingSettings& settings = {});

  /// Opens the ring that the store holds: one of its sets' keys must answer.
  ///
  /// @throws StoreError           the store is empty or does not work.
  /// @throws WrongRingError       it holds another ring than the pin remembers.
  /// @throws RingTamperedError, RingRolledBackError, RingForkedError  the record was changed or replaced.
  /// @throws TokenError, KeyNotFoundError, WrongKeyError, InvalidArgumentError  no set's key answers: the reason of
  ///         the first that was asked; the active set is, then the newer before the older.
  /// @throws InvalidArgumentError  the pin's file is missing, damaged or writable by others, or cannot be written.
  [[nodiscard]] static KeyRing open(std::shared_ptr<RingStore> store, std::shared_ptr<KeyProvider> provider,
                                    RingPin pin, RingOptions options = {});

  /// Puts an exported ring into an empty store and opens it. As it is verified like a record of a store, an export that
  /// is older than what the pin remembers needs RingPin::accept_rollback().
  ///
  /// @throws FormatError         the file is not an exported ring. (One that cannot be read: InvalidArgumentError.)
  /// @throws StoreConflictError  the store is not empty.
  /// @throws as open().
  [[nodiscard]] static KeyRing import_from(const std::filesystem::path& file, std::shared_ptr<RingStore> store,
                                           std::shared_ptr<KeyProvider> provider, RingPin pin,
                                           RingOptions options = {});

  /// Opens what is left of a damaged ring, to get secrets out of it: each set that can still be read opens envelopes
  /// after its own proof, deleted ones too. The record's MAC, generation and pin are NOT checked; only what the tokens
  /// accept opens. Nothing can be sealed or changed.
  ///
  /// @throws StoreError   nothing of a set can be read. (An export: FormatError.)
  [[nodiscard]] static KeyRing open_for_salvage(const std::shared_ptr<RingStore>& damaged,
                                                std::shared_ptr<KeyProvider> provider, const RingId& ring);
  /// The same with an exported ring.
  [[nodiscard]] static KeyRing open_for_salvage(const std::filesystem::path& exported,
                                                std::shared_ptr<KeyProvider> provider, const RingId& ring);

  /// The same with nothing but tokens: keys that hsmseal made under their default labels name ring and version.
  ///
  /// @param token_alias  the token to search; empty: all that are bound on this host. If several hold a key of one
  ///        version, the first by alias counts.
  /// @param ring         its first 4 bytes are in every envelope (EnvelopeHeader), all 16 in the labels of its keys.
  /// @throws KeyNotFoundError  the tokens hold no key of this ring.
  /// @throws TokenError, InvalidArgumentError  see KeyProvider::find_keys().
  [[nodiscard]] static KeyRing salvage_from_token(std::shared_ptr<KeyProvider> provider, const std::string& token_alias,
                                                  const RingId& ring);

  KeyRing(const KeyRing&);                 ///< One more handle of the same ring.
  KeyRing& operator=(const KeyRing&);      ///< From now on a handle of the other's ring.
  KeyRing(KeyRing&&) noexcept;             ///< What was moved from may only be destroyed or assigned to.
  KeyRing& operator=(KeyRing&&) noexcept;  ///< What was moved from may only be destroyed or assigned to.
  ~KeyRing();

  /// Adds a set: makes or adopts its key, proves it by a round trip over several sessions, and stores it.
  ///
  /// After it returned with Activation::Now, nothing that starts in this process is sealed under an older set. If
  /// another host activated a newer version meanwhile, the new set is stored as archived: it was overtaken.
  ///
  /// @returns the new version. Versions may skip: a number taken by an add() that failed is not used again.
  /// @throws InvalidArgumentError, WrongKeyError, KeyNotFoundError, TokenError  see KeyProvider::provision().
  /// @throws InvalidArgumentError  the key to adopt is that of a set whose destroy_key() has begun.
  /// After a failure a key that was made may stay in the token, unused: orphans() names it.
  Version add(const SetSpec& spec, Activation activation = Activation::Now);

  /// Makes a staged set the active one and archives the one that was.
  ///
  /// @throws UnknownVersionError   no such set.
  /// @throws InvalidArgumentError  the set is not staged, or older than the active one: there is no way back to an
  ///         older set but adding its key anew.
  void activate(Version version);

  /// Shows on this host that a set's key answers: unwraps its proof and its copy of the ring key; unless the set is
  /// archived, also that it unwraps what it wraps. Reads the store first if the set is not known here, or staged.
  ///
  /// @throws UnknownVersionError, DeletedVersionError  no such set, or none any more.
  /// @throws WrongKeyError, KeyNotFoundError, TokenError, InvalidArgumentError  the key does not answer.
  /// @throws RingTamperedError    the set's copy of the ring key is not this ring's.
  void verify(Version version);

  /// Changes a set's description, or how its key is reached. The key stays the same one: it is proved at its new place
  /// first, unless only the description changes.
  ///
  /// @throws UnknownVersionError   no such set.
  /// @throws InvalidArgumentError  see SetChange.
  /// @throws WrongKeyError, KeyNotFoundError, TokenError  the set's key does not answer at the new place.
  void amend(Version version, const SetChange& change);

  /// Removes a set that is no longer needed. It opens nothing from then on, and its key does not open the ring any more:
  /// the ring gets a new key of its own, wrapped under the sets that stay. Until purge(), restore() undoes it.
  ///
  /// @param census  asked once.
  /// @throws UnknownVersionError, DeletedVersionError  no such set, or none any more.
  /// @throws InvalidArgumentError  it is the active set.
  /// @throws SetInUseError         envelopes still name it, RingSettings::removal_grace has not passed since it was
  ///         archived, or it was staged when the census was asked and has been active since.
  /// @throws WrongKeyError, KeyNotFoundError, TokenError  of a set that stays: each must wrap the ring's new key.
  void remove(Version version, const Census& census);

  void remove_without_census(Version version);  ///< remove() for who knows without counting that no envelope is left.

  /// Brings a removed set back, archived. Its key is proved first.
  ///
  /// @throws UnknownVersionError   no such set.
  /// @throws InvalidArgumentError  it is not deleted, or its key was destroyed.
  /// @throws WrongKeyError, KeyNotFoundError, TokenError  its key does not answer.
  void restore(Version version);

  /// Erases the record of a deleted set for ever. A key that was not destroyed before stays in its token: orphans().
  ///
  /// @throws UnknownVersionError   no such set.
  /// @throws InvalidArgumentError  it is not deleted.
  /// @throws SetInUseError         envelopes still name it, or RingSettings::quarantine has not passed since it was
  ///         removed, and since its key was destroyed if it was.
  void purge(Version version, const Census& census);

  /// Destroys the key of a deleted set in its token for ever. What was sealed under it is lost.
  ///
  /// The ring notes it first (CredentialSet::key_destroyed_at), so that no host restores the set meanwhile. If the token
  /// then fails, call it again.
  ///
  /// @throws UnknownVersionError   no such set.
  /// @throws InvalidArgumentError  it is not deleted, another version was confirmed, or another set shares a key.
  /// @throws SetInUseError         envelopes still name it, or RingSettings::quarantine has not passed.
  /// @throws WrongKeyError, KeyNotFoundError, TokenError  see KeyProvider::destroy(); KeyNotFoundError only if it was not
  ///         this ring that destroyed it before.
  void destroy_key(Version version, const Census& census, Confirmation confirmation);

  /// Reads the store now. A token is asked only if the ring's own key was changed, which remove() does.
  /// @throws StoreError, WrongRingError, RingTamperedError, RingRolledBackError, RingForkedError  as open().
  /// @throws InvalidArgumentError  the pin's file is damaged. (One that cannot be written is an event, and no error.)
  void refresh();

  /// Keys of this ring in the tokens bound on this host that no set names, such as one whose add() failed. A key that
  /// another host is adding at this moment is among them, and those of a history that was lost with the database: do not
  /// destroy keys that envelopes may still need.
  [[nodiscard]] std::vector<FoundKey> orphans() const;

  /// Writes the ring as it is stored now into a new file, for import_from() and open_for_salvage(). No secret is in it.
  /// @throws InvalidArgumentError  the file exists or cannot be written.
  void export_to(const std::filesystem::path& file) const;

  /// All sets by version, oldest first.
  [[nodiscard]] std::vector<CredentialSet> list() const;
  [[nodiscard]] CredentialSet active() const;                              ///< The one that seals.
  [[nodiscard]] std::optional<CredentialSet> find(Version version) const;  ///< Nothing if there is no such set.
  [[nodiscard]] RingId id() const;                                         ///< Never changes.
  [[nodiscard]] std::uint64_t generation() const;                          ///< One more with each change of the record.
  [[nodiscard]] RingSettings settings() const;                             ///< Those the ring was created with.
  [[nodiscard]] PinnedRing pinned() const;  ///< For a RingPin::fixed() of another host: the ring as it is here.

 private:
  friend class EnvelopeEncryptor;
  friend struct ring::CoreOf;
  explicit KeyRing(std::shared_ptr<ring::RingCore> core);

  std::shared_ptr<ring::RingCore> core_;
};

}  // namespace hsmseal
