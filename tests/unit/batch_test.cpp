#include <hsmseal/envelope_batch.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/deadline.hpp>
#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>

#include "envelope/batch.hpp"
#include "helpers.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"
#include "support/ring_parts.hpp"

using namespace hsmseal;
using namespace std::chrono_literals;

namespace {

/// Keys in memory whose wrapper says how many calls it serves at once, and waits for so many.
class WideProvider final : public KeyProvider {
 public:
  explicit WideProvider(std::size_t width) : width_(width) {}

  KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
    return keys.provision(spec, ring, version);
  }
  std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override {
    return std::make_shared<Wrapper>(*this, keys.connect(key, version));
  }
  std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
    return keys.find_keys(ring, token);
  }
  void destroy(const KeyDescription& key) override { keys.destroy(key); }

  /// From now on calls wait until as many as the width are there, or a second is over.
  void gather() { gathering_ = true; }
  [[nodiscard]] std::size_t most_at_once() const { return most_; }

  test::SoftwareProvider keys;
  std::function<void()> on_wrap = [] {};

 private:
  class Wrapper final : public KeyWrapper {
   public:
    Wrapper(WideProvider& provider, std::shared_ptr<KeyWrapper> inner)
        : provider_(provider), inner_(std::move(inner)) {}
    Bytes wrap(ByteView key, ByteView aad) override {
      provider_.on_wrap();
      provider_.meet();
      return inner_->wrap(key, aad);
    }
    SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
      provider_.meet();
      return inner_->unwrap(wrapped, aad);
    }
    std::size_t concurrency() const override { return provider_.width_; }

   private:
    WideProvider& provider_;
    std::shared_ptr<KeyWrapper> inner_;
  };

  void meet() {
    if (!gathering_) return;
    std::unique_lock lock{mutex_};
    most_ = std::max(most_, ++inside_);
    came_.notify_all();
    came_.wait_for(lock, 1s, [&] { return most_ >= width_; });
    --inside_;
  }

  const std::size_t width_;
  std::atomic<bool> gathering_ = false;
  std::mutex mutex_;
  std::condition_variable came_;
  std::size_t inside_ = 0, most_ = 0;
};

struct Scene {
  explicit Scene(std::size_t width = 1) : provider(std::make_shared<WideProvider>(width)) {}

  [[nodiscard]] EnvelopeEncryptor reusing(std::uint64_t secrets) const {
    return EnvelopeEncryptor{ring, {.data_keys = DataKeyPolicy::reuse(secrets)}};
  }
  [[nodiscard]] int wraps_of(const std::function<void()>& work) const {
    const int before = provider->keys.wraps();
    work();
    return provider->keys.wraps() - before;
  }
  [[nodiscard]] int unwraps_of(const std::function<void()>& work) const {
    const int before = provider->keys.unwraps();
    work();
    return provider->keys.unwraps() - before;
  }

  std::shared_ptr<WideProvider> provider;
  std::shared_ptr<test::OpenStore> store = std::make_shared<test::OpenStore>();
  std::shared_ptr<test::Recorder> events = std::make_shared<test::Recorder>();
  KeyRing ring = KeyRing::create(store, provider, {.token = "t"}, RingPin::in_process(), {.observer = events});
  EnvelopeEncryptor encryptor{ring};
};

/// Texts, contexts and envelopes that live as long as the items that refer to them.
struct Batch {
  explicit Batch(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      texts.push_back("secret " + std::to_string(i));
      contexts.push_back(Context{}.add("row", std::to_string(i)));
    }
  }

  [[nodiscard]] std::vector<SealItem> to_seal() const {
    std::vector<SealItem> items;
    for (std::size_t i = 0; i < texts.size(); ++i) items.push_back({bytes_of(texts[i]), contexts[i]});
    return items;
  }
  void keep(std::vector<SealResult> results) {
    for (SealResult& result : results) sealed.push_back(std::move(result).value());
  }
  [[nodiscard]] std::vector<OpenItem> to_open() const {
    std::vector<OpenItem> items;
    for (std::size_t i = 0; i < sealed.size(); ++i) items.push_back({sealed[i], contexts[i]});
    return items;
  }
  /// How many results are the item's own secret.
  [[nodiscard]] std::size_t right(const std::vector<OpenResult>& results) const {
    REQUIRE(results.size() == texts.size());
    std::size_t count = 0;
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (results[i] && results[i].value().text() == texts[i]) ++count;
    }
    return count;
  }

  std::vector<std::string> texts;
  std::vector<Context> contexts;
  std::vector<Bytes> sealed;
};

}  // namespace

TEST_CASE("the result of an item has a value or the error as it was thrown") {
  const ItemResult<Bytes> good{Bytes(3)};
  CHECK(good.ok());
  CHECK(good);
  CHECK(good.value().size() == 3);
  CHECK(good.error() == nullptr);
  CHECK_FALSE(good.code());
  ItemResult<SecretBytes> secret{SecretBytes::from_text("abc")};
  CHECK(secret.value().text() == "abc");
  CHECK(std::move(secret).value().text() == "abc");

  const ItemResult<Bytes> bad{std::make_exception_ptr(WrongRingError("another ring"))};
  CHECK_FALSE(bad.ok());
  CHECK_FALSE(bad);
  CHECK(bad.code() == ErrorCode::WrongRing);
  CHECK(test::message_of<WrongRingError>([&] { return bad.value(); }) == "another ring");
  CHECK_FALSE(ItemResult<Bytes>{std::make_exception_ptr(std::bad_alloc())}.code());
  CHECK_THROWS_AS(ItemResult<Bytes>{std::make_exception_ptr(std::bad_alloc())}.value(), std::bad_alloc);
}

TEST_CASE("a batch of nothing has no results") {
  const Scene scene;
  CHECK(scene.encryptor.seal_many({}).empty());
  CHECK(scene.encryptor.open_many({}).empty());
}

TEST_CASE("many secrets are sealed at once, each under a data key of its own, and opened at once") {
  const Scene scene{4};
  Batch batch{200};
  CHECK(scene.wraps_of([&] { batch.keep(scene.encryptor.seal_many(batch.to_seal())); }) == 200);
  for (std::size_t i = 0; i < 200; i += 50) {
    CHECK(scene.encryptor.open(batch.sealed[i], batch.contexts[i]).text() == batch.texts[i]);
  }
  CHECK(scene.unwraps_of([&] { CHECK(batch.right(scene.encryptor.open_many(batch.to_open())) == 200); }) == 200);
  const auto kinds = scene.events->kinds();
  CHECK(std::ranges::count(kinds, Event::Kind::Sealed) == 200);
  CHECK(std::ranges::count(kinds, Event::Kind::Opened) == 204);
}

TEST_CASE("a batch under data keys that are reused asks the token once for each of them") {
  for (const bool reader_reuses : {false, true}) {
    CAPTURE(reader_reuses);
    const Scene scene{4};
    Batch batch{1000};
    CHECK(scene.wraps_of([&] { batch.keep(scene.reusing(100).seal_many(batch.to_seal())); }) == 10);
    const EnvelopeEncryptor reader = reader_reuses ? scene.reusing(1) : scene.encryptor;
    const auto open_all = [&] { CHECK(batch.right(reader.open_many(batch.to_open())) == 1000); };
    CHECK(scene.unwraps_of(open_all) == 10);
    CHECK(scene.unwraps_of(open_all) == (reader_reuses ? 0 : 10));
  }
}

TEST_CASE("as many threads work for a batch as its set's wrapper serves at once") {
  constexpr std::size_t kWidth = 4;
  const Scene scene{kWidth};
  Batch batch{40};
  SECTION("sealing") {
    scene.provider->gather();
    batch.keep(scene.encryptor.seal_many(batch.to_seal()));
  }
  SECTION("opening") {
    batch.keep(scene.encryptor.seal_many(batch.to_seal()));
    scene.provider->gather();
    CHECK(batch.right(scene.encryptor.open_many(batch.to_open())) == 40);
  }
  CHECK(scene.provider->most_at_once() == kWidth);
}

TEST_CASE("bad items among many fail by themselves, with the error that they have alone") {
  Scene scene{4};
  const Scene other;
  for (const bool one_data_key : {false, true}) {
    CAPTURE(one_data_key);
    const EnvelopeEncryptor encryptor = one_data_key ? scene.reusing(1000) : scene.encryptor;
    Batch batch{100};
    batch.keep(encryptor.seal_many(batch.to_seal()));
    constexpr std::size_t kCommitment = 18 + 60;
    batch.sealed[0][kCommitment] ^= std::byte{1};  // the first of its data key
    batch.sealed[10].back() ^= std::byte{1};
    batch.sealed[20][0] ^= std::byte{1};
    batch.sealed[30][8] ^= std::byte{1};
    batch.sealed[40][15] = std::byte{77};
    batch.sealed[50][18] ^= std::byte{1};
    batch.sealed[60] = {};
    batch.contexts[70] = Context{}.add("row", "another");
    const auto results = encryptor.open_many(batch.to_open());
    CHECK(batch.right(results) == 92);
    CHECK(results[0].code() == ErrorCode::Open);
    CHECK(results[10].code() == ErrorCode::Open);
    CHECK(results[20].code() == ErrorCode::Format);
    CHECK(results[30].code() == ErrorCode::WrongRing);
    CHECK(results[40].code() == ErrorCode::RingOutOfDate);
    CHECK(results[50].code() == ErrorCode::Open);
    CHECK(results[60].code() == ErrorCode::Format);
    CHECK(results[70].code() == ErrorCode::Open);
    CHECK_THROWS_AS(results[20].value(), FormatError);
    CHECK_THROWS_AS(results[30].value(), WrongRingError);
  }
  CHECK(std::ranges::count(scene.events->kinds(), Event::Kind::OpenRefused) == 8);
}

TEST_CASE("a secret that is too long fails by itself") {
  const Scene scene;
  const Bytes large(kMaxSecretBytes + 1), small(1);
  const std::vector<SealItem> items{{small, kNoContext}, {large, kNoContext}, {small, kNoContext}};
  const auto results = scene.encryptor.seal_many(items);
  REQUIRE(results.size() == 3);
  CHECK(results[0]);
  CHECK(results[1].code() == ErrorCode::InvalidArgument);
  CHECK(results[2]);
}

TEST_CASE("each item of a batch has the token's error while the token fails") {
  const Scene scene{4};
  Batch batch{20};
  batch.keep(scene.encryptor.seal_many(batch.to_seal()));
  scene.provider->keys.fail(true);
  for (const auto& result : scene.encryptor.seal_many(batch.to_seal())) {
    CHECK(test::error_of<TokenError>([&] { return result.value(); }).function() == "C_Encrypt");
  }
  for (const auto& result : scene.encryptor.open_many(batch.to_open())) {
    CHECK(test::error_of<TokenError>([&] { return result.value().size(); }).retryable());
  }
  scene.provider->keys.fail(false);
  CHECK(batch.right(scene.encryptor.open_many(batch.to_open())) == 20);
}

TEST_CASE("what a batch seals after the active set changed names the new one") {
  Scene scene;
  Batch batch{50};
  int wraps = 0;
  scene.provider->on_wrap = [&] {
    if (++wraps == 20) scene.ring.add({.token = "t"});
  };
  batch.keep(scene.encryptor.seal_many(batch.to_seal()));
  std::vector<Version> versions;
  for (const Bytes& sealed : batch.sealed) versions.push_back(inspect(sealed).version);
  CHECK(std::ranges::is_sorted(versions));
  CHECK(std::ranges::count(versions, Version{1}) == 19);
  CHECK(batch.right(scene.encryptor.open_many(batch.to_open())) == 50);
}

TEST_CASE("envelopes that the token sealed, and those of several sets, open in one batch") {
  Scene scene{2};
  Batch batch{30};
  const auto items = batch.to_seal();
  const EnvelopeEncryptor in_token{scene.ring, {.suite = Suite::Token}};
  batch.keep(in_token.seal_many(std::span{items}.first(10)));
  batch.keep(scene.encryptor.seal_many(std::span{items}.subspan(10, 10)));
  scene.ring.add({.token = "t"});
  batch.keep(scene.reusing(5).seal_many(std::span{items}.subspan(20)));
  CHECK(scene.unwraps_of([&] { CHECK(batch.right(scene.encryptor.open_many(batch.to_open())) == 30); }) == 22);
}

TEST_CASE("a piece of work is done once, whatever threads there are") {
  for (const std::size_t threads : {0U, 1U, 3U, 64U}) {
    for (const std::size_t pieces : {0U, 1U, 2U, 1000U}) {
      std::vector<std::atomic<int>> done(pieces);
      envelope::in_parallel(pieces, threads, [&](std::size_t i) { ++done[i]; });
      CHECK(std::ranges::all_of(done, [](const auto& count) { return count == 1; }));
    }
  }
}

TEST_CASE("the threads of a batch have its deadline") {
  const Deadline deadline{5s};
  const auto due = Deadline::current();
  std::atomic<int> same = 0;
  envelope::in_parallel(100, 4, [&](std::size_t) { same += Deadline::current() == due ? 1 : 0; });
  CHECK(same == 100);
}
