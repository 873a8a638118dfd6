#pragma once

#include <hsmseal/error.hpp>

#include "ring/body.hpp"

/// The rules of a credential set's life, on plain values.
namespace hsmseal::ring {

/// @throws InvalidArgumentError  the description is too long, or a text is not UTF-8.
void check_spec(const SetSpec& spec);
/// @throws InvalidArgumentError  as check_spec().
void check_change(const SetChange& change);

[[nodiscard]] CredentialSet new_set(KeyDescription key, const SetSpec& spec, Version version);

/// The first state of every set.
void stage(CredentialSet& set, Timestamp now);
void archive(CredentialSet& set, Timestamp now);
/// The active set is archived, and this one takes its place.
void make_active(Body& body, CredentialSet& set, Timestamp now);

[[nodiscard]] UnknownVersionError unknown_version(const Body& body, Version version);
[[nodiscard]] DeletedVersionError deleted(const CredentialSet& set);

/// @throws UnknownVersionError
[[nodiscard]] CredentialSet& require_set(Body& body, Version version);
[[nodiscard]] const CredentialSet& require_set(const Body& body, Version version);
/// @throws UnknownVersionError
/// @throws InvalidArgumentError  the set is not staged above the active one.
[[nodiscard]] CredentialSet& require_activatable(Body& body, Version version);
/// @throws UnknownVersionError, DeletedVersionError
/// @throws InvalidArgumentError  the set is active.
/// @throws SetInUseError         it was archived too short a time ago.
[[nodiscard]] CredentialSet& require_removable(Body& body, Version version, Timestamp now);
/// @throws UnknownVersionError
/// @throws InvalidArgumentError  the set is not deleted.
[[nodiscard]] CredentialSet& require_deleted(Body& body, Version version);
/// @throws as require_deleted().
/// @throws SetInUseError  the quarantine is not over.
[[nodiscard]] CredentialSet& require_past_quarantine(Body& body, Version version, Timestamp now);
/// @throws as require_past_quarantine(); a key's destruction has a quarantine of its own, since another host may still be
///         at it, and the record keeps the key from being adopted meanwhile.
[[nodiscard]] CredentialSet& require_purgeable(Body& body, Version version, Timestamp now);

}  // namespace hsmseal::ring
