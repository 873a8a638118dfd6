// What becomes of envelopes that somebody altered: they are refused, with the errors that the format allows.
#include <array>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>

#include "envelope/wire.hpp"
#include "helpers.hpp"
#include "software_ring.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::SoftwareRing;
using test::with_flipped_bit;

namespace {

struct Kind {
  const char* name;
  SetSpec spec;
  EnvelopeOptions options;
  std::size_t around;  ///< bytes over the plaintext
  std::size_t size;    ///< of an envelope of 32 bytes
};

const SetSpec kGcm{.token = "t"}, kCbc{.token = "t", .algorithm = WrapAlgorithm::Aes256CbcHmac};
const SetSpec kLongIv{.token = "t", .gcm = GcmForm{IvRule::TokenAppends, 16}};

const std::array<Kind, 8> kKinds{{
    {"data key", kGcm, {Suite::DataKey, Padding::none()}, 138, 170},
    {"data key, padded", kGcm, {Suite::DataKey, Padding::to_multiple_of(64)}, 138, 202},
    {"token", kGcm, {Suite::Token, Padding::none()}, 46, 78},
    {"token, padded", kGcm, {Suite::Token, Padding::to_multiple_of(64)}, 46, 110},
    {"data key, CBC and HMAC", kCbc, {Suite::DataKey, Padding::none()}, 158, 190},
    {"data key, CBC and HMAC, padded", kCbc, {Suite::DataKey, Padding::to_multiple_of(64)}, 158, 222},
    {"data key, IV of 16", kLongIv, {Suite::DataKey, Padding::none()}, 142, 174},
    {"token, IV of 16", kLongIv, {Suite::Token, Padding::none()}, 50, 82},
}};

const std::string kSecret = "32 bytes of something very secret";

/// Which error each of many altered envelopes was refused with.
class Tally {
 public:
  /// @param width  of the field `wrapped`, as the ring's sets make it.
  Tally(const SoftwareRing& ring, EnvelopeEncryptor encryptor, ContextView context, std::size_t width)
      : ring_(ring), encryptor_(std::move(encryptor)), context_(context), width_(width) {}

  /// Any exception but those of hsmseal fails the test.
  void open(ByteView altered) {
    ++tried_;
    const int asked_before = ring_.provider->unwraps();
    try {
      (void)encryptor_.open(altered, context_);
      ++accepted_;
    } catch (const Error& error) {
      ++refused_[error.code()];
      const bool asked = ring_.provider->unwraps() != asked_before;
      if (asked != (error.code() == ErrorCode::Open && wire::read(altered).wrapped.size() == width_)) ++asked_wrongly_;
    }
  }

  [[nodiscard]] std::size_t tried() const { return tried_; }
  [[nodiscard]] std::size_t accepted() const { return accepted_; }
  /// Header errors for which the token was asked, and open errors for which it was not; or was, though no set of the ring
  /// wraps to that size.
  [[nodiscard]] std::size_t asked_wrongly() const { return asked_wrongly_; }
  [[nodiscard]] std::size_t count(ErrorCode code) const { return refused_.contains(code) ? refused_.at(code) : 0; }

  /// Whether each was refused with an error that altered bytes may give.
  [[nodiscard]] bool all_refused_as_allowed() const {
    return accepted_ == 0 && tried_ == count(ErrorCode::Format) + count(ErrorCode::WrongRing) +
                                           count(ErrorCode::UnknownVersion) + count(ErrorCode::RingOutOfDate) +
                                           count(ErrorCode::Open);
  }

  void add(const Tally& other) {
    tried_ += other.tried_;
    accepted_ += other.accepted_;
    asked_wrongly_ += other.asked_wrongly_;
    for (const auto& [code, number] : other.refused_) refused_[code] += number;
  }

  [[nodiscard]] std::string text() const {
    return fmt::format("{} tried: {} format, {} wrong ring, {} unknown version, {} out of date, {} open; {} accepted",
                       tried_, count(ErrorCode::Format), count(ErrorCode::WrongRing), count(ErrorCode::UnknownVersion),
                       count(ErrorCode::RingOutOfDate), count(ErrorCode::Open), accepted_);
  }

 private:
  const SoftwareRing& ring_;
  EnvelopeEncryptor encryptor_;
  ContextView context_;
  std::size_t width_;
  std::size_t tried_ = 0, accepted_ = 0, asked_wrongly_ = 0;
  std::map<ErrorCode, std::size_t> refused_;
};

Bytes without_byte(Bytes bytes, std::size_t at) {
  bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at));
  return bytes;
}

Bytes with_byte_twice(Bytes bytes, std::size_t at) {
  const std::byte twice = bytes.at(at);
  bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), twice);
  return bytes;
}

/// Versions 1 (archived) and 3 (active) of a ring, and a gap between them, so that every kind of wrong version is met.
struct RingWithGap : SoftwareRing {
  explicit RingWithGap(const SetSpec& of_all) : SoftwareRing{.spec = of_all} {
    skip_version();
    REQUIRE(add_set() == 3);
  }
};

/// The envelopes that swaps are made between.
struct Pair {
  Bytes one, two;
};

/// Parts of an envelope, by their names in src/FORMAT.md.
using Field = ByteView wire::Envelope::*;

/// `to` with one field of `from`.
Bytes with_field(ByteView to, ByteView from, Field field) {
  wire::Envelope envelope = wire::read(to);
  const wire::Envelope other = wire::read(from);
  REQUIRE(envelope.suite == other.suite);
  REQUIRE((envelope.*field).size() == (other.*field).size());
  if (test::hex(envelope.*field) == test::hex(other.*field)) FAIL("the envelopes have this field in common");
  envelope.*field = other.*field;
  return wire::write(envelope);
}

Bytes with_version(ByteView to, ByteView from) {
  wire::Envelope envelope = wire::read(to);
  REQUIRE(envelope.version != wire::read(from).version);
  envelope.version = wire::read(from).version;
  return wire::write(envelope);
}

Bytes with_ring(ByteView to, ByteView from) {
  wire::Envelope envelope = wire::read(to);
  REQUIRE(envelope.ring_prefix != wire::read(from).ring_prefix);
  envelope.ring_prefix = wire::read(from).ring_prefix;
  return wire::write(envelope);
}

/// The fields that an envelope of a suite has.
std::vector<Field> fields_of(Suite suite) {
  if (suite == Suite::Token) return {&wire::Envelope::wrapped, &wire::Envelope::payload};
  return {&wire::Envelope::wrapped, &wire::Envelope::commitment, &wire::Envelope::nonce, &wire::Envelope::payload};
}

void check_refused(const EnvelopeEncryptor& encryptor, ByteView sealed, ContextView context, ErrorCode expected) {
  try {
    (void)encryptor.open(sealed, context);
    FAIL_CHECK("accepted");
  } catch (const Error& error) {
    CHECK(error.code() == expected);
  }
}

}  // namespace

TEST_CASE("every altered envelope is refused, and with the right error") {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    RingWithGap ring{kind.spec};
    const Context context = Context{}.add("record", "42");
    const EnvelopeEncryptor encryptor = ring.encryptor(kind.options);
    const Bytes sealed = encryptor.seal(bytes_of(kSecret).first(32), context);
    REQUIRE(sealed.size() == kind.size);
    REQUIRE(encryptor.open(sealed, context).text() == kSecret.substr(0, 32));
    const ByteView whole{sealed};
    const auto tally = [&] { return Tally{ring, encryptor, context, wire::read(sealed).wrapped.size()}; };

    Tally prefixes = tally();
    for (std::size_t size = 0; size < sealed.size(); ++size) prefixes.open(whole.first(size));
    CHECK(prefixes.tried() == kind.size);
    CHECK(prefixes.count(ErrorCode::Format) == kind.around);
    CHECK(prefixes.count(ErrorCode::Open) == kind.size - kind.around);

    // Of the 144 bits of the header all but one of the flags, the ring's and the version's make it another format. Of
    // version 3, two bits lead to the gap and to version 1, all others to versions that are still to come.
    // One bit makes an envelope that is not padded look like a stream, whose data key would be wrapped as another's.
    const std::size_t like_a_stream = kind.options.suite == Suite::DataKey && !inspect(sealed).padded ? 1 : 0;
    Tally flips = tally();
    for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) flips.open(with_flipped_bit(whole, bit));
    CHECK(flips.tried() == 8 * kind.size);
    CHECK(flips.count(ErrorCode::Format) == 32 + 8 + 8 + 7 + 8 + 16 - like_a_stream);
    CHECK(flips.count(ErrorCode::WrongRing) == 32);
    CHECK(flips.count(ErrorCode::UnknownVersion) == 1);
    CHECK(flips.count(ErrorCode::RingOutOfDate) == 30);
    CHECK(flips.count(ErrorCode::Open) == 1 + 1 + like_a_stream + (kind.size - 18) * 8);

    Tally removed = tally(), doubled = tally(), appended = tally();
    for (std::size_t at = 0; at < sealed.size(); ++at) removed.open(without_byte(sealed, at));
    for (std::size_t at = 0; at < sealed.size(); ++at) doubled.open(with_byte_twice(sealed, at));
    for (int value = 0; value < 256; ++value) {
      Bytes longer = sealed;
      longer.push_back(static_cast<std::byte>(value));
      appended.open(longer);
    }
    CHECK(removed.tried() == kind.size);
    CHECK(doubled.tried() == kind.size);
    CHECK(appended.tried() == 256);
    CHECK(appended.count(ErrorCode::Open) == 256);

    Tally all = tally();
    for (const Tally* part : {&prefixes, &flips, &removed, &doubled, &appended}) {
      CHECK(part->all_refused_as_allowed());
      CHECK(part->asked_wrongly() == 0);
      all.add(*part);
    }
    REQUIRE(all.tried() == (1 + 8 + 1 + 1) * kind.size + 256);
    CHECK(all.accepted() == 0);
    CHECK(ring.events->count(Event::Kind::Opened) == 1);
    CHECK(ring.events->count(Event::Kind::OpenRefused) == static_cast<int>(all.count(ErrorCode::Open)));
    CHECK(encryptor.open(sealed, context).text() == kSecret.substr(0, 32));
    std::printf("altered envelopes (%s, %zu bytes): %s\n", kind.name, kind.size, all.text().c_str());
  }
}

TEST_CASE("every altered text of an envelope is a FormatError or an altered envelope") {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    RingWithGap ring{kind.spec};
    const EnvelopeEncryptor encryptor = ring.encryptor(kind.options);
    const std::string sealed = encryptor.seal_text(kSecret.substr(0, 32), kNoContext);
    std::size_t tried = 0;
    std::map<ErrorCode, std::size_t> refused;
    const auto open = [&](const std::string& altered) {
      ++tried;
      try {
        (void)encryptor.open_text(altered, kNoContext);
        FAIL_CHECK("accepted: " << altered);
      } catch (const Error& error) {
        ++refused[error.code()];
      }
    };
    for (std::size_t size = 0; size < sealed.size(); ++size) open(sealed.substr(0, size));
    for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
      std::string altered = sealed;
      altered[bit / 8] = static_cast<char>(altered[bit / 8] ^ (1 << bit % 8));
      open(altered);
    }
    REQUIRE(tried == 9 * sealed.size());
    CHECK(refused[ErrorCode::Format] > sealed.size());
    CHECK(refused[ErrorCode::Format] + refused[ErrorCode::WrongRing] + refused[ErrorCode::UnknownVersion] +
              refused[ErrorCode::RingOutOfDate] + refused[ErrorCode::Open] ==
          tried);
  }
}

TEST_CASE("fields swapped between two envelopes of one credential set are refused") {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    SoftwareRing ring{.spec = kind.spec};
    const EnvelopeEncryptor encryptor = ring.encryptor(kind.options);
    const Context context = Context{}.add("record", "42");
    const Pair pair{encryptor.seal(bytes_of(kSecret), context), encryptor.seal(bytes_of(kSecret), context)};
    std::size_t swaps = 0;
    for (const Field field : fields_of(kind.options.suite)) {
      check_refused(encryptor, with_field(pair.one, pair.two, field), context, ErrorCode::Open);
      check_refused(encryptor, with_field(pair.two, pair.one, field), context, ErrorCode::Open);
      ++swaps;
      for (const Field other : fields_of(kind.options.suite)) {
        if (other == field || kind.options.suite == Suite::Token) continue;
        const Bytes both = with_field(with_field(pair.one, pair.two, field), pair.two, other);
        check_refused(encryptor, both, context, ErrorCode::Open);
        ++swaps;
      }
    }
    CHECK(swaps == (kind.options.suite == Suite::Token ? 2 : 4 + 12));
  }
}

TEST_CASE("fields swapped between envelopes of two credential sets are refused") {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    SoftwareRing ring{.spec = kind.spec};
    const EnvelopeEncryptor encryptor = ring.encryptor(kind.options);
    const Bytes old = encryptor.seal(bytes_of(kSecret), kNoContext);
    REQUIRE(ring.add_set() == 2);
    const Bytes recent = encryptor.seal(bytes_of(kSecret), kNoContext);
    for (const auto& [to, from] : {std::pair{old, recent}, std::pair{recent, old}}) {
      for (const Field field : fields_of(kind.options.suite)) {
        check_refused(encryptor, with_field(to, from, field), kNoContext, ErrorCode::Open);
      }
      check_refused(encryptor, with_version(to, from), kNoContext, ErrorCode::Open);
      // The whole header of the other envelope: its data key does not fit the commitment.
      const Bytes moved = with_version(with_field(to, from, &wire::Envelope::wrapped), from);
      check_refused(encryptor, moved, kNoContext, ErrorCode::Open);
    }
    CHECK(encryptor.open(old, kNoContext).text() == kSecret);
    CHECK(encryptor.open(recent, kNoContext).text() == kSecret);
  }
}

TEST_CASE("fields swapped between envelopes of two rings are refused") {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    SoftwareRing ring{.spec = kind.spec}, other_ring{.spec = kind.spec};
    const EnvelopeEncryptor encryptor = ring.encryptor(kind.options), other = other_ring.encryptor(kind.options);
    const Bytes ours = encryptor.seal(bytes_of(kSecret), kNoContext);
    const Bytes theirs = other.seal(bytes_of(kSecret), kNoContext);
    check_refused(encryptor, theirs, kNoContext, ErrorCode::WrongRing);
    check_refused(other, ours, kNoContext, ErrorCode::WrongRing);
    check_refused(encryptor, with_ring(ours, theirs), kNoContext, ErrorCode::WrongRing);
    check_refused(encryptor, with_ring(theirs, ours), kNoContext, ErrorCode::Open);
    check_refused(other, with_ring(ours, theirs), kNoContext, ErrorCode::Open);
    for (const Field field : fields_of(kind.options.suite)) {
      check_refused(encryptor, with_field(ours, theirs, field), kNoContext, ErrorCode::Open);
      check_refused(encryptor, with_field(theirs, ours, field), kNoContext, ErrorCode::WrongRing);
      check_refused(other, with_field(theirs, ours, field), kNoContext, ErrorCode::Open);
    }
  }
}

TEST_CASE("fields swapped between rings that share a key are refused") {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    SoftwareRing ring{.spec = kind.spec}, other_ring{.spec = kind.spec};
    const KeyDescription key = ring.ring.active().key, other_key = other_ring.ring.active().key;
    other_ring.provider->put_key(other_key.key_id, ring.provider->key(key.key_id).view());
    if (!key.mac_key_id.empty()) {
      other_ring.provider->put_key(other_key.mac_key_id, ring.provider->key(key.mac_key_id).view());
    }
    const EnvelopeEncryptor encryptor = ring.encryptor(kind.options), other = other_ring.encryptor(kind.options);
    const Bytes ours = encryptor.seal(bytes_of(kSecret), kNoContext);
    const Bytes theirs = other.seal(bytes_of(kSecret), kNoContext);
    check_refused(encryptor, with_ring(theirs, ours), kNoContext, ErrorCode::Open);
    check_refused(encryptor, with_field(ours, theirs, &wire::Envelope::wrapped), kNoContext, ErrorCode::Open);
    check_refused(encryptor, with_field(ours, theirs, &wire::Envelope::payload), kNoContext, ErrorCode::Open);
  }
}

TEST_CASE("an envelope of one suite does not open as one of the other") {
  SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor();
  const Bytes by_host = encryptor.seal(bytes_of(kSecret), kNoContext);
  const Bytes by_token = ring.in_token().seal(bytes_of(kSecret), kNoContext);
  // What the token wrapped, in a header that says that the token sealed it.
  const wire::Envelope data_key = wire::read(by_host);
  wire::Envelope disguised = data_key;
  disguised.suite = Suite::Token;
  disguised.wrapped = data_key.wrapped.first(12);
  disguised.commitment = disguised.nonce = {};
  disguised.payload = data_key.wrapped.subspan(12);
  check_refused(encryptor, wire::write(disguised), kNoContext, ErrorCode::Open);
  CHECK(encryptor.open(by_host, kNoContext).text() == kSecret);
  CHECK(encryptor.open(by_token, kNoContext).text() == kSecret);
}

TEST_CASE("a rewrapped envelope is the same from its commitment on, and its header is bound to the new set") {
  for (const Padding padding : {Padding::none(), Padding::to_multiple_of(64)}) {
    SoftwareRing ring;
    const EnvelopeEncryptor encryptor = ring.encryptor({.padding = padding});
    const Bytes sealed = encryptor.seal(bytes_of(kSecret), kNoContext);
    REQUIRE(ring.add_set() == 2);
    const Bytes moved = encryptor.rewrap(sealed);
    constexpr std::size_t kCommitmentAt = 78;
    REQUIRE(moved.size() == sealed.size());
    CHECK(test::hex(ByteView{moved}.subspan(kCommitmentAt)) == test::hex(ByteView{sealed}.subspan(kCommitmentAt)));
    CHECK(test::hex(ByteView{moved}.first(12)) == test::hex(ByteView{sealed}.first(12)));
    CHECK(test::hex(wire::read(moved).wrapped) != test::hex(wire::read(sealed).wrapped));
    CHECK(wire::read(moved).version == 2);
    CHECK(encryptor.open(moved, kNoContext).text() == kSecret);
    CHECK(encryptor.open(sealed, kNoContext).text() == kSecret);
    check_refused(encryptor, with_version(moved, sealed), kNoContext, ErrorCode::Open);
    check_refused(encryptor, with_field(moved, sealed, &wire::Envelope::wrapped), kNoContext, ErrorCode::Open);
  }
}
