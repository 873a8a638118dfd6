#pragma once

#include <map>
#include <optional>
#include <tuple>

#include <hsmseal/secret_bytes.hpp>

#include "envelope/wire.hpp"

namespace hsmseal::envelope {

/// The data keys of a batch that have come to the active set, so that rows that share one ask the token once.
///
/// It holds them wrapped, as they stand in the rows. Kept no longer than for one batch, or a row could come to a set that
/// has long been archived.
///
/// Thread safety: none.
class MovedKeys {
 public:
  /// Notes what became of an envelope whose data key was moved.
  void note(ByteView old_envelope, ByteView moved_envelope) {
    const wire::Envelope before = wire::read(old_envelope), after = wire::read(moved_envelope);
    if (before.suite != Suite::DataKey) return;
    moved_.insert_or_assign(name_of(before), Moved{after.algorithm, after.version, bytes_of_view(after.wrapped)});
  }

  /// The envelope under the active set, if another one of the same data key was moved. Nobody has opened it yet.
  [[nodiscard]] std::optional<Bytes> moved(ByteView sealed) const {
    wire::Envelope envelope = wire::read(sealed);
    const auto found = moved_.find(name_of(envelope));
    if (envelope.suite != Suite::DataKey || found == moved_.end()) return std::nullopt;
    envelope.algorithm = found->second.algorithm;
    envelope.version = found->second.version;
    envelope.wrapped = found->second.wrapped;
    return wire::write(envelope);
  }

 private:
  /// With the commitment: two that agree in it and in the wrapped key have the same data key, if one of them has it.
  using Name = std::tuple<WrapAlgorithm, Version, Bytes, Bytes>;
  struct Moved {
    WrapAlgorithm algorithm;
    Version version;
    Bytes wrapped;
  };

  [[nodiscard]] static Bytes bytes_of_view(ByteView view) { return {view.begin(), view.end()}; }
  [[nodiscard]] static Name name_of(const wire::Envelope& envelope) {
    return {envelope.algorithm, envelope.version, bytes_of_view(envelope.wrapped), bytes_of_view(envelope.commitment)};
  }

  std::map<Name, Moved> moved_;
};

}  // namespace hsmseal::envelope
