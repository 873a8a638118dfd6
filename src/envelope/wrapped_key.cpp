#include "envelope/wrapped_key.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "core/wrap_rules.hpp"

namespace hsmseal::envelope {
namespace {

using ring::ConnectedSet;

/// Binds a wrapped data key to the envelope's kind, the ring and the set. src/FORMAT.md section 3.
Bytes wrap_aad(const ConnectedSet& set, Suite suite) {
  return core::Binding{core::kWrapLabel}
      .append(static_cast<std::uint8_t>(suite))
      .append(static_cast<std::uint8_t>(set.set().key.profile.algorithm))
      .append(set.ring())
      .append(set.set().version)
      .append(set.set().key.kek_id)
      .take();
}

}  // namespace

wire::Envelope header_for(const ConnectedSet& set, Suite suite, bool padded) {
  wire::Envelope envelope;
  envelope.suite = suite;
  envelope.algorithm = set.set().key.profile.algorithm;
  envelope.padded = padded;
  std::ranges::copy(ByteView{set.ring().bytes}.first(envelope.ring_prefix.size()), envelope.ring_prefix.begin());
  envelope.version = set.set().version;
  return envelope;
}

void check_wrapped(const ConnectedSet& set, const Bytes& wrapped, std::size_t plain_size) {
  const std::size_t due = plain_size + core::overhead(set.set().key.profile);
  if (wrapped.size() == due) return;
  throw WrongKeyError(fmt::format("the key wrapper of set {} returned {} bytes for {}, where its profile makes {}",
                                  set.set().version, wrapped.size(), plain_size, due));
}

WrappedKey wrap_data_key(ring::RingCore& ring, const SecretBytes& data_key, Suite suite) {
  return with_active_set(ring, [&](const ConnectedSet& set) {
    Bytes wrapped = set.wrapper().wrap(data_key.view(), wrap_aad(set, suite));
    check_wrapped(set, wrapped, data_key.size());
    return WrappedKey{set, std::move(wrapped)};
  });
}

void check_fits(const ConnectedSet& set, const wire::Envelope& envelope) {
  const WrapProfile& profile = set.set().key.profile;
  const std::size_t due =
      envelope.suite == Suite::Token ? core::iv_bytes(profile) : wire::kDataKeyBytes + core::overhead(profile);
  const bool size_is_known = !set.set().key.proof.wrapped.empty();  // a token alone does not tell its IVs' size
  if (envelope.algorithm != profile.algorithm || (size_is_known && envelope.wrapped.size() != due)) throw OpenError();
}

SecretBytes unwrap_data_key(const ConnectedSet& set, const wire::Envelope& envelope) {
  check_fits(set, envelope);
  SecretBytes data_key = set.wrapper().unwrap(envelope.wrapped, wrap_aad(set, envelope.suite));
  if (data_key.size() != wire::kDataKeyBytes) throw OpenError();
  return data_key;
}

}  // namespace hsmseal::envelope
