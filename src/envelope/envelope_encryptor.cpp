#include <hsmseal/envelope.hpp>

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "core/wrap_rules.hpp"
#include "crypto/crypto.hpp"
#include "envelope/data_key.hpp"
#include "envelope/padding.hpp"
#include "envelope/stream_key.hpp"
#include "envelope/text_form.hpp"
#include "envelope/wire.hpp"
#include "envelope/wrapped_key.hpp"
#include "ring/ring_core.hpp"

namespace hsmseal {
namespace {

using envelope::header_for;
using envelope::PayloadKey;
using envelope::segment_aad;
using envelope::SegmentCipher;
using envelope::StreamKey;
using envelope::telling_refusals;
using envelope::unwrap_data_key;
using envelope::wrap_data_key;
using envelope::WrappedKey;
using ring::ConnectedSet;
using ring::RingCore;
using wire::Envelope;

constexpr std::size_t kMaxTokenAadBytes = std::size_t{64} << 10;

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

/// Binds what the token itself sealed, context included.
Bytes token_aad(const ConnectedSet& set, const Envelope& envelope, ContextView context) {
  Bytes aad = core::Binding{core::kTokenLabel}
                  .append(static_cast<std::uint8_t>(envelope.suite))
                  .append(static_cast<std::uint8_t>(envelope.algorithm))
                  .append(wire::flags_of(envelope))
                  .append(set.ring())
                  .append(set.set().version)
                  .append(set.set().key.kek_id)
                  .append_sized(context.bytes())
                  .take();
  if (aad.size() > kMaxTokenAadBytes) {
    throw InvalidArgumentError(
        fmt::format("a context of {} bytes is too long for a token; use Suite::DataKey", context.bytes().size()));
  }
  return aad;
}

/// Runs `work` with the active set, and again if another set became active meanwhile: what is returned after a change
/// of sets never names the older one.
template <typename Work>
auto with_active_set(RingCore& ring, const Work& work) {
  for (;;) {
    const ConnectedSet set = ring.active_for_sealing();
    auto result = work(set);
    if (ring.active_for_sealing().set().version == set.set().version) return result;
  }
}

/// A provider's wrap result must have the size that its set's profile says, or the envelope could not be read again.
void check_wrapped(const ConnectedSet& set, const Bytes& wrapped, std::size_t plain_size) {
  const std::size_t due = plain_size + core::overhead(set.set().key.profile);
  if (wrapped.size() == due) return;
  throw WrongKeyError(fmt::format("the key wrapper of set {} returned {} bytes for {}, where its profile makes {}",
                                  set.set().version, wrapped.size(), plain_size, due));
}

struct Sealed {
  ConnectedSet set;
  Bytes bytes;
};

Sealed seal_as_stream(RingCore& ring, const SecretBytes& secret, ContextView context) {
  const SecretBytes data_key = crypto::random_secret(wire::kDataKeyBytes);
  const WrappedKey key = wrap_data_key(ring, data_key, Suite::Stream);
  const auto nonce = crypto::random_array<wire::kNonceBytes>();
  const StreamKey stream_key{data_key, key.set.ring(), nonce};
  Envelope envelope = header_for(key.set, Suite::Stream, false);
  envelope.wrapped = key.wrapped;
  envelope.commitment = stream_key.commitment();
  envelope.nonce = nonce;
  const Bytes payload = seal_segments(SegmentCipher{stream_key, segment_aad(key.set.ring(), context)}, secret.view());
  envelope.payload = payload;
  return {key.set, wire::write(envelope)};
}

Sealed seal_under_data_key(RingCore& ring, SecretBytes padded_secret, bool padded, ContextView context) {
  const SecretBytes data_key = crypto::random_secret(wire::kDataKeyBytes);
  const WrappedKey key = wrap_data_key(ring, data_key, Suite::DataKey);
  const PayloadKey payload_key{data_key, Suite::DataKey, key.set.ring()};
  const auto nonce = crypto::random_array<wire::kNonceBytes>();
  Envelope envelope = header_for(key.set, Suite::DataKey, padded);
  envelope.wrapped = key.wrapped;
  envelope.commitment = payload_key.commitment();
  envelope.nonce = nonce;
  const Bytes payload = payload_key.encrypt(envelope, context, std::move(padded_secret));
  envelope.payload = payload;
  return {key.set, wire::write(envelope)};
}

Sealed seal_in_token(RingCore& ring, const SecretBytes& padded_secret, bool padded, ContextView context) {
  return with_active_set(ring, [&](const ConnectedSet& set) {
    const WrapProfile& profile = set.set().key.profile;
    if (profile.algorithm != WrapAlgorithm::Aes256Gcm) {
      throw InvalidArgumentError(
          fmt::format("credential set {} on token '{}' wraps with AES-CBC and HMAC, which is for data keys alone; use "
                      "Suite::DataKey",
                      set.set().version, set.set().key.token));
    }
    const std::size_t most = profile.max_plaintext;
    if (padded_secret.size() > most) {
      throw InvalidArgumentError(
          fmt::format("a secret of {} bytes (with padding) is over the {} bytes that token '{}' seals by itself; use "
                      "Suite::DataKey",
                      padded_secret.size(), most, set.set().key.token));
    }
    Envelope envelope = header_for(set, Suite::Token, padded);
    const Bytes sealed = set.wrapper().wrap(padded_secret.view(), token_aad(set, envelope, context));
    check_wrapped(set, sealed, padded_secret.size());
    const std::size_t iv_size = core::iv_bytes(profile);
    envelope.wrapped = ByteView{sealed}.first(iv_size);
    envelope.payload = ByteView{sealed}.subspan(iv_size);
    return Sealed{set, wire::write(envelope)};
  });
}

/// What the set cannot have wrapped does not reach its token.
void check_fits(const ConnectedSet& set, const Envelope& envelope) {
  const WrapProfile& profile = set.set().key.profile;
  const std::size_t due =
      envelope.suite == Suite::Token ? core::iv_bytes(profile) : wire::kDataKeyBytes + core::overhead(profile);
  const bool size_is_known = !set.set().key.proof.wrapped.empty();  // a token alone does not tell its IVs' size
  if (envelope.algorithm != profile.algorithm || (size_is_known && envelope.wrapped.size() != due)) throw OpenError();
}

/// @param context  nothing: the commitment alone is checked.
SecretBytes open_payload(const SecretBytes& data_key, const RingId& ring, const Envelope& envelope,
                         const std::optional<ContextView>& context) {
  if (envelope.suite == Suite::Stream) {
    const StreamKey key{data_key, ring, envelope.nonce};
    key.check_commitment(envelope.commitment);
    if (!context) return {};
    return open_segments(SegmentCipher{key, segment_aad(ring, *context)}, envelope.payload);
  }
  const PayloadKey key{data_key, envelope.suite, ring};
  key.check_commitment(envelope);
  return context ? key.decrypt(envelope, *context) : SecretBytes{};
}

SecretBytes open_with(const ConnectedSet& set, const Envelope& envelope, ContextView context) {
  if (envelope.suite == Suite::Token) {
    check_fits(set, envelope);
    if (envelope.payload.size() > set.set().key.profile.max_plaintext + wire::kTagBytes) throw OpenError();
    Bytes sealed(envelope.wrapped.begin(), envelope.wrapped.end());
    sealed.insert(sealed.end(), envelope.payload.begin(), envelope.payload.end());
    return set.wrapper().unwrap(sealed, token_aad(set, envelope, context));
  }
  return open_payload(unwrap_data_key(set, envelope), set.ring(), envelope, context);
}

SecretBytes without_padding(SecretBytes secret) {
  const auto size = envelope::size_without_padding(secret.view());
  if (!size) throw OpenError();
  secret.truncate(*size);
  return secret;
}

/// Moves the data key to the active set.
/// @param context  if given, the payload must open in it.
Bytes rewrapped(RingCore& ring, Envelope envelope, const std::optional<ContextView>& context) {
  const ConnectedSet old_set = ring.named_by_envelope(envelope.ring_prefix, envelope.version);
  const SecretBytes data_key = telling_refusals(ring, old_set, [&] {
    SecretBytes unwrapped = unwrap_data_key(old_set, envelope);
    SecretBytes secret = open_payload(unwrapped, old_set.ring(), envelope, context);
    if (context && envelope.padded) static_cast<void>(without_padding(std::move(secret)));
    return unwrapped;
  });
  const WrappedKey key = wrap_data_key(ring, data_key, envelope.suite);
  envelope.algorithm = key.set.set().key.profile.algorithm;
  envelope.version = key.set.set().version;
  envelope.wrapped = key.wrapped;
  Bytes moved = wire::write(envelope);
  ring.tell(Event::Kind::Rewrapped, key.set.set());
  return moved;
}

Sealed seal_padded(RingCore& ring, Suite suite, SecretBytes padded, bool is_padded, ContextView context) {
  if (suite == Suite::Token) return seal_in_token(ring, padded, is_padded, context);
  if (suite == Suite::Stream) return seal_as_stream(ring, padded, context);
  return seal_under_data_key(ring, std::move(padded), is_padded, context);
}

}  // namespace

namespace envelope {

Envelope header_for(const ConnectedSet& set, Suite suite, bool padded) {
  Envelope envelope;
  envelope.suite = suite;
  envelope.algorithm = set.set().key.profile.algorithm;
  envelope.padded = padded;
  std::ranges::copy(ByteView{set.ring().bytes}.first(envelope.ring_prefix.size()), envelope.ring_prefix.begin());
  envelope.version = set.set().version;
  return envelope;
}

WrappedKey wrap_data_key(RingCore& ring, const SecretBytes& data_key, Suite suite) {
  return with_active_set(ring, [&](const ConnectedSet& set) {
    Bytes wrapped = set.wrapper().wrap(data_key.view(), wrap_aad(set, suite));
    check_wrapped(set, wrapped, data_key.size());
    return WrappedKey{set, std::move(wrapped)};
  });
}

SecretBytes unwrap_data_key(const ConnectedSet& set, const Envelope& envelope) {
  check_fits(set, envelope);
  SecretBytes data_key = set.wrapper().unwrap(envelope.wrapped, wrap_aad(set, envelope.suite));
  if (data_key.size() != wire::kDataKeyBytes) throw OpenError();
  return data_key;
}

}  // namespace envelope

EnvelopeEncryptor::EnvelopeEncryptor(KeyRing ring, EnvelopeOptions options)
    : ring_(std::move(ring)), options_(options) {
  if (options_.deadline.count() <= 0) throw InvalidArgumentError("an encryptor's deadline must be above 0");
  if (options_.suite == Suite::Stream && options_.padding.bucket() != 0) {
    throw InvalidArgumentError("streams are not padded");
  }
}

Bytes EnvelopeEncryptor::seal(ByteView secret, ContextView context) const {
  const Deadline deadline{options_.deadline};
  RingCore& ring = *ring_.core_;
  const std::size_t bucket = options_.padding.bucket();
  if (secret.size() > kMaxSecretBytes || envelope::padded_size(secret.size(), bucket) > kMaxSecretBytes) {
    throw InvalidArgumentError(
        fmt::format("a secret has at most {} bytes, padding included, not {}", kMaxSecretBytes, secret.size()));
  }
  SecretBytes padded = envelope::padded(secret, bucket);
  Sealed sealed = seal_padded(ring, options_.suite, std::move(padded), bucket != 0, context);
  ring.tell(Event::Kind::Sealed, sealed.set.set());
  return std::move(sealed.bytes);
}

SecretBytes EnvelopeEncryptor::open(ByteView sealed, ContextView context) const {
  const Deadline deadline{options_.deadline};
  const Envelope envelope = wire::read(sealed);
  RingCore& ring = *ring_.core_;
  const ConnectedSet set = ring.named_by_envelope(envelope.ring_prefix, envelope.version);
  SecretBytes secret = telling_refusals(ring, set, [&] {
    SecretBytes opened = open_with(set, envelope, context);
    return envelope.padded ? without_padding(std::move(opened)) : std::move(opened);
  });
  ring.tell(Event::Kind::Opened, set.set());
  return secret;
}

Bytes EnvelopeEncryptor::rewrap(ByteView sealed) const {
  const Deadline deadline{options_.deadline};
  const Envelope envelope = wire::read(sealed);
  if (envelope.suite == Suite::Token) {
    static_cast<void>(ring_.core_->named_by_envelope(envelope.ring_prefix, envelope.version));
    throw InvalidArgumentError(
        "an envelope sealed in the token has no data key to rewrap; use reseal() with its context");
  }
  return rewrapped(*ring_.core_, envelope, std::nullopt);
}

Bytes EnvelopeEncryptor::rewrap(ByteView sealed, ContextView context) const {
  const Deadline deadline{options_.deadline};
  const Envelope envelope = wire::read(sealed);
  if (envelope.suite == Suite::Token) return reseal(sealed, context);
  return rewrapped(*ring_.core_, envelope, context);
}

Bytes EnvelopeEncryptor::reseal(ByteView sealed, ContextView context) const {
  const Deadline deadline{options_.deadline};
  return seal(open(sealed, context).view(), context);
}

bool EnvelopeEncryptor::needs_rewrap(ByteView sealed) const {
  const Envelope envelope = wire::read(sealed);
  const ConnectedSet active = ring_.core_->active();
  ring::check_ring_prefix(active.ring(), envelope.ring_prefix);
  return envelope.version != active.set().version;
}

std::string EnvelopeEncryptor::seal_text(std::string_view secret, ContextView context) const {
  return envelope::to_text(seal(bytes_of(secret), context));
}

SecretBytes EnvelopeEncryptor::open_text(std::string_view sealed, ContextView context) const {
  return open(envelope::from_text(sealed), context);
}

std::string EnvelopeEncryptor::rewrap_text(std::string_view sealed) const {
  return envelope::to_text(rewrap(envelope::from_text(sealed)));
}

std::string EnvelopeEncryptor::reseal_text(std::string_view sealed, ContextView context) const {
  return envelope::to_text(reseal(envelope::from_text(sealed), context));
}

bool EnvelopeEncryptor::needs_rewrap_text(std::string_view sealed) const {
  return needs_rewrap(envelope::from_text(sealed));
}

}  // namespace hsmseal
