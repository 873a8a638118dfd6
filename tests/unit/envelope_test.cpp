#include <hsmseal/envelope.hpp>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include <hsmseal/error.hpp>

#include "envelope/wire.hpp"
#include "helpers.hpp"
#include "software_ring.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::contains;
using test::hex;
using test::message_of;
using test::SoftwareRing;

namespace {

const std::string kSecret = "hunter2";
const Padding k64 = Padding::to_multiple_of(64);

Context record(const std::string& id) { return Context{}.add("record", id); }

/// What the secret of an envelope is, or the error's message.
std::string opened(const EnvelopeEncryptor& encryptor, ByteView sealed, ContextView context) {
  return std::string{encryptor.open(sealed, context).text()};
}

std::string open_error(const EnvelopeEncryptor& encryptor, ByteView sealed, ContextView context) {
  return message_of<OpenError>([&] { (void)encryptor.open(sealed, context); });
}

/// Addresses that end the process when they are read.
class ForbiddenMemory {
 public:
  explicit ForbiddenMemory(std::size_t size)
      : size_(size), address_(::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    REQUIRE(address_ != MAP_FAILED);
  }
  ForbiddenMemory(const ForbiddenMemory&) = delete;
  ForbiddenMemory& operator=(const ForbiddenMemory&) = delete;
  ~ForbiddenMemory() { ::munmap(address_, size_); }
  [[nodiscard]] ByteView view() const { return {static_cast<const std::byte*>(address_), size_}; }

 private:
  std::size_t size_;
  void* address_;
};

/// A provider that has its wrap results changed by a test.
class AlteringProvider final : public KeyProvider {
 public:
  std::function<void(Bytes&)> alter = [](Bytes&) {};

  KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
    return keys_.provision(spec, ring, version);
  }
  std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override {
    return std::make_shared<Wrapper>(*this, keys_.connect(key, version));
  }
  std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
    return keys_.find_keys(ring, token);
  }
  void destroy(const KeyDescription& key) override { keys_.destroy(key); }

 private:
  class Wrapper final : public KeyWrapper {
   public:
    Wrapper(AlteringProvider& provider, std::shared_ptr<KeyWrapper> inner)
        : provider_(provider), inner_(std::move(inner)) {}
    Bytes wrap(ByteView key, ByteView aad) override {
      Bytes wrapped = inner_->wrap(key, aad);
      provider_.alter(wrapped);
      return wrapped;
    }
    SecretBytes unwrap(ByteView wrapped, ByteView aad) override { return inner_->unwrap(wrapped, aad); }

   private:
    AlteringProvider& provider_;
    std::shared_ptr<KeyWrapper> inner_;
  };

  test::SoftwareProvider keys_;
};

}  // namespace

TEST_CASE("an envelope is 138 bytes longer than its secret, or 46 if the token sealed it") {
  const SoftwareRing ring;
  for (const std::size_t size : {0U, 1U, 32U, 1000U, 4096U}) {
    CHECK(ring.encryptor().seal(Bytes(size), kNoContext).size() == size + 138);
    CHECK(ring.in_token().seal(Bytes(size), kNoContext).size() == size + 46);
  }
}

TEST_CASE("secrets of all sizes come back") {
  const SoftwareRing ring;
  const Context context = record("42");
  for (const auto& encryptor :
       {ring.encryptor(), ring.encryptor({.padding = k64}), ring.in_token(), ring.in_token(k64)}) {
    for (const std::size_t size : {0U, 1U, 2U, 15U, 16U, 63U, 64U, 65U, 127U, 1000U, 4032U}) {
      const std::string secret(size, 's');
      CHECK(opened(encryptor, encryptor.seal(bytes_of(secret), context), context) == secret);
    }
  }
}

TEST_CASE("any encryptor of the ring opens what another sealed, however it seals itself") {
  const SoftwareRing ring;
  const std::vector<EnvelopeEncryptor> encryptors = {ring.encryptor(), ring.encryptor({.padding = k64}),
                                                     ring.in_token(), ring.in_token(k64)};
  for (const auto& sealer : encryptors) {
    const Bytes sealed = sealer.seal(bytes_of(kSecret), kNoContext);
    for (const auto& opener : encryptors) CHECK(opened(opener, sealed, kNoContext) == kSecret);
  }
}

TEST_CASE("the header of an envelope says what it is, and nothing of the secret") {
  const SoftwareRing ring;
  const Bytes sealed = ring.encryptor({.padding = k64}).seal(bytes_of(kSecret), record("42"));
  const EnvelopeHeader header = inspect(sealed);
  CHECK(header.suite == Suite::DataKey);
  CHECK(header.padded);
  CHECK(header.version == 1);
  CHECK(hex(header.ring_prefix) == ring.ring.id().to_string().substr(0, 8));
  CHECK(header.secret_bytes == 64);
  CHECK(is_sealed(sealed));
  CHECK_FALSE(contains(hex(sealed), hex(bytes_of(kSecret))));
  CHECK_FALSE(contains(hex(sealed), hex(bytes_of("42"))));
  CHECK(inspect(ring.in_token().seal(bytes_of(kSecret), kNoContext)).suite == Suite::Token);
  CHECK(inspect(ring.in_token().seal(bytes_of(kSecret), kNoContext)).secret_bytes == kSecret.size());
}

TEST_CASE("two envelopes of one secret share no random bytes") {
  const SoftwareRing ring;
  for (const auto& encryptor : {ring.encryptor(), ring.in_token()}) {
    std::set<std::string> ivs, wrapped, commitments, nonces, payloads;
    for (int i = 0; i < 100; ++i) {
      const Bytes sealed = encryptor.seal(bytes_of(kSecret), kNoContext);
      const wire::Envelope envelope = wire::read(sealed);
      ivs.insert(hex(envelope.wrapped.first(12)));
      wrapped.insert(hex(envelope.wrapped));
      commitments.insert(hex(envelope.commitment));
      nonces.insert(hex(envelope.nonce));
      payloads.insert(hex(envelope.payload));
    }
    const bool by_host = commitments.size() != 1;
    for (const auto* values : {&ivs, &wrapped, &payloads}) CHECK(values->size() == 100);
    CHECK(commitments.size() == (by_host ? 100U : 1U));
    CHECK(nonces.size() == (by_host ? 100U : 1U));
    CHECK(commitments.contains("") != by_host);
  }
}

TEST_CASE("a secret opens under its own context alone") {
  const SoftwareRing ring;
  for (const auto& encryptor : {ring.encryptor(), ring.in_token(k64)}) {
    const Bytes raw{std::byte{1}, std::byte{2}};
    const Bytes bound = encryptor.seal(bytes_of(kSecret), record("42"));
    const Bytes free = encryptor.seal(bytes_of(kSecret), kNoContext);
    const Bytes by_bytes = encryptor.seal(bytes_of(kSecret), ContextView::raw(raw));
    CHECK(opened(encryptor, bound, record("42")) == kSecret);
    CHECK(opened(encryptor, bound, ContextView::raw(record("42").encoded())) == kSecret);
    CHECK(opened(encryptor, free, kNoContext) == kSecret);
    CHECK(opened(encryptor, by_bytes, ContextView::raw(raw)) == kSecret);
    for (const ContextView other : {ContextView{kNoContext}, ContextView::raw(raw)}) {
      CHECK_THROWS_AS(encryptor.open(bound, other), OpenError);
    }
    CHECK_THROWS_AS(encryptor.open(bound, record("43")), OpenError);
    CHECK_THROWS_AS(encryptor.open(bound, record("42").add("field", "")), OpenError);
    CHECK_THROWS_AS(encryptor.open(free, record("42")), OpenError);
    CHECK_THROWS_AS(encryptor.open(by_bytes, ContextView::raw(ByteView{raw}.first(1))), OpenError);
  }
}

TEST_CASE("a context to which nothing was added seals nothing") {
  const SoftwareRing ring;
  const int wraps = ring.provider->wraps();
  CHECK_THROWS_AS(ring.encryptor().seal(bytes_of(kSecret), Context{}), InvalidArgumentError);
  CHECK(ring.provider->wraps() == wraps);
}

TEST_CASE("the text form is the same envelope") {
  SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor();
  const Context context = record("42");
  const std::string sealed = encryptor.seal_text(kSecret, context);
  CHECK(is_sealed_text(sealed));
  CHECK(sealed.starts_with("hse1."));
  CHECK(inspect_text(sealed).version == 1);
  CHECK(encryptor.open_text(sealed, context).text() == kSecret);
  CHECK_FALSE(encryptor.needs_rewrap_text(sealed));
  REQUIRE(ring.add_set() == 2);
  CHECK(encryptor.needs_rewrap_text(sealed));
  const std::string moved = encryptor.rewrap_text(sealed);
  const std::string anew = encryptor.reseal_text(sealed, context);
  for (const std::string& text : {moved, anew}) {
    CHECK(inspect_text(text).version == 2);
    CHECK(encryptor.open_text(text, context).text() == kSecret);
    CHECK_FALSE(encryptor.needs_rewrap_text(text));
  }
  CHECK_THROWS_AS(encryptor.open_text(sealed, record("43")), OpenError);
}

TEST_CASE("a text that is not an envelope is a FormatError everywhere") {
  const SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor();
  for (const std::string text : {"", "plain", "hse1.", "hse1.AAAA", "hse1.AAAA="}) {
    CHECK_THROWS_AS(encryptor.open_text(text, kNoContext), FormatError);
    CHECK_THROWS_AS(encryptor.rewrap_text(text), FormatError);
    CHECK_THROWS_AS(encryptor.reseal_text(text, kNoContext), FormatError);
    CHECK_THROWS_AS(encryptor.needs_rewrap_text(text), FormatError);
  }
}

TEST_CASE("an envelope of an older set needs to be rewrapped") {
  SoftwareRing ring, other_ring;
  const EnvelopeEncryptor encryptor = ring.encryptor();
  const Bytes by_host = encryptor.seal(bytes_of(kSecret), kNoContext);
  const Bytes by_token = ring.in_token().seal(bytes_of(kSecret), kNoContext);
  CHECK_FALSE(encryptor.needs_rewrap(by_host));
  CHECK_FALSE(encryptor.needs_rewrap(by_token));
  REQUIRE(ring.add_set() == 2);
  const int unwraps = ring.provider->unwraps();
  CHECK(encryptor.needs_rewrap(by_host));
  CHECK(encryptor.needs_rewrap(by_token));
  CHECK(ring.provider->unwraps() == unwraps);
  CHECK_FALSE(encryptor.needs_rewrap(encryptor.rewrap(by_host)));
  CHECK_THROWS_AS(encryptor.needs_rewrap(bytes_of("plain")), FormatError);
  CHECK_THROWS_AS(encryptor.needs_rewrap(other_ring.encryptor().seal({}, kNoContext)), WrongRingError);
}

TEST_CASE("rewrap moves the data key to the active set and leaves the payload as it is") {
  SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor({.padding = k64});
  const Context context = record("42");
  const Bytes sealed = encryptor.seal(bytes_of(kSecret), context);
  REQUIRE(ring.add_set() == 2);
  const int wraps = ring.provider->wraps(), unwraps = ring.provider->unwraps();
  const Bytes moved = encryptor.rewrap(sealed);
  CHECK(ring.provider->wraps() == wraps + 1);
  CHECK(ring.provider->unwraps() == unwraps + 1);
  CHECK(inspect(moved).version == 2);
  CHECK(inspect(moved).padded);
  CHECK(hex(wire::read(moved).payload) == hex(wire::read(sealed).payload));
  ring.provider->remove_key(ring.ring.find(1)->key.key_id);
  CHECK(opened(encryptor, moved, context) == kSecret);
  CHECK_THROWS_AS(encryptor.open(sealed, context), KeyNotFoundError);
}

TEST_CASE("an envelope of the active set can be rewrapped too") {
  const SoftwareRing ring;
  const Bytes sealed = ring.encryptor().seal(bytes_of(kSecret), kNoContext);
  const Bytes moved = ring.encryptor().rewrap(sealed);
  CHECK(moved != sealed);
  CHECK(opened(ring.encryptor(), moved, kNoContext) == kSecret);
}

TEST_CASE("rewrap refuses an envelope whose commitment is wrong") {
  SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor();
  const Bytes sealed = encryptor.seal(bytes_of(kSecret), kNoContext);
  REQUIRE(ring.add_set() == 2);
  const int wraps = ring.provider->wraps();
  for (std::size_t bit = 78 * 8; bit < 110 * 8; ++bit) {
    CHECK_THROWS_AS(encryptor.rewrap(test::with_flipped_bit(sealed, bit)), OpenError);
  }
  CHECK(ring.provider->wraps() == wraps);
  CHECK(ring.events->count(Event::Kind::OpenRefused) == 256);
  CHECK(ring.events->count(Event::Kind::Rewrapped) == 0);
}

TEST_CASE("what the token sealed cannot be rewrapped, and the message says what to do") {
  SoftwareRing ring;
  const Bytes sealed = ring.in_token().seal(bytes_of(kSecret), kNoContext);
  REQUIRE(ring.add_set() == 2);
  const int unwraps = ring.provider->unwraps();
  for (const auto& encryptor : {ring.encryptor(), ring.in_token()}) {
    CHECK(contains(message_of<InvalidArgumentError>([&] { (void)encryptor.rewrap(sealed); }), "reseal()"));
  }
  CHECK(ring.provider->unwraps() == unwraps);
}

TEST_CASE("reseal makes a new envelope under the active set, with the encryptor's own options") {
  SoftwareRing ring;
  const Context context = record("42");
  const Bytes by_host = ring.encryptor().seal(bytes_of(kSecret), context);
  const Bytes by_token = ring.in_token().seal(bytes_of(kSecret), context);
  REQUIRE(ring.add_set() == 2);
  for (const Bytes& sealed : {by_host, by_token}) {
    for (const EnvelopeOptions options : {EnvelopeOptions{Suite::DataKey, k64}, EnvelopeOptions{Suite::Token, k64}}) {
      const EnvelopeEncryptor encryptor = ring.encryptor(options);
      const Bytes anew = encryptor.reseal(sealed, context);
      CHECK(inspect(anew).version == 2);
      CHECK(inspect(anew).suite == options.suite);
      CHECK(inspect(anew).padded);
      CHECK(opened(encryptor, anew, context) == kSecret);
      CHECK_THROWS_AS(encryptor.reseal(sealed, record("43")), OpenError);
    }
  }
  const Bytes anew = ring.encryptor().reseal(by_host, context);
  CHECK(hex(wire::read(anew).commitment) != hex(wire::read(by_host).commitment));
}

TEST_CASE("a secret above the ceiling is not sealed in the token") {
  const SoftwareRing ring;
  const std::size_t ceiling = ring.ring.active().key.profile.max_plaintext;
  REQUIRE(ceiling == 4096);
  const int wraps = ring.provider->wraps();
  CHECK(contains(message_of<InvalidArgumentError>([&] { (void)ring.in_token().seal(Bytes(ceiling + 1), kNoContext); }),
                 "Suite::DataKey"));
  CHECK_THROWS_AS(ring.in_token(k64).seal(Bytes(ceiling), kNoContext), InvalidArgumentError);
  CHECK(ring.provider->wraps() == wraps);
  CHECK(opened(ring.in_token(), ring.in_token().seal(Bytes(ceiling), kNoContext), kNoContext).size() == ceiling);
  CHECK(opened(ring.in_token(), ring.in_token(k64).seal(Bytes(ceiling - 1), kNoContext), kNoContext).size() ==
        ceiling - 1);
  CHECK(ring.encryptor().seal(Bytes(ceiling + 1), kNoContext).size() == ceiling + 1 + 138);
}

TEST_CASE("a context too long for a token is refused before the token is asked") {
  const SoftwareRing ring;
  // 62 bytes of the associated data are not the context's.
  const Bytes longest((64 << 10) - 62, std::byte{'c'}), longer((64 << 10) - 61, std::byte{'c'});
  const Bytes sealed = ring.in_token().seal(bytes_of(kSecret), ContextView::raw(longest));
  CHECK(opened(ring.in_token(), sealed, ContextView::raw(longest)) == kSecret);
  const int wraps = ring.provider->wraps(), unwraps = ring.provider->unwraps();
  CHECK_THROWS_AS(ring.in_token().seal(bytes_of(kSecret), ContextView::raw(longer)), InvalidArgumentError);
  CHECK_THROWS_AS(ring.in_token().open(sealed, ContextView::raw(longer)), InvalidArgumentError);
  CHECK(ring.provider->wraps() == wraps);
  CHECK(ring.provider->unwraps() == unwraps);
  const Bytes by_host = ring.encryptor().seal(bytes_of(kSecret), ContextView::raw(longer));
  CHECK(opened(ring.encryptor(), by_host, ContextView::raw(longer)) == kSecret);
}

TEST_CASE("a secret of more than 64 MiB is not sealed") {
  const SoftwareRing ring;
  const ForbiddenMemory memory(kMaxSecretBytes + (1 << 20));
  const SecretMemory before = secret_memory();
  const int wraps = ring.provider->wraps();
  for (const EnvelopeOptions options :
       {EnvelopeOptions{}, EnvelopeOptions{Suite::DataKey, k64}, EnvelopeOptions{Suite::Token, Padding::none()},
        EnvelopeOptions{Suite::Token, k64}}) {
    const EnvelopeEncryptor encryptor = ring.encryptor(options);
    CHECK_THROWS_AS(encryptor.seal(memory.view().first(kMaxSecretBytes + 1), kNoContext), InvalidArgumentError);
    CHECK_THROWS_AS(encryptor.seal(memory.view(), kNoContext), InvalidArgumentError);
  }
  // Padding counts: 64 MiB fill their last bucket, and would get another.
  CHECK_THROWS_AS(ring.encryptor({.padding = k64}).seal(memory.view().first(kMaxSecretBytes), kNoContext),
                  InvalidArgumentError);
  CHECK(ring.provider->wraps() == wraps);
  CHECK(secret_memory().reserved == before.reserved);
}

TEST_CASE("padding may fill the 64 MiB to the last byte") {
  const SoftwareRing ring;
  const auto encryptor = ring.encryptor({.padding = Padding::to_multiple_of(std::size_t{1} << 20)});
  CHECK(encryptor.seal(Bytes(kMaxSecretBytes - 1), kNoContext).size() == kMaxSecretBytes + 138);
}

TEST_CASE("a secret of 64 MiB is sealed and opened") {
  const SoftwareRing ring;
  Bytes secret(kMaxSecretBytes);
  secret.front() = std::byte{1};
  secret.back() = std::byte{2};
  const Bytes sealed = ring.encryptor().seal(secret, kNoContext);
  CHECK(sealed.size() == kMaxSecretBytes + 138);
  const SecretBytes open = ring.encryptor().open(sealed, kNoContext);
  CHECK(std::ranges::equal(open.view(), secret));
}

TEST_CASE("an envelope longer than the longest is refused before it is read") {
  const SoftwareRing ring;
  const ForbiddenMemory memory(kMaxEnvelopeBytes + 1);
  CHECK_THROWS_AS(ring.encryptor().open(memory.view(), kNoContext), FormatError);
  CHECK_THROWS_AS(ring.encryptor().rewrap(memory.view()), FormatError);
  CHECK_THROWS_AS(ring.encryptor().needs_rewrap(memory.view()), FormatError);
}

TEST_CASE("padding hides the length of a secret") {
  const SoftwareRing ring;
  for (const auto& encryptor : {ring.encryptor({.padding = k64}), ring.in_token(k64)}) {
    std::set<std::size_t> sizes;
    for (std::size_t size = 0; size < 64; ++size) {
      const Bytes secret(size, std::byte{0});  // zeros, like padding
      const Bytes sealed = encryptor.seal(secret, kNoContext);
      sizes.insert(sealed.size());
      CHECK(inspect(sealed).secret_bytes == 64);
      CHECK(opened(encryptor, sealed, kNoContext).size() == size);
    }
    CHECK(sizes.size() == 1);
    CHECK(encryptor.seal(Bytes(64), kNoContext).size() == *sizes.begin() + 64);
  }
}

TEST_CASE("what is not sealed is told from what is") {
  const SoftwareRing ring;
  CHECK(is_sealed(ring.encryptor().seal({}, kNoContext)));
  CHECK(is_sealed(ring.in_token().seal({}, kNoContext)));
  CHECK(is_sealed_text(ring.encryptor().seal_text("", kNoContext)));
  for (const char* const plain : {"", "HS", "hunter2", "$argon2id$v=19$m=65536", "{\"password\":\"x\"}"}) {
    CHECK_FALSE(is_sealed(bytes_of(plain)));
    CHECK_FALSE(is_sealed_text(plain));
  }
}

TEST_CASE("everything that fails to open fails alike") {
  SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor();
  std::set<std::string> messages;
  for (const auto& sealer : {ring.encryptor({.padding = k64}), ring.in_token(k64)}) {
    const Bytes sealed = sealer.seal(bytes_of(kSecret), record("42"));
    messages.insert(open_error(encryptor, sealed, record("43")));
    messages.insert(open_error(encryptor, sealed, kNoContext));
    for (const std::size_t at : {18U, 31U, 77U, 78U, 110U}) {  // IV, wrapped key, its tag, commitment, nonce
      const std::size_t byte = std::min<std::size_t>(at, sealed.size() - 1);
      messages.insert(open_error(encryptor, test::with_flipped_bit(sealed, byte * 8), record("42")));
    }
    messages.insert(open_error(encryptor, test::with_flipped_bit(sealed, sealed.size() * 8 - 1), record("42")));
    messages.insert(open_error(encryptor, test::with_flipped_bit(sealed, 6 * 8), record("42")));
    messages.insert(open_error(encryptor, ByteView{sealed}.first(sealed.size() - 1), record("42")));
  }
  const Bytes by_token = ring.in_token().seal(Bytes(4096), kNoContext);
  Bytes over_the_ceiling = by_token;
  over_the_ceiling.push_back(std::byte{0});
  messages.insert(open_error(encryptor, over_the_ceiling, kNoContext));
  const Bytes sealed = encryptor.seal(bytes_of(kSecret), kNoContext);
  ring.provider->replace_key(ring.ring.active().key.key_id);
  messages.insert(open_error(encryptor, sealed, kNoContext));
  messages.insert(open_error(encryptor, by_token, kNoContext));
  messages.insert(message_of<OpenError>([&] { (void)encryptor.rewrap(sealed); }));
  messages.insert(message_of<OpenError>([&] { (void)encryptor.reseal(sealed, kNoContext); }));
  CHECK(messages.size() == 1);
}

TEST_CASE("a token that fails is not an envelope that does not open") {
  const SoftwareRing ring;
  const Bytes sealed = ring.encryptor().seal(bytes_of(kSecret), kNoContext);
  ring.provider->fail(true);
  CHECK_THROWS_AS(ring.encryptor().seal(bytes_of(kSecret), kNoContext), TokenError);
  CHECK_THROWS_AS(ring.encryptor().open(sealed, kNoContext), TokenError);
  CHECK(ring.events->count(Event::Kind::OpenRefused) == 0);
  ring.provider->fail(false);
  CHECK(opened(ring.encryptor(), sealed, kNoContext) == kSecret);
}

TEST_CASE("an envelope refused for its header never reaches the token") {
  SoftwareRing ring, other_ring;
  ring.skip_version();
  for (const auto& encryptor : {ring.encryptor(), ring.in_token()}) {
    const Bytes sealed = encryptor.seal(bytes_of(kSecret), kNoContext);
    const auto with_byte = [&](std::size_t at, int value) {
      Bytes altered = sealed;
      altered.at(at) = static_cast<std::byte>(value);
      return altered;
    };
    const int unwraps = ring.provider->unwraps(), wraps = ring.provider->wraps();
    const auto refuses = [&]<typename Expected>(std::type_identity<Expected>, const Bytes& altered) {
      (void)message_of<Expected>([&] { (void)encryptor.open(altered, kNoContext); });
      (void)message_of<Expected>([&] { (void)encryptor.rewrap(altered); });
      (void)message_of<Expected>([&] { (void)encryptor.reseal(altered, kNoContext); });
    };
    for (const std::size_t at : {0U, 4U, 5U, 6U, 7U, 16U, 17U}) {
      refuses(std::type_identity<FormatError>{}, with_byte(at, 0x55));
    }
    refuses(std::type_identity<FormatError>{}, with_byte(15, 0));
    refuses(std::type_identity<FormatError>{}, {});
    refuses(std::type_identity<WrongRingError>{}, other_ring.encryptor().seal({}, kNoContext));
    refuses(std::type_identity<UnknownVersionError>{}, with_byte(15, 2));
    refuses(std::type_identity<RingOutOfDateError>{}, with_byte(15, 3));
    CHECK(ring.provider->unwraps() == unwraps);
    CHECK(ring.provider->wraps() == wraps);
  }
  CHECK(ring.events->count(Event::Kind::OpenRefused) == 0);
}

TEST_CASE("the observer is told of every envelope, with its version and the token") {
  SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor();
  const auto last_is = [&](Event::Kind kind, Version version, int count) {
    const Event& event = ring.events->last();
    return event.kind == kind && event.version == version && event.token == "software" &&
           event.ring == ring.ring.id() && ring.events->count(kind) == count;
  };
  const Bytes sealed = encryptor.seal(bytes_of(kSecret), kNoContext);
  CHECK(last_is(Event::Kind::Sealed, 1, 1));
  REQUIRE(ring.add_set() == 2);
  (void)encryptor.open(sealed, kNoContext);
  CHECK(last_is(Event::Kind::Opened, 1, 1));
  CHECK_THROWS_AS(encryptor.open(sealed, record("42")), OpenError);
  CHECK(last_is(Event::Kind::OpenRefused, 1, 1));
  (void)encryptor.rewrap(sealed);
  CHECK(last_is(Event::Kind::Rewrapped, 2, 1));
  (void)encryptor.reseal(sealed, kNoContext);
  CHECK(last_is(Event::Kind::Sealed, 2, 2));
  CHECK(ring.events->count(Event::Kind::Opened) == 2);
  (void)inspect(sealed);
  (void)encryptor.needs_rewrap(sealed);
  CHECK(last_is(Event::Kind::Sealed, 2, 2));
}

TEST_CASE("a set that becomes active while an envelope is sealed is the one that seals it") {
  const auto provider = std::make_shared<AlteringProvider>();
  KeyRing ring = KeyRing::create(memory_ring_store(), provider, {.token = "t"}, RingPin::in_process());
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    const EnvelopeEncryptor encryptor{ring, {.suite = suite}};
    const Bytes old = encryptor.seal(bytes_of(kSecret), kNoContext);
    const Version before = ring.active().version;
    bool overtaken = true;
    provider->alter = [&](Bytes&) {
      if (!std::exchange(overtaken, true)) ring.add({.token = "t"});
    };
    const auto overtaking = [&](const auto& work) {
      overtaken = false;
      return work();
    };
    const Bytes sealed = overtaking([&] { return encryptor.seal(bytes_of(kSecret), kNoContext); });
    CHECK(inspect(sealed).version == before + 1);
    CHECK(opened(encryptor, sealed, kNoContext) == kSecret);
    if (suite == Suite::DataKey) {
      const Bytes moved = overtaking([&] { return encryptor.rewrap(old); });
      CHECK(inspect(moved).version == before + 2);
      CHECK(opened(encryptor, moved, kNoContext) == kSecret);
    }
    provider->alter = [](Bytes&) {};
  }
}

TEST_CASE("a wrapper that returns another size makes no envelope that could not be read again") {
  const auto provider = std::make_shared<AlteringProvider>();
  const KeyRing ring = KeyRing::create(memory_ring_store(), provider, {.token = "t"}, RingPin::in_process());
  const Bytes sealed = EnvelopeEncryptor{ring}.seal(bytes_of(kSecret), kNoContext);
  for (const int change : {-60, -13, -12, -4, -1, 1, 3, 5, 20}) {
    provider->alter = [&](Bytes& wrapped) {
      const auto size = static_cast<std::ptrdiff_t>(wrapped.size()) + change;
      wrapped.resize(static_cast<std::size_t>(std::max<std::ptrdiff_t>(size, 0)));
    };
    for (const Suite suite : {Suite::DataKey, Suite::Token}) {
      CHECK_THROWS_AS((EnvelopeEncryptor{ring, {.suite = suite}}.seal(bytes_of(kSecret), kNoContext)), WrongKeyError);
    }
    CHECK_THROWS_AS(EnvelopeEncryptor{ring}.rewrap(sealed), WrongKeyError);
  }
}
