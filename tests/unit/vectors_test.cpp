// The library reads what another implementation of src/FORMAT.md wrote: tests/vectors/envelopes_v1.json.
#include "support/vectors.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <hsmseal/envelope.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"
#include "envelope/data_key.hpp"
#include "envelope/padding.hpp"
#include "envelope/payload.hpp"
#include "envelope/text_form.hpp"
#include "envelope/wire.hpp"
#include "helpers.hpp"
#include "ring/body.hpp"
#include "ring/export_file.hpp"
#include "ring/ring_key.hpp"
#include "support/catch.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using nlohmann::json;
using test::bytes_at;
using test::hex;
using test::VectorProvider;
using test::Vectors;

namespace {

namespace fs = std::filesystem;

/// Runs `check` with every entry of a list, and shows that there was at least one.
template <typename Check>
void for_each(const std::string& list_name, const Check& check) {
  const json& entries = Vectors::instance().list(list_name);
  std::size_t ran = 0;
  for (const json& entry : entries) {
    INFO(list_name << " " << entry.at("name"));
    check(entry);
    ++ran;
  }
  REQUIRE(ran > 0);
  REQUIRE(ran == entries.size());
}

/// A field's text: GCC 13 and newer find no == for text and JSON, only for JSON and text.
std::string text_at(const json& entry, const char* field) { return entry.at(field).get<std::string>(); }

/// The view of an entry's context, which lives as long as `bytes`.
ContextView context_of(const Bytes& bytes) { return bytes.empty() ? ContextView{kNoContext} : ContextView::raw(bytes); }

/// The ring that the envelopes of the file belong to.
struct Reader {
  std::shared_ptr<VectorProvider> provider;
  KeyRing ring;
  EnvelopeEncryptor encryptor;

  Reader()
      : provider(std::make_shared<VectorProvider>(Vectors::instance())),
        ring(test::open_ring(Vectors::instance(), "ring-6", provider)),
        encryptor(ring) {}
};

/// How a key of the file wraps.
WrapProfile profile_of(const json& kek) {
  WrapProfile profile;
  profile.algorithm = kek.at("algorithm").get<WrapAlgorithm>();
  if (profile.algorithm == WrapAlgorithm::Aes256Gcm) profile.gcm.iv_bytes = kek.at("iv_bytes").get<std::uint32_t>();
  return profile;
}

ErrorCode refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode{0};
}

ring::Mac mac_of(ByteView ring_key, const std::string& body) {
  const SecretBytes key = crypto::hkdf_expand_sha256(ring_key, bytes_of(core::kRingMacLabel), 32);
  return crypto::hmac_sha256(key.view(), bytes_of(body));
}

/// Whether a record has its ring key in a place of the ring's history where an open handle knows another one: then it
/// need not ask a token, src/FORMAT.md section 6.4.
bool is_known_place(const json& entry, const json& seen) {
  json known = seen.at("former_keys");
  known.push_back(seen.at("ring_key"));
  const std::size_t place = ring::from_text(test::record_of(entry).body).former_ring_keys.size();
  return place < known.size() && known.at(place) != entry.at("ring_key");
}

}  // namespace

TEST_CASE("every valid vector opens to its secret") {
  const Reader reader;
  for_each("valid", [&](const json& entry) {
    const Bytes sealed = bytes_at(entry, "sealed"), context = bytes_at(entry, "context");
    CHECK(hex(reader.encryptor.open(sealed, context_of(context)).view()) == text_at(entry, "secret"));
    CHECK(hex(reader.encryptor.open_text(text_at(entry, "text"), context_of(context)).view()) ==
          text_at(entry, "secret"));
    CHECK(envelope::to_text(sealed) == text_at(entry, "text"));
  });
}

TEST_CASE("every valid vector has the header it was made with") {
  for_each("valid", [](const json& entry) {
    const Bytes sealed = bytes_at(entry, "sealed");
    const json& kek = Vectors::instance().list("keks").at(entry.at("kek").get<std::size_t>());
    const EnvelopeHeader header = inspect(sealed);
    CHECK(static_cast<int>(header.suite) == entry.at("suite"));
    CHECK(static_cast<int>(header.algorithm) == kek.at("algorithm"));
    CHECK(header.version == kek.at("version"));
    CHECK(hex(header.ring_prefix) == kek.at("ring_id").get<std::string>().substr(0, 8));
    CHECK(header.padded == (entry.at("padding") != 0));
    const auto bucket = entry.at("padding").get<std::size_t>();
    CHECK(header.secret_bytes == envelope::padded(bytes_at(entry, "secret"), bucket).size());
    const wire::Envelope envelope = wire::read(sealed);
    CHECK(hex(envelope.wrapped).starts_with(entry.at("wrap_iv").get<std::string>()));
    CHECK(wire::write(envelope) == sealed);
    if (header.suite != Suite::Token) CHECK(hex(envelope.nonce) == text_at(entry, "nonce"));
  });
}

TEST_CASE("the library encrypts every valid vector's payload to the same bytes") {
  std::size_t ran = 0;
  for_each("valid", [&](const json& entry) {
    if (entry.at("suite") != 1) return;
    const Bytes sealed = bytes_at(entry, "sealed"), context = bytes_at(entry, "context");
    const wire::Envelope expected = wire::read(sealed);
    const json& kek = Vectors::instance().list("keks").at(entry.at("kek").get<std::size_t>());
    RingId ring;
    std::ranges::copy(bytes_at(kek, "ring_id"), ring.bytes.begin());
    const envelope::PayloadKey key{SecretBytes{bytes_at(entry, "data_key")}, Suite::DataKey, ring};
    CHECK(hex(key.view().commitment()) == hex(expected.commitment));
    const Bytes secret = bytes_at(entry, "secret"), start = wire::write_start(expected);
    const std::size_t padded_size = envelope::padded_size(secret.size(), entry.at("padding").get<std::size_t>());
    wire::Nonce nonce;
    std::ranges::copy(expected.nonce, nonce.begin());
    crypto::Aes256GcmEncryption cipher;
    cipher.set_key(key.view().key());
    envelope::Workbench bench;
    CHECK(hex(bench.seal(cipher, {expected, start, ring}, nonce, {secret, padded_size}, context_of(context))) ==
          hex(sealed));
    ++ran;
  });
  CHECK(ran > 10);
}

TEST_CASE("every invalid vector is refused with the error it names") {
  const Reader reader;
  for_each("invalid", [&](const json& entry) {
    const Bytes context = bytes_at(entry, "context");
    const auto expected = test::code_of(entry.at("error").get<std::string>());
    const int unwraps = reader.provider->unwraps();
    const auto error = refusal([&] {
      if (entry.contains("text")) {
        (void)reader.encryptor.open_text(text_at(entry, "text"), context_of(context));
        return;
      }
      Bytes sealed = bytes_at(entry, "sealed");
      sealed.resize(sealed.size() + entry.value("append_zeros", std::size_t{0}));
      (void)reader.encryptor.open(sealed, context_of(context));
    });
    CHECK(error == expected);
    const bool asks = expected == ErrorCode::Open && entry.at("must") != "F-16" && entry.at("must") != "F-58";
    CHECK((reader.provider->unwraps() != unwraps) == asks);
  });
}

TEST_CASE("rewrapped vectors have the payload they had, and both open") {
  const Reader reader;
  for_each("rewrapped", [&](const json& entry) {
    const Bytes before = bytes_at(entry, "before"), after = bytes_at(entry, "after");
    const Bytes context = bytes_at(entry, "context");
    const wire::Envelope old = wire::read(before), moved = wire::read(after);
    const ByteView old_rest = ByteView{before}.subspan(18 + old.wrapped.size());
    CHECK(hex(old_rest) == hex(ByteView{after}.subspan(18 + moved.wrapped.size())));
    const auto& keks = Vectors::instance().list("keks");
    CHECK(old.version == keks.at(entry.at("before_kek").get<std::size_t>()).at("version"));
    CHECK(moved.version == keks.at(entry.at("after_kek").get<std::size_t>()).at("version"));
    CHECK(static_cast<int>(moved.algorithm) == keks.at(entry.at("after_kek").get<std::size_t>()).at("algorithm"));
    CHECK(hex(reader.encryptor.open(before, context_of(context)).view()) == text_at(entry, "secret"));
    CHECK(hex(reader.encryptor.open(after, context_of(context)).view()) == text_at(entry, "secret"));
    const Bytes ours = reader.encryptor.rewrap(before);
    CHECK(inspect(ours).version == reader.ring.active().version);
    CHECK(inspect(ours).algorithm == WrapAlgorithm::Aes256Gcm);
    CHECK(ours.size() == old_rest.size() + 18 + 60);
    CHECK(hex(ByteView{ours}.last(old_rest.size())) == hex(old_rest));
    CHECK(hex(reader.encryptor.open(ours, context_of(context)).view()) == text_at(entry, "secret"));
  });
}

TEST_CASE("contexts are encoded as the vectors say") {
  for_each("contexts", [](const json& entry) {
    Context context;
    for (const json& pair : entry.at("pairs")) {
      context.add(pair.at(0).get<std::string>(), pair.at(1).get<std::string>());
    }
    CHECK(hex(context.encoded()) == text_at(entry, "encoded"));
    CHECK(hex(ContextView{context}.bytes()) == text_at(entry, "encoded"));
  });
}

TEST_CASE("invalid contexts of the vectors are the caller's mistakes") {
  const Reader reader;
  for_each("invalid_contexts", [&](const json& entry) {
    const auto seal = [&](ContextView context) {
      const auto suite = static_cast<Suite>(entry.value("suite", 1));
      (void)EnvelopeEncryptor{reader.ring, {.suite = suite}}.seal(bytes_of("secret"), context);
    };
    CHECK(refusal([&] {
            if (entry.contains("raw_bytes")) {
              const Bytes bytes(entry.at("raw_bytes").get<std::size_t>());
              return seal(ContextView::raw(bytes));
            }
            Context context;
            for (const json& pair : entry.at("pairs")) {
              context.add(pair.at(0).get<std::string>(), pair.at(1).get<std::string>());
            }
            seal(context);
          }) == ErrorCode::InvalidArgument);
  });
  const Bytes enough(1000);
  CHECK(refusal([&] { (void)reader.encryptor.seal(bytes_of("secret"), ContextView::raw(enough)); }) == ErrorCode{0});
}

TEST_CASE("the vectors' rings are read and printed to the same bytes, and have the same MAC") {
  for_each("rings", [](const json& entry) {
    const RingRecord record = test::record_of(entry);
    const ring::Body body = ring::from_text(record.body);
    CHECK(body.generation == record.generation);
    CHECK(ring::to_text(body) == record.body);
    CHECK(hex(mac_of(bytes_at(entry, "ring_key"), record.body)) == hex(record.mac));
    const auto provider = std::make_shared<VectorProvider>(Vectors::instance());
    KeyRing ring = test::open_ring(Vectors::instance(), entry.at("name").get<std::string>(), provider);
    CHECK(ring.generation() == record.generation);
    CHECK(ring.list() == body.sets);
    for (const auto& set : body.sets) {
      const bool deleted = set.state == SetState::Deleted;
      CHECK(refusal([&] { ring.verify(set.version); }) == (deleted ? ErrorCode::DeletedVersion : ErrorCode{0}));
    }
  });
}

TEST_CASE("a host follows the vectors' ring from its first generation to its third") {
  const auto& vectors = Vectors::instance();
  const auto record = [&](const char* name) { return test::record_of(vectors.entry("rings", name)); };
  const auto store = std::make_shared<test::ShownStore>(record("ring-1"));
  KeyRing ring = KeyRing::open(store, std::make_shared<VectorProvider>(vectors), RingPin::in_process());
  CHECK(ring.active().version == 1);
  store->show(record("ring-2"));
  ring.refresh();
  CHECK(ring.active().version == 3);
  store->show(record("ring-3"));
  ring.refresh();
  CHECK(ring.active().version == 0x01020304);
  CHECK(ring.list().size() == 11);
  store->show(record("ring-2"));
  CHECK(refusal([&] { ring.refresh(); }) == ErrorCode::RingRolledBack);
}

TEST_CASE("a host takes every record of the vectors that follows the one it has seen") {
  const auto& vectors = Vectors::instance();
  const auto provider = std::make_shared<VectorProvider>(vectors);
  for_each("followed", [&](const json& entry) {
    const auto seen = test::record_of(vectors.entry("rings", entry.at("seen").get<std::string>()));
    const auto shown = test::record_of(vectors.entry("rings", entry.at("shown").get<std::string>()));
    const auto store = std::make_shared<test::ShownStore>(seen);
    KeyRing running = KeyRing::open(store, provider, RingPin::in_process());
    const RingPin pin = RingPin::in_process();
    (void)KeyRing::open(store, provider, pin);
    store->show(shown);
    CHECK(refusal([&] { running.refresh(); }) == ErrorCode{0});
    CHECK(refusal([&] { (void)KeyRing::open(store, provider, pin); }) == ErrorCode{0});
    CHECK(running.generation() == shown.generation);
    CHECK(running.list() == ring::from_text(shown.body).sets);
  });
}

TEST_CASE("every invalid ring of the vectors is refused with the error it names") {
  const auto& vectors = Vectors::instance();
  for_each("invalid_rings", [&](const json& entry) {
    const auto expected = test::code_of(entry.at("error").get<std::string>());
    const auto provider = std::make_shared<VectorProvider>(vectors);
    const auto store = std::make_shared<test::ShownStore>(test::record_of(entry));
    const RingPin pin = RingPin::in_process();
    if (entry.contains("seen")) {
      // Seen before the process was started anew, and seen by a handle that is open.
      const json& seen_entry = vectors.entry("rings", entry.at("seen").get<std::string>());
      const auto seen = test::record_of(seen_entry);
      const auto seen_store = std::make_shared<test::ShownStore>(seen);
      KeyRing ring = KeyRing::open(seen_store, provider, pin);
      seen_store->show(test::record_of(entry));
      const ErrorCode error = refusal([&] { ring.refresh(); });
      CHECK((error == expected || (error == ErrorCode::RingTampered && is_known_place(entry, seen_entry))));
      CHECK(ring.generation() == seen.generation);
    }
    CHECK(refusal([&] { (void)KeyRing::open(store, provider, pin); }) == expected);
  });
}

TEST_CASE("the keys that the vectors' rings had before are found from the present one") {
  std::size_t found = 0;
  for_each("rings", [&](const json& entry) {
    const ring::Body body = ring::from_text(test::record_of(entry).body);
    const SecretBytes present{bytes_at(entry, "ring_key")};
    CHECK(hex(ring::key_check(present)) == text_at(entry, "key_check"));
    const json& former = entry.at("former_keys");
    REQUIRE(former.size() == body.former_ring_keys.size());
    for (std::size_t i = 0; i < former.size(); ++i) {
      const auto key = ring::former_ring_key(body, present, i);
      REQUIRE(key);
      CHECK(hex(key->view()) == former.at(i).get<std::string>());
      ++found;
    }
  });
  CHECK(found >= 3);
}

TEST_CASE("the vectors' records lead to the key that a host remembers, or do not") {
  const auto& vectors = Vectors::instance();
  const auto leads_from = [&](const json& shown, const json& seen) {
    std::array<std::byte, 32> check;
    std::ranges::copy(bytes_at(vectors.entry("rings", seen.get<std::string>()), "key_check"), check.begin());
    const ring::Body body = ring::from_text(test::record_of(shown).body);
    return ring::leads_to(body, SecretBytes{bytes_at(shown, "ring_key")}, check);
  };
  for_each("followed", [&](const json& entry) {
    CHECK(leads_from(vectors.entry("rings", entry.at("shown").get<std::string>()), entry.at("seen")));
  });
  std::size_t refused = 0;
  for_each("invalid_rings", [&](const json& entry) {
    if (entry.at("must") != "F-53") return;
    CHECK_FALSE(leads_from(entry, entry.at("seen")));
    ++refused;
  });
  CHECK(refused > 10);
}

TEST_CASE("the vectors' exported rings are read and written to the same bytes") {
  for_each("exports", [](const json& entry) {
    const auto content = entry.at("content").get<std::string>();
    const RingRecord record = ring::read_export(content);
    const json& ring = Vectors::instance().entry("rings", entry.at("ring").get<std::string>());
    CHECK(record == test::record_of(ring));
    CHECK(ring::write_export(record) == content);
  });
}

TEST_CASE("every invalid export of the vectors is refused with the error it names") {
  for_each("invalid_exports", [](const json& entry) {
    const auto content = entry.at("content").get<std::string>();
    CHECK(refusal([&] { (void)ring::read_export(content); }) == test::code_of(entry.at("error").get<std::string>()));
  });
}

TEST_CASE("the vectors' proofs show which key answers") {
  const auto& vectors = Vectors::instance();
  std::size_t good = 0;
  for_each("proofs", [&](const json& entry) {
    const json& kek = vectors.list("keks").at(entry.at("kek").get<std::size_t>());
    KekId kek_id;
    std::ranges::copy(bytes_at(kek, "kek_id"), kek_id.bytes.begin());
    KeyProof proof{bytes_at(entry, "wrapped"), {}};
    std::ranges::copy(bytes_at(entry, "digest"), proof.digest.begin());
    const auto wrapper = VectorProvider(vectors).wrapper_of(kek_id, profile_of(kek));
    const ErrorCode error = refusal([&] { check_key_proof(*wrapper, kek_id, proof); });
    if (entry.at("error").is_null()) {
      ++good;
      CHECK(error == ErrorCode{0});
    } else {
      CHECK(error == test::code_of(entry.at("error").get<std::string>()));
    }
  });
  CHECK(good > 0);
}

TEST_CASE("a ring record of more than 64 MiB is refused") {
  const std::string too_long(std::size_t{64 << 20} + 1, ' ');
  CHECK(test::contains(test::message_of<RingTamperedError>([&] { (void)ring::from_text(too_long); }), "64 MiB"));
  RingRecord record = test::record_of(Vectors::instance().entry("rings", "ring-1"));
  record.body.resize(too_long.size(), ' ');
  const auto provider = std::make_shared<VectorProvider>(Vectors::instance());
  const auto open = [&] {
    (void)KeyRing::open(std::make_shared<test::ShownStore>(record), provider, RingPin::in_process());
  };
  CHECK(test::contains(test::message_of<RingTamperedError>(open), "64 MiB"));
  CHECK(provider->unwraps() == 0);
}

TEST_CASE("vectors that are missing, empty or unknown are an error, not a test that passes") {
  const test::ScratchDirectory scratch;
  const fs::path file = scratch.path() / "vectors.json";
  const auto fails = [&](const std::string& content) {
    std::ofstream(file) << content;
    return test::contains(test::message_of<std::runtime_error>([&] { Vectors{file}; }), "vectors");
  };
  CHECK(fails(""));
  CHECK(fails("{}"));
  CHECK(fails("[]"));
  json all;
  for (const auto& name : Vectors::list_names()) all[name] = {{{"name", "vector of " + name}}};
  std::ofstream(file) << all;
  CHECK(Vectors{file}.rules_by_name().size() == Vectors::list_names().size());
  for (const auto& name : Vectors::list_names()) {
    json one_empty = all, one_missing = all;
    one_empty[name] = json::array();
    one_missing.erase(name);
    CHECK(fails(one_empty.dump()));
    CHECK(fails(one_missing.dump()));
  }
  json one_more = all;
  one_more["new_list"] = {1};
  CHECK(fails(one_more.dump()));
  CHECK_THROWS_AS(Vectors{scratch.path() / "nowhere.json"}, std::runtime_error);
}
