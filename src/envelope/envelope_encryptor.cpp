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
#include "envelope/batch.hpp"
#include "envelope/data_keys.hpp"
#include "envelope/padding.hpp"
#include "envelope/payload.hpp"
#include "envelope/stream_key.hpp"
#include "envelope/text_form.hpp"
#include "envelope/wire.hpp"
#include "envelope/wrapped_key.hpp"
#include "ring/ring_core.hpp"

namespace hsmseal {
namespace {

using envelope::check_fits;
using envelope::header_for;
using envelope::Opening;
using envelope::PayloadKey;
using envelope::segment_aad;
using envelope::SegmentCipher;
using envelope::StreamKey;
using envelope::telling_refusals;
using envelope::unwrap_data_key;
using envelope::Workbench;
using envelope::wrap_data_key;
using envelope::WrappedKey;
using ring::ConnectedSet;
using ring::RingCore;
using wire::Envelope;

constexpr std::size_t kMaxTokenAadBytes = std::size_t{64} << 10;
constexpr std::size_t kMostOpenedDataKeys = std::size_t{1} << 20;

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

void tell(const RingCore& ring, Event::Kind kind, const ConnectedSet& set) {
  ring.tell(kind, set.ring(), set.set().version, set.set().key.token);
}

struct Sealed {
  ConnectedSet set;
  Bytes bytes;
};

Sealed seal_under_data_key(RingCore& ring, Workbench::Secret secret, ContextView context) {
  const SecretBytes data_key = crypto::random_secret(wire::kDataKeyBytes);
  const WrappedKey wrapped = wrap_data_key(ring, data_key, Suite::DataKey);
  const PayloadKey key{data_key, Suite::DataKey, wrapped.set.ring()};
  Envelope envelope = header_for(wrapped.set, Suite::DataKey, secret.padded_size != secret.bytes.size());
  envelope.wrapped = wrapped.wrapped;
  envelope.commitment = key.view().commitment();
  return {wrapped.set, seal_once(key.view(), envelope, wrapped.set.ring(), secret, context)};
}

Sealed seal_as_stream(RingCore& ring, ByteView secret, ContextView context) {
  const SecretBytes data_key = crypto::random_secret(wire::kDataKeyBytes);
  const WrappedKey wrapped = wrap_data_key(ring, data_key, Suite::Stream);
  const auto nonce = crypto::random_array<wire::kNonceBytes>();
  const StreamKey key{data_key, wrapped.set.ring(), nonce};
  Envelope envelope = header_for(wrapped.set, Suite::Stream, false);
  envelope.wrapped = wrapped.wrapped;
  envelope.commitment = key.commitment();
  envelope.nonce = nonce;
  const Bytes payload = seal_segments(SegmentCipher{key, segment_aad(wrapped.set.ring(), context)}, secret);
  envelope.payload = payload;
  return {wrapped.set, wire::write(envelope)};
}

Sealed seal_in_token(RingCore& ring, const SecretBytes& padded_secret, bool padded, ContextView context) {
  return envelope::with_active_set(ring, [&](const ConnectedSet& set) {
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
    Envelope header = header_for(set, Suite::Token, padded);
    const Bytes sealed = set.wrapper().wrap(padded_secret.view(), token_aad(set, header, context));
    envelope::check_wrapped(set, sealed, padded_secret.size());
    const std::size_t iv_size = core::iv_bytes(profile);
    header.wrapped = ByteView{sealed}.first(iv_size);
    header.payload = ByteView{sealed}.subspan(iv_size);
    return Sealed{set, wire::write(header)};
  });
}

SecretBytes open_in_token(const ConnectedSet& set, const Envelope& envelope, ContextView context) {
  check_fits(set, envelope);
  if (envelope.payload.size() > set.set().key.profile.max_plaintext + wire::kTagBytes) throw OpenError();
  Bytes sealed(envelope.wrapped.begin(), envelope.wrapped.end());
  sealed.insert(sealed.end(), envelope.payload.begin(), envelope.payload.end());
  SecretBytes secret = set.wrapper().unwrap(sealed, token_aad(set, envelope, context));
  return envelope.padded ? envelope::without_padding(std::move(secret)) : std::move(secret);
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
  key.view().check_commitment(envelope);
  return context ? Opening{key.view()}.open(envelope, ring, *context) : SecretBytes{};
}

SecretBytes open_with(const ConnectedSet& set, const Envelope& envelope, ContextView context) {
  if (envelope.suite == Suite::Token) return open_in_token(set, envelope, context);
  return open_payload(unwrap_data_key(set, envelope), set.ring(), envelope, context);
}

/// Moves the data key to the active set.
/// @param context  if given, the payload must open in it.
Bytes rewrapped(RingCore& ring, Envelope envelope, const std::optional<ContextView>& context) {
  const ConnectedSet old_set = ring.named_by_envelope(envelope.ring_prefix, envelope.version);
  const SecretBytes data_key = telling_refusals(ring, old_set, [&] {
    SecretBytes unwrapped = unwrap_data_key(old_set, envelope);
    static_cast<void>(open_payload(unwrapped, old_set.ring(), envelope, context));
    return unwrapped;
  });
  const WrappedKey key = wrap_data_key(ring, data_key, envelope.suite);
  envelope.algorithm = key.set.set().key.profile.algorithm;
  envelope.version = key.set.set().version;
  envelope.wrapped = key.wrapped;
  Bytes moved = wire::write(envelope);
  tell(ring, Event::Kind::Rewrapped, key.set);
  return moved;
}

Sealed seal_by(RingCore& ring, const EnvelopeOptions& options, Workbench::Secret secret, ContextView context) {
  switch (options.suite) {
    case Suite::Token: {
      const std::size_t bucket = options.padding.bucket();
      return seal_in_token(ring, envelope::padded(secret.bytes, bucket), bucket != 0, context);
    }
    case Suite::Stream:
      return seal_as_stream(ring, secret.bytes, context);
    case Suite::DataKey:
      break;
  }
  return seal_under_data_key(ring, secret, context);
}

}  // namespace

EnvelopeEncryptor::EnvelopeEncryptor(KeyRing ring, EnvelopeOptions options)
    : ring_(std::move(ring)), options_(options) {
  if (options_.deadline.count() <= 0) throw InvalidArgumentError("an encryptor's deadline must be above 0");
  if (options_.suite == Suite::Stream && options_.padding.bucket() != 0) {
    throw InvalidArgumentError("streams are not padded");
  }
  if (!options_.data_keys.reuses()) return;
  if (options_.suite == Suite::Token) {
    throw InvalidArgumentError("Suite::Token seals without data keys, so there are none to reuse");
  }
  if (options_.suite == Suite::Stream) {
    throw InvalidArgumentError("each stream has a data key of its own, which is not reused");
  }
  if (options_.opened_data_keys > kMostOpenedDataKeys) {
    throw InvalidArgumentError(fmt::format("an encryptor keeps at most {} opened data keys, not {}",
                                           kMostOpenedDataKeys, options_.opened_data_keys));
  }
  data_keys_ = std::make_shared<envelope::DataKeys>(ring_.core_, options_);
  ring_.core_->add_follower(data_keys_);
}

Bytes EnvelopeEncryptor::seal(ByteView secret, ContextView context) const {
  const std::size_t bucket = options_.padding.bucket();
  const Workbench::Secret padded{secret, envelope::padded_size(secret.size(), bucket)};
  if (secret.size() > kMaxSecretBytes || padded.padded_size > kMaxSecretBytes) {
    throw InvalidArgumentError(
        fmt::format("a secret has at most {} bytes, padding included, not {}", kMaxSecretBytes, secret.size()));
  }
  if (data_keys_) return data_keys_->seal(secret, context);
  const Deadline deadline{options_.deadline};
  RingCore& ring = *ring_.core_;
  Sealed sealed = seal_by(ring, options_, padded, context);
  tell(ring, Event::Kind::Sealed, sealed.set);
  return std::move(sealed.bytes);
}

SecretBytes EnvelopeEncryptor::open(ByteView sealed, ContextView context) const {
  const Envelope envelope = wire::read(sealed);
  if (data_keys_ && envelope.suite == Suite::DataKey) return data_keys_->open(sealed, envelope, context);
  const Deadline deadline{options_.deadline};
  RingCore& ring = *ring_.core_;
  const ConnectedSet set = ring.named_by_envelope(envelope.ring_prefix, envelope.version);
  SecretBytes secret = telling_refusals(ring, set, [&] { return open_with(set, envelope, context); });
  tell(ring, Event::Kind::Opened, set);
  return secret;
}

std::vector<SealResult> EnvelopeEncryptor::seal_many(std::span<const SealItem> items) const {
  const Deadline deadline{options_.deadline};
  std::vector<SealResult> results(items.size(), SealResult{Bytes{}});
  const std::size_t threads = data_keys_ ? 1 : envelope::concurrency_of_active(*ring_.core_);
  envelope::in_parallel(items.size(), threads, [&](std::size_t i) {
    results[i] = envelope::result_of<SealResult>([&] { return seal(items[i].secret, items[i].context); });
  });
  return results;
}

std::vector<OpenResult> EnvelopeEncryptor::open_many(std::span<const OpenItem> items) const {
  const Deadline deadline{options_.deadline};
  return envelope::open_many(*ring_.core_, data_keys_.get(), items,
                             [&](const OpenItem& item) { return open(item.sealed, item.context); });
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
